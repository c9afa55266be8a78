# %% [markdown]
# # 2 · The model, piece by piece
#
# A GPT is a function: tokens in, and for each token the scores (*logits*) of what may follow it out.
#
#     tokens ──> embedding + positions ──> block ──> … ──> block ──> norm ──> head ──> logits
#                                          attention, feed-forward
#
# Each piece is one file of `src/minigpt/model`. Here we take a trained model apart, compute by hand what each piece does, and
# check that the result is the model's.

# %%
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from pictures import label_tokens, style, token_texts
from small_run import find_run, small_run

import minigpt
from minigpt import GPT, GPTConfig
from minigpt.model.attention import future_bias, share_heads
from minigpt.model.feedforward import FEEDFORWARDS
from minigpt.model.positions import POSITIONS, angles, rotate, sinusoids
from minigpt.model.sizes import activation_bytes, cache_bytes, flops_per_token, parameter_count, parameters_by_part

torch.set_grad_enabled(False)  # no gradients are needed
style()

# %% [markdown]
# ## The run
#
# Your own run, or a small one that is trained now (about half a minute). `minigpt.load` gives the model and its tokenizer.

# %%
RUN = "runs/base"  # any folder that `minigpt fit` wrote
SENTENCE = "def add(self, item):\n    self."  # a text of the kind that the run has read

run = find_run(RUN) or small_run()
loaded = minigpt.load(run)
model, config = loaded.model, loaded.config
print(config)

# %% [markdown]
# Letters for the axes, the same in all the code, beside the terms of "Attention Is All You Need" (Vaswani et al. 2017).
#
# | letter | meaning | setting | in the paper |
# |---|---|---|---|
# | B | batch: sequences side by side | `data.batch_size` | |
# | T | time: tokens in a sequence | `block_size` at most | |
# | C | channels: width of the stream | `n_embd` | d_model |
# | H | heads | `n_head` | h |
# | D | width of a head, C / H | | d_k, d_v |
# | F | width of the feed-forward layer | `n_ff` | d_ff |
# | V | vocabulary | `vocab_size` | |

# %%
tokens = torch.tensor([loaded.encode(SENTENCE)[: config.block_size]])  # (B, T)
texts = token_texts(loaded.tokenizer, tokens[0].tolist())
B, T = tokens.shape
C, H, D, F, V = config.n_embd, config.n_head, config.head_width, config.ff_width, config.vocab_size
print(f"B={B} T={T} C={C} H={H} D={D} F={F} V={V}")
print(" ".join(texts))

# %% [markdown]
# ## Embedding
#
# Every token of the vocabulary has a row of C trained numbers. Looking it up is the same as multiplying a one-hot vector with
# the matrix, without the work.

# %%
x = model.token_embedding(tokens)
one_hot = torch.nn.functional.one_hot(tokens, V).float()
print("tokens", tuple(tokens.shape), " ->  x", tuple(x.shape))
print("one-hot times matrix is the same:", torch.allclose(x, one_hot @ model.token_embedding.weight))

# %% [markdown]
# ## Positions
#
# Attention treats its inputs as a set, so positions must be added. There are five ways (`model/positions.py`):
#
# - **learned**: a trained vector for each position, added to the embedding (GPT-2). It ends at `block_size`.
# - **sinusoidal**: fixed waves, added to the embedding: $\sin(t / 10000^{2i/C})$ and $\cos(t / 10000^{2i/C})$ (Vaswani et al.
#   2017, section 3.5).
# - **rotary**: pairs of channels of each query and key are turned by the angle $t / 10000^{2i/D}$ (Su et al. 2021, section 3.4).
# - **alibi**: the score falls by a slope times the distance, each head with its own slope (Press et al. 2022, section 3).
# - **none**: the causal mask alone lets the model infer positions, with more effort (Haviv et al. 2022).

