# %% [markdown]
# # 4 · Reload a checkpoint
#
# A checkpoint is self-contained: the weights, the model's settings, the tokenizer, and where all of it comes from.
# `minigpt.load` gives it back ready to use, without Lightning. Here we let it write, look at what it expects, word by word, and
# at what each of its heads attends to.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from pictures import label_tokens, style, token_picture, token_texts
from small_run import find_run, small_run

import minigpt
from minigpt.generate.sampling import apply_temperature
from minigpt.interpret.views import attention_maps
from minigpt.model.sizes import parameter_count

torch.set_grad_enabled(False)  # no gradients are needed
style()

# %% [markdown]
# ## The checkpoint
#
# Your own run, or a small one that is trained now (about half a minute; do not expect much of its prose). Prompt and sentence
# should be of the kind of text that the run has read.

# %%
RUN = "runs/base"  # any folder that `minigpt fit` wrote, or a .ckpt file in one
PROMPT = "def "
SENTENCE = "def get(self, name):\n    if name in self.values:\n        return self.values[name]\n    return None\n"

run = find_run(RUN) or small_run()
loaded = minigpt.load(run)
model, config, checkpoint = loaded.model, loaded.config, loaded.checkpoint

print("file       ", checkpoint.path.relative_to(run))
print("step       ", checkpoint.step)
print(f"val loss    {checkpoint.val_loss:.4f} nats per token")
print(
    f"model       {parameter_count(config):,} parameters: {config.n_layer} layers, {config.n_head} heads, {config.n_embd} wide"
)
print(f"tokenizer   {loaded.tokenizer.kind}, {loaded.tokenizer.vocab_size:,} tokens")
print("versions   ", ", ".join(f"{name} {version}" for name, version in checkpoint.provenance["versions"].items()))

# %% [markdown]
# ## Sampling
#
# The model gives logits $z$ for the next token; sampling draws one from
#
# $$p_i = \frac{e^{z_i / \tau}}{\sum_j e^{z_j / \tau}}$$
#
# adds it to the text and repeats. The **temperature** $\tau$ makes the choice more random (above 1) or less (below).
# `greedy` always takes the likeliest token, and soon repeats itself.

# %%
for name, options in (
    ("greedy", {"greedy": True}),
    ("temperature 0.5", {"temperature": 0.5}),
    ("temperature 0.8, top_p 0.95", {"temperature": 0.8, "top_p": 0.95}),
    ("temperature 1.5", {"temperature": 1.5}),
):
    text = loaded.generate(PROMPT, max_new_tokens=70, seed=1, **options)
    print(f"── {name} " + "─" * 50)
    print(text)

# %% [markdown]
# What the temperature does to one choice: the ten likeliest tokens after the prompt.

# %%
last = model(torch.tensor([loaded.encode(PROMPT)]))[0, -1, : loaded.tokenizer.vocab_size]  # (V,)
likeliest = last.topk(10).indices
labels = token_texts(loaded.tokenizer, likeliest.tolist())

fig, ax = plt.subplots(figsize=(7.5, 3))
places = np.arange(len(likeliest))
for offset, (temperature, colour) in enumerate(((0.5, "#1f4e79"), (1.0, "#6d9cc6"), (2.0, "#d9a441"))):
    chances = apply_temperature(last, temperature).softmax(-1)[likeliest].numpy()
    ax.bar(places + (offset - 1) * 0.27, chances, width=0.27, color=colour, label=f"temperature {temperature:g}")
ax.set_xticks(places, labels, family="monospace")
ax.yaxis.set_major_formatter("{x:.0%}")
ax.set(xlabel="next token", ylabel="probability", title=f"After {PROMPT!r}")
ax.legend()
plt.show()

# %% [markdown]
# ## How surprised is it?
#
# The model reads a text, and at each token we ask which probability it had given it. $-\log_2 p$ is the **surprise** in bits:
# 0 for what was certain, 1 for a coin flip, 10 for one chance in a thousand. The mean of all surprises is the loss (in bits
# instead of nats). The first token has nothing before it, and is left grey.

# %%
tokens = torch.tensor([loaded.encode(SENTENCE)[: config.block_size]])  # (1, T)
texts = token_texts(loaded.tokenizer, tokens[0].tolist())
log_p = model(tokens)[0, :-1].log_softmax(-1)  # (T - 1, V): each token's view of the next
surprise = -log_p.gather(1, tokens[0, 1:, None])[:, 0] / math.log(2)  # (T - 1,) bits

