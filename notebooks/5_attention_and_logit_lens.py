# %% [markdown]
# # 5 · Attention and the logit lens
#
# What happens between the tokens and the prediction? `interpret.trace(model, tokens)` runs the model and gives every activation by its
# name, the very numbers that the forward pass computed. And it takes *edits*: a head switched off, an activation patched in from
# another text. A map says what a head reads; only an edit says what it is for.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from pictures import label_tokens, style, token_texts
from small_run import find_run, small_run

import minigpt
from minigpt import interpret
from minigpt.interpret.edits import patch, zero_heads
from minigpt.interpret.tracing import LAYER_KINDS
from minigpt.interpret.views import logit_lens

torch.set_grad_enabled(False)  # no gradients are needed
style()

# %% [markdown]
# ## The checkpoint
#
# Your own run, or a small one that is trained now. The sentence should be of the kind of text that the run has read.

# %%
RUN = "runs/base"  # any folder that `minigpt fit` wrote, or a .ckpt file in one
SENTENCE = "def get(self, name):\n    if name in self.values:\n        return self.values[name]\n    return None\n"

run = find_run(RUN) or small_run()
loaded = minigpt.load(run)
model, config = loaded.model, loaded.config
L, H = config.n_layer, config.n_head
tokens = torch.tensor([loaded.encode(SENTENCE)[: config.block_size]])  # (1, T)
T = tokens.shape[1]
texts = token_texts(loaded.tokenizer, tokens[0].tolist())
print(f"{L} layers of {H} heads, {config.n_embd} wide; {T} tokens")

# %% [markdown]
# ## How likely was each token?
#
# Green is what the model expected (half or more), then yellow, orange, red (less than one in a hundred). The first token is grey:
# nothing comes before it. In a notebook, hover over a token for its probability and the model's alternatives.
# In a terminal `minigpt generate RUN --show_probabilities` colours what it writes.

# %%
scored = loaded.score(loaded.decode(tokens[0].tolist()))
scored

# %% [markdown]
# ## A trace
#
# One pass, every activation. The logits are those of `model(tokens)` to the last bit.

# %%
trace = interpret.trace(model, tokens)
assert torch.equal(trace.logits, model(tokens))
for name in ("stream.0", *(f"{kind}.0" for kind in LAYER_KINDS), "final", "logits"):
    meaning = LAYER_KINDS.get(name.partition(".")[0], "")
    print(f"{name:14} {tuple(trace[name].shape)!s:20} {meaning}")

# %% [markdown]
# The **residual stream** is what the layers read and add to. How long is it, and how much does each layer add?

# %%
# In a pre-norm model stream.(N+1) = stream.N + attention.N + feedforward.N.
length = (
    trace.stack("stream").norm(dim=-1)[:, 0, 1:].mean(-1)
)  # (L + 1,), without the first token, which is unlike the rest
added = {kind: trace.stack(kind).norm(dim=-1)[:, 0, 1:].mean(-1) for kind in ("attention", "feedforward")}
fig, ax = plt.subplots(figsize=(6.4, 3))
ax.plot(range(L + 1), length.numpy(), "o-", color="#1f4e79", label="the stream that layer N reads")
for offset, (kind, colour) in zip((-0.15, 0.15), (("attention", "#6d9cc6"), ("feedforward", "#d9a441")), strict=True):
    ax.bar(
        np.arange(L) + 0.5 + offset, added[kind].numpy(), width=0.28, color=colour, label=f"what its {kind} layer gives"
    )
ax.set_xticks(range(L + 1), [f"stream.{layer}" for layer in range(L + 1)])
ax.set(ylabel="mean length (norm)", title="The residual stream, layer by layer")
ax.legend()
plt.show()

# %% [markdown]
# ## Attention maps
#
# Layers and heads are counted from 0, as in the names of the trace and of the weights. The head shown large is the one whose
# absence costs most, which the next section measures.

# %%
maps = trace.stack("pattern")[:, 0]  # (L, H, T, T)
future = torch.ones(T, T, dtype=torch.bool).triu(1)
visible = maps.masked_fill(future, math.nan).numpy()
fig, axes = plt.subplots(L, H, figsize=(1.15 * H + 1, 1.2 * L + 0.6), squeeze=False)
for layer in range(L):
    for head in range(H):
        ax = axes[layer, head]
        shown = ax.imshow(visible[layer, head], cmap="magma_r", vmin=0, vmax=1)
        ax.axis("off")
        ax.set_title(f"{layer}.{head}", fontsize=8)
fig.colorbar(shown, ax=axes, shrink=min(1.0, 2 / L), label="weight")
fig.suptitle("Attention of every head, layer.head: down the tokens that read, across those that are read")
plt.show()

# %% [markdown]
# ## Which head matters?
#
# Switch off one head after the other: `edits={"heads.LAYER": zero_heads(HEAD)}` makes what it gathered nothing. How much does the
# loss of the sentence rise?


# %%
def losses(logits):
    """What each token after the first cost, in nats: (T - 1,)."""
    return -logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]


base = losses(trace.logits)
cost = torch.zeros(L, H)
for layer in range(L):
    for head in range(H):
        edited = interpret.trace(model, tokens, edits={f"heads.{layer}": zero_heads(head)}, keep=["logits"])
        cost[layer, head] = (losses(edited.logits) - base).mean()
without_all = losses(interpret.trace(model, tokens, edits={"heads": zero_heads(*range(H))}).logits).mean()
print(f"loss of the sentence: {base.mean():.3f} nats per token; without any head {without_all:.3f}")