# %%
SPAN = 64  # positions in the pictures
example = GPTConfig(vocab_size=1, block_size=SPAN, n_embd=128, n_head=4, position="alibi")
stream = torch.zeros(1, SPAN, example.n_embd)
alibi = POSITIONS["alibi"](example).bias(stream, start=0)[0]  # (H, T, T), -inf in the future
waves = sinusoids(0, SPAN, 64, stream.device)  # (T, 64)
turns = angles(0, SPAN, 64, 10000.0, stream.device).cos()  # (T, 64 / 2)

fig, axes = plt.subplots(1, 3, figsize=(9.4, 3.3), width_ratios=(1.25, 1, 1.25))
shown = axes[0].imshow(waves.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
axes[0].set(title="sinusoidal: added to the embedding", xlabel="channel", ylabel="position t")
axes[1].imshow(turns.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
axes[1].set(title="rotary: cosine of the angle", xlabel="pair of channels", ylabel="position t")
fig.colorbar(shown, ax=axes[:2], location="bottom", shrink=0.5, aspect=30)
shown = axes[2].imshow(alibi[1].numpy(), cmap="viridis")
axes[2].set(title="alibi: added to scores (head 1 of 0 to 3)", xlabel="key position", ylabel="query position")
fig.colorbar(shown, ax=axes[2], location="bottom", shrink=0.7, aspect=22)
plt.show()

# %% [markdown]
# The left channels turn fast and distinguish neighbours, the right ones turn slowly and distinguish distant positions, like the
# hands of a clock. White in the right picture is the future, which no query may see.
#
# Why turn at all? Because the product of a turned query and a turned key depends on their **distance** alone:

# %%
q0, k0 = torch.randn(2, 1, 1, 1, 64, generator=torch.Generator().manual_seed(0))  # one query and one key, D = 64
for query_at, key_at in ((5, 2), (45, 42), (1005, 1002), (45, 2)):
    turned = [
        rotate(vector, torch.stack((angle.cos(), angle.sin()))[:, :, None])
        for vector, place in ((q0, query_at), (k0, key_at))
        for angle in [angles(place, 1, 64, 10000.0, vector.device)]
    ]
    print(
        f"query at {query_at:4}, key at {key_at:4}, distance {query_at - key_at:2}: {(turned[0] * turned[1]).sum():.4f}"
    )

# %% [markdown]
# This run's model has one of these. What it does to the embedding (learned and sinusoidal) happens now; what it does to queries,
# keys and scores (rotary and alibi) is carried in `signals` to every layer.

# %%
x = model.position.embed(x, start=0)
signals = model.position.signals(x, start=0)
print("position:", config.position)
print("x", tuple(x.shape))
print("signals.rotation", None if signals.rotation is None else tuple(signals.rotation.shape))
print("signals.bias    ", None if signals.bias is None else tuple(signals.bias.shape))

# %% [markdown]
# ## Attention
#
# Each token asks a question (its query $q$) and offers a label (its key $k$) and a content (its value $v$). The better the
# label fits the question, the more of the content is taken (Vaswani et al. 2017, equation 1):
#
# $$\text{attention}(q, k, v) = \text{softmax}\left(\frac{q k^\top}{\sqrt{D}} + \text{mask}\right) v$$
#
# The mask is $-\infty$ where a key lies in the future: its weight becomes 0, so the model cannot look up the answer. The scores
# are divided by $\sqrt{D}$ since a sum of D products grows like that, and a softmax of large numbers has vanishing gradients.
# `attention.project` makes $q$, $k$ and $v$ from the stream by one matrix, and cuts them into H heads. Step by step, in the
# first block:

# %%
block = model.blocks[0]
attention = block.attention
read = block.attention_norm(x) if config.norm_placement == "pre" else x  # (B, T, C)

q, k, v = attention.project(read, signals)  # (B, H, T, D), and twice (B, Hkv, T, D)
k, v = share_heads(k, H), share_heads(v, H)  # with n_kv_head < n_head several queries share a key: now (B, H, T, D)
scores = q @ k.transpose(-2, -1) / math.sqrt(D)  # (B, H, T, D) @ (B, H, D, T) -> (B, H, T, T)
mask = future_bias(T, T, q) if signals.bias is None else signals.bias  # (T, T), or alibi's (1, H, T, T)
weights = (scores + mask).softmax(dim=-1)  # (B, H, T, T), every row sums to 1
gathered = weights @ v  # (B, H, T, T) @ (B, H, T, D) -> (B, H, T, D)
side_by_side = gathered.transpose(1, 2).reshape(B, T, C)  # the heads next to each other again
by_hand = attention.output(side_by_side)  # (B, T, C)

for name in ("read", "q", "k", "v", "scores", "weights", "gathered", "side_by_side", "by_hand"):
    print(f"{name:13}{tuple(globals()[name].shape)}")
print(f"largest difference to the model's own: {(by_hand - attention(read, signals)).abs().max():.1e}")

# %% [markdown]
# In pictures, for the head of this block whose weights have the lowest entropy:

# %%
spread = -(weights[0] * weights[0].clamp(min=1e-9).log()).sum(-1).mean(-1)  # (H,) mean entropy of a row
head = int(spread.argmin())
seen = mask.expand(B, H, T, T)[0, head]
shown_weights = weights[0, head].masked_fill(seen == -math.inf, math.nan)  # the future stays white

fig, (axes, scales) = plt.subplots(2, 3, figsize=(10, 4.5), height_ratios=(1, 0.04))
limit = scores[0, head].abs().max()
alike = {"cmap": "Blues", "vmin": -1, "vmax": 1}  # 0 where nothing is hidden
sloped = {"cmap": "viridis", "vmax": 0}
panels = (
    (f"scores of head {head}: q kᵀ / √D", scores[0, head], {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}),
    ("mask: −∞ in the future (white)", seen, alike if signals.bias is None else sloped),
    ("weights: softmax(scores + mask)", shown_weights, {"cmap": "magma_r", "vmin": 0, "vmax": 1}),
)
for ax, scale, (title, values, colours) in zip(axes, scales, panels, strict=True):
    shown = ax.imshow(values.numpy(), **colours)
    ax.set_title(title)
    label_tokens(ax, texts)
    fig.colorbar(shown, cax=scale, orientation="horizontal")
for ax in axes[1:]:
    ax.set(ylabel="", yticklabels=[])
scales[1].set_visible(signals.bias is not None)  # a mask without slopes is 0 wherever it is not −∞
plt.show()

# %% [markdown]
# `attention: explicit` computes just this. `attention: fused`, the default, gives it to torch's
# `scaled_dot_product_attention`, which never holds all weights at once. The numbers are the same up to rounding:

# %%
kernels = {}
for name in ("explicit", "fused"):
    other = GPT(replace(config, attention=name)).eval()
    other.load_state_dict(model.state_dict())
    kernels[name] = other(tokens)
print(f"largest difference of the logits: {(kernels['explicit'] - kernels['fused']).abs().max():.1e}")

# %% [markdown]
# ## Feed-forward
#
# Attention moves content between tokens; the feed-forward layer works on each token by itself (Vaswani et al. 2017, section 3.3):
#
# $$\text{feedforward}(x) = W_\text{down} \, f(W_\text{up} \, x)$$
#
# Without $f$ the two matrices would be one. The kinds differ in $f$; `swiglu` and `geglu` (Shazeer 2020) have a third matrix, a
# gate: $W_\text{down} (f(W_\text{gate} x) \cdot W_\text{up} x)$, where $f$ is silu or gelu.

# %%
points = torch.linspace(-3.5, 2.5, 200)
fig, ax = plt.subplots(figsize=(6.2, 3))
for name, line in (("relu", "-"), ("gelu", "-"), ("relu2", "--"), ("swiglu", ":")):
    label = "silu (the gate of swiglu)" if name == "swiglu" else name
    ax.plot(points, FEEDFORWARDS[name][1](points), line, lw=2, label=label)
ax.set(ylim=(-0.5, 2.6), xlabel="input", ylabel="output", title="The activations")
ax.axhline(0, color="grey", lw=0.6)
ax.legend(loc="upper left")
plt.show()

# %%
inner = block.feedforward.up(read)
print("activation:", config.activation)
print(f"x {tuple(read.shape)} -> up {tuple(inner.shape)} -> down {tuple(block.feedforward(read).shape)}")

# %% [markdown]
# ## The block
#
# A block **adds** the output of its two sublayers to the stream it read from, so that a clear path leads from the first layer
# to the last (He et al. 2016). The norm stands before each part in GPT-2 (`pre`), and behind each sum in the 2017 paper (`post`):
#
#     pre    x = x + attention(norm(x))        post    x = norm(x + attention(x))
#            x = x + feedforward(norm(x))              x = norm(x + feedforward(x))

# %%
if config.norm_placement == "pre":
    middle = x + block.attention(block.attention_norm(x), signals)
    after = middle + block.feedforward(block.feedforward_norm(middle))
else:
    middle = block.attention_norm(x + block.attention(x, signals))
    after = block.feedforward_norm(middle + block.feedforward(middle))
print(f"block: {tuple(x.shape)} -> {tuple(after.shape)}")
print(f"largest difference to the model's own: {(after - block(x, signals)).abs().max():.1e}")

# %% [markdown]
# ## The whole model
#
# One block after the other, a last norm, and the head: one score for each token of the vocabulary. With `tie_embeddings` the
# head is the embedding's matrix once more (Press and Wolf 2017): the score is how well the stream matches a token's row.

# %%
stream = x
for layer, each in enumerate(model.blocks):
    stream = each(stream, signals)
    print(f"after block {layer}: {tuple(stream.shape)}, typical size of a number {stream.square().mean().sqrt():.2f}")
logits = model.head(model.final_norm(stream))
print(
    f"logits {tuple(logits.shape)}; largest difference to the model's own: {(logits - model(tokens)).abs().max():.1e}\n"
)

chances = logits[0].softmax(-1)  # (T, V)
for t in (T // 4, T // 2, T - 1):
    best = chances[t].topk(3)
    guesses = ", ".join(
        f"{text} {p:.0%}"
        for text, p in zip(token_texts(loaded.tokenizer, best.indices.tolist()), best.values, strict=True)
    )
    print(f"after …{''.join(texts[max(0, t - 3) : t + 1]):24} the model expects {guesses}")

# %% [markdown]
# The loss is the mean of $-\ln p$ of the token that really follows. A model that knows nothing gives each of V tokens the same
# chance, so a new model must begin near $\ln V$: the first thing to check in any training.

# %%
torch.manual_seed(0)
fresh = GPT(config).eval()
inputs, targets = tokens[:, :-1], tokens[:, 1:]
print(f"ln V             {math.log(V):.3f}")
print(f"a new model      {fresh.loss(inputs, targets):.3f}")
print(f"the trained one  {model.loss(inputs, targets):.3f}")

# %% [markdown]
# ## Counting
#
# How many numbers are trained? `model/sizes.py` says it in closed form, without building anything:
#
# | part | parameters (biases left out) |
# |---|---|
# | token embedding | $V C$ |
# | learned positions | $T C$ |
# | attention | $L \, (C (C + 2 H_{kv} D) + C^2)$, which is $4 L C^2$ when every head has its own key |
# | feed-forward | $2 L C F$, and $3 L C F$ with a gate |
# | norms | $(2 L + 1) \, C$ |
# | head | $V C$, or nothing when tied |
#
# Beside it, the model counted by hand:


# %%
def part_of(name: str) -> str:
    """The part that a parameter belongs to, by its name."""
    for part in ("attention", "feedforward"):
        if f".{part}." in name:
            return part
    return "norms" if "norm" in name else name.partition(".")[0]


counted = dict.fromkeys(parameters_by_part(config), 0)
for name, parameter in model.named_parameters():
    counted[part_of(name)] += parameter.numel()

print(f"{'part':16}{'closed form':>12}{'counted':>12}")
for part, number in parameters_by_part(config).items():
    print(f"{part:16}{number:12,}{counted[part]:12,}")
print(f"{'together':16}{parameter_count(config):12,}{sum(counted.values()):12,}")
assert counted == parameters_by_part(config)

# %% [markdown]
# The closed form needs no model, so it also covers models that would not fit here. The vocabulary's share falls as a model
# grows (GPT-2 against its XL); what is left are the blocks, two thirds of them feed-forward.

# %%
models = {
    f"this run ({run.name})": config,
    "configs/shakespeare.yaml": GPTConfig(vocab_size=65, block_size=256, n_layer=6, n_head=6, n_embd=384, bias=False),
    "GPT-2": GPTConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768),
    "GPT-2 XL": GPTConfig(vocab_size=50257, block_size=1024, n_layer=48, n_head=25, n_embd=1600),
}
colours = {
    "token_embedding": "#d1782f",
    "position": "#edb36f",
    "attention": "#4878a8",
    "feedforward": "#86a9cc",
    "norms": "#888888",
    "head": "#c4453c",
}
fig, ax = plt.subplots(figsize=(9, 2.7))
names = [f"{name}\n{parameter_count(each):,}" for name, each in models.items()]
left = np.zeros(len(models))
for part, colour in colours.items():
    shares = np.array([parameters_by_part(each)[part] / parameter_count(each) for each in models.values()])
    if shares.any():
        ax.barh(names, shares, left=left, color=colour, label=part.replace("_", " "))
    left += shares
ax.invert_yaxis()
ax.xaxis.set_major_formatter("{x:.0%}")
ax.set(xlim=(0, 1), title="Where the parameters are")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## Change one thing
#
# A variant is one setting: `minigpt fit --config configs/base.yaml --model.position rotary` trains it. What does each cost? All
# start from the sizes of this run with every other setting at its default, and change one thing. FLOPs are for training on one
# token; *cache* is what sampling keeps of a full window; *activations* are what a batch of 32 windows leaves for the backward
# pass; the last column is the loss of the new, untrained model, which should be near $\ln V$ for all of them.

# %%
plain = GPTConfig(vocab_size=V, block_size=config.block_size, n_layer=config.n_layer, n_head=H, n_embd=C)
changes = [
    {},
    {"position": "rotary"},
    {"position": "alibi"},
    {"norm": "rmsnorm"},
    {"norm_placement": "post"},
    {"activation": "swiglu"},
    {"n_kv_head": 1},
    {"qk_norm": True},
    {"bias": False},
    {"tie_embeddings": False},
    {"n_layer": 0},
]
batch = torch.randint(V, (4, config.block_size + 1), generator=torch.Generator().manual_seed(0))

print(f"{'change':24}{'parameters':>12}{'MFLOP/token':>13}{'cache kB':>10}{'activations MB':>16}{'first loss':>12}")
for change in changes:
    variant = replace(plain, **change)
    torch.manual_seed(0)
    loss = GPT(variant).eval().loss(batch[:, :-1], batch[:, 1:])
    words = ", ".join(f"{name}={value}" for name, value in change.items()) or "(the defaults)"
    print(
        f"{words:24}{parameter_count(variant):12,}{flops_per_token(variant) / 1e6:13.2f}"
        f"{cache_bytes(variant, 1, variant.block_size) / 1e3:10.1f}{activation_bytes(variant, 32) / 1e6:16.1f}{loss:12.3f}"
    )

# %% [markdown]
# Which one learns best is another question, and needs runs: [3 · The curves of a run](3_curves_of_a_run.ipynb).