MOST = 10  # bits, the end of the colours
colours = plt.get_cmap("YlOrRd")
shades = ["#dddddd", *(colours(0.85 * min(bits / MOST, 1.0)) for bits in surprise.tolist())]
scale = ListedColormap(colours(np.linspace(0, 0.85, 256)))
token_picture(
    {"How surprised the model is by each token": (texts, shades)},
    columns=60,
    scale=ScalarMappable(Normalize(0, MOST), scale),
    scale_label="surprise in bits",
)
plt.show()
n_bytes = len(loaded.tokenizer.decode_bytes(tokens[0, 1:].tolist()))
print(f"mean surprise: {surprise.mean():.2f} bits per token, {surprise.sum() / n_bytes:.2f} bits per byte")

# %% [markdown]
# Beginnings of names and lines surprise; their ends, brackets and indentation are easy. What had it expected at the tokens that
# surprised it most?

# %%
for t in sorted(surprise.topk(5).indices.tolist()):
    best = log_p[t].exp().topk(3)
    guesses = ", ".join(
        f"{text} {p:.0%}"
        for text, p in zip(token_texts(loaded.tokenizer, best.indices.tolist()), best.values, strict=True)
    )
    before = "".join(texts[max(0, t - 4) : t + 1])
    print(f"…{before[-18:]:18}  came {texts[t + 1]:8} ({surprise[t]:4.1f} bits)   expected {guesses}")

# %% [markdown]
# ## What the heads read
#
# `attention_maps` gives the weights of every head of every layer, both counted from 0: `(L, B, H, T, T)`. Row $t$ of a map is what token
# $t$ takes from each token up to itself; it sums to 1.

# %%
LOOK_AT = 32  # tokens: more would be too small to see
seen = tokens[:, :LOOK_AT]
maps = attention_maps(model, seen)[:, 0]  # (L, H, T, T)
L, H, T, _ = maps.shape
print("maps", tuple(maps.shape))
print(
    f"every row sums to 1: {torch.allclose(maps.sum(-1), torch.ones(L, H, T))}; nothing from the future: {maps.triu(1).max():.0f}"
)

# %%
columns = min(H, 8)
rows_per_layer = math.ceil(H / columns)
fig, axes = plt.subplots(
    L * rows_per_layer, columns, figsize=(1.35 * columns + 1, 1.5 * L * rows_per_layer + 0.5), squeeze=False
)
for ax in axes.flat:
    ax.axis("off")
future = torch.ones(T, T, dtype=torch.bool).triu(1)
visible = maps.masked_fill(future, math.nan).numpy()  # the future stays white
for layer in range(L):
    for head in range(H):
        ax = axes[layer * rows_per_layer + head // columns, head % columns]
        shown = ax.imshow(visible[layer, head], cmap="magma_r", vmin=0, vmax=1)
        ax.set_title(f"layer {layer}, head {head}", fontsize=8)
fig.colorbar(shown, ax=axes, shrink=min(1.0, 3 / len(axes)), label="weight")
fig.suptitle("Attention of every head: down the tokens that read, across those that are read")
plt.show()

# %% [markdown]
# Three habits can be seen at a glance and measured: reading **itself** (the diagonal), the **token before** (the line below it)
# and the **first** token (the left column: where a head goes that found nothing to read; Xiao et al. 2024). A head that takes
# the same from all tokens has little of each.

# %%
rows = torch.arange(2, T)  # from the third token on the three are different tokens
habits = {
    "itself": maps[:, :, rows, rows].mean(-1),  # (L, H)
    "the token before": maps[:, :, rows, rows - 1].mean(-1),
    "the first token": maps[:, :, rows, 0].mean(-1),
}
fig, axes = plt.subplots(1, 3, figsize=(9.2, 0.55 * L + 1.5), sharey=True)
for ax, (name, share) in zip(axes, habits.items(), strict=True):
    ax.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for layer in range(L):
        for head in range(H):
            ink = "white" if share[layer, head] > 0.55 else "black"
            ax.text(head, layer, f"{share[layer, head]:.0%}", ha="center", va="center", fontsize=8, color=ink)
    ax.set_xticks(range(H))
    ax.set_yticks(range(L))
    ax.set(title=f"reads {name}", xlabel="head")
axes[0].set_ylabel("layer")
plt.show()

# %% [markdown]
# And one head close by: the one that reads the token before it most.

# %%
habit = "the token before"
layer, head = divmod(int(habits[habit].argmax()), H)
fig, ax = plt.subplots(figsize=(7.2, 6.2))
shown = ax.imshow(visible[layer, head], cmap="magma_r", vmin=0)
label_tokens(ax, texts[:LOOK_AT])
fig.colorbar(shown, ax=ax, label="weight", shrink=0.7)
ax.set_title(f"Layer {layer}, head {head}: {habits[habit][layer, head]:.0%} of its attention goes to {habit}")
plt.show()

# %% [markdown]
# A map says what a head reads, not what the model makes of it: what is taken is its *value*, and later layers read the sum of
# all heads (Jain and Wallace 2019). To learn what a head is for, switch it off and see which tokens become a surprise.