most = max(float(cost.abs().max()), 1e-6)
fig, ax = plt.subplots(figsize=(0.75 * H + 2.2, 0.55 * L + 1.4))
shown = ax.imshow(cost.numpy(), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
for layer in range(L):
    for head in range(H):
        dark = abs(float(cost[layer, head])) > 0.6 * most
        ax.text(head, layer, f"{cost[layer, head]:+.2f}", ha="center", va="center", color="white" if dark else "black")
ax.set_xticks(range(H))
ax.set_yticks(range(L))
ax.set(xlabel="head", ylabel="layer", title="Rise of the loss without one head (nats per token)")
fig.colorbar(shown, ax=ax)
plt.show()

# %% [markdown]
# The head whose absence costs most: what it attends to, and the tokens that become surprising without it.

# %%
layer, head = divmod(int(cost.argmax()), H)
fig, ax = plt.subplots(figsize=(7.2, 6.2))
shown = ax.imshow(visible[layer, head], cmap="magma_r", vmin=0)
label_tokens(ax, texts)
fig.colorbar(shown, ax=ax, label="weight", shrink=0.7)
ax.set_title(f"Layer {layer}, head {head}")
plt.show()

rise = losses(interpret.trace(model, tokens, edits={f"heads.{layer}": zero_heads(head)}).logits) - base
for t in sorted(rise.topk(min(5, T - 1)).indices.tolist()):
    before = "".join(texts[max(0, t - 4) : t + 1])
    print(f"…{before[-20:]:20} {texts[t + 1]:10} costs {rise[t]:+.2f} nats ({base[t]:.2f} with the head)")

# %% [markdown]
# One text is an anecdote: before you believe in a head, take the mean over many windows (`minigpt.interpret.tracing.edited` lets edits
# hold for a whole `evaluate`).
#
# ## The logit lens
#
# Every layer reads and writes the same stream, so the model's own output layer can read it anywhere (nostalgebraist 2020): what
# would the model say if it stopped here? The colour is the probability of the token that came, the letters are the guess.

# %%
seen = logit_lens(model, trace)[:, 0, :, : loaded.tokenizer.vocab_size].softmax(-1)  # (L + 1, T, V)
LOOK_AT = min(14, T - 1)  # tokens: more would be too small to read
first = T - 1 - LOOK_AT
came = tokens[0, 1:]
chance = seen[:, :-1].gather(2, came.expand(L + 1, -1)[..., None])[..., 0]  # (L + 1, T - 1)
guess = seen[:, :-1].argmax(-1)

fig, ax = plt.subplots(figsize=(0.72 * LOOK_AT + 1.6, 0.42 * (L + 1) + 1.5))
shown = ax.imshow(chance[:, first:].numpy(), cmap="Greens", vmin=0, vmax=1, aspect="auto")
for row in range(L + 1):
    for column, text in enumerate(token_texts(loaded.tokenizer, guess[row, first:].tolist())):
        ink = "white" if chance[row, first + column] > 0.6 else "black"
        ax.text(column, row, text[:7], ha="center", va="center", fontsize=7.5, family="monospace", color=ink)
ax.set_yticks(range(L + 1), [f"stream.{layer}" for layer in range(L)] + ["output"])
ax.set_xticks(range(LOOK_AT), texts[first + 1 :], family="monospace", rotation=45, ha="right", fontsize=8)
ax.invert_yaxis()  # the output on top
ax.set(xlabel="the token that came", title="Guess after each layer, and the probability of what came")
fig.colorbar(shown, ax=ax, label="probability")
plt.show()

# %%
by_layer = -chance.log2().mean(-1)  # (L + 1,) bits
for layer, bits in enumerate(by_layer.tolist()):
    print(f"{'output' if layer == L else f'stream.{layer}':10} {bits:6.2f} bits per token")

# %% [markdown]
# ## Patching: where does it know it from?
#
# Two texts that differ in one token near their beginning. We put the stream of the *first* text into the run on the *second*, at
# one layer and one position at a time, and see how much of the difference in the last prediction comes back: 1 is all of it
# (activation patching; "causal tracing" in Meng et al. 2022).

# %%
other = tokens.clone()
spot = min(3, T - 2)
other[0, spot] = tokens[0, min(spot + 3, T - 1)]
end = min(spot + 10, T)  # the prediction after this many tokens
clean, corrupted = interpret.trace(model, tokens[:, :end]), interpret.trace(model, other[:, :end], keep=["logits"])
gap = (clean.logits - corrupted.logits)[0, -1]
back = torch.zeros(L + 1, end)
for layer in range(L + 1):
    for position in range(end):
        edits = {f"stream.{layer}": patch(clean[f"stream.{layer}"], [position])}
        patched = interpret.trace(model, other[:, :end], edits=edits, keep=["logits"]).logits[0, -1]
        # The share of the way from the corrupted logits to the clean ones.
        back[layer, position] = (patched - corrupted.logits[0, -1]) @ gap / (gap @ gap).clamp(min=1e-12)

fig, ax = plt.subplots(figsize=(0.55 * end + 2, 0.4 * (L + 1) + 1.6))
shown = ax.imshow(back.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
ax.set_xticks(range(end), texts[:end], family="monospace", rotation=45, ha="right", fontsize=8)
ax.set_yticks(range(L + 1), [f"stream.{layer}" for layer in range(L + 1)])
ax.invert_yaxis()
changed = token_texts(loaded.tokenizer, [int(other[0, spot])])[0]
ax.set(xlabel="position that is patched", title=f"Difference won back, {texts[spot]} having been replaced by {changed}")
fig.colorbar(shown, ax=ax, label="share")
plt.show()

# %% [markdown]
# At the bottom all of it is at the token that was changed, at the top all of it is at the last token, which makes the prediction.
# Between the two the heads have moved it: the layer where the colour changes columns is where it was read.
#
# Next: [6 · An ablation, from sweep to verdict](6_an_ablation.ipynb).
