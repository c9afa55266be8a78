# %% [markdown]
# # 8 · What Muon does
#
# `optim.name: muon` updates the matrices inside the blocks by Muon (Jordan 2024) and all else by AdamW. Both begin with the same
# gradient. A gradient is a matrix of a few strong directions and many weak ones; Muon keeps the directions and makes them all
# about equally long. Here is what that looks like in a run of yours, and what it is worth in a small one.

# %%
import csv

import matplotlib.pyplot as plt
import numpy as np
import torch
from pictures import style
from small_run import find_run, small_run

import minigpt
from minigpt.data.batches import TrainBatches, TrainOrder, Windows
from minigpt.data.prepare import prepare_cached
from minigpt.optim.muon import ITERATIONS, orthogonalise
from minigpt.training.config import DataConfig

style()

# %% [markdown]
# ## A gradient
#
# Your own checkpoint, or that of a small run that is trained now, and a few batches of the text that it was trained on.

# %%
RUN = "runs/base"  # any folder that `minigpt fit` wrote
BATCHES = 8

run = find_run(RUN) or small_run()
loaded = minigpt.load(run)
model, config = loaded.model, loaded.config
data = DataConfig(**loaded.checkpoint.data)
prepared = prepare_cached(data.prepare_options(), tokenizer=loaded.tokenizer)
batches = TrainBatches(TrainOrder(Windows(prepared.train.shards, config.block_size), seed=0), batch_size=16)
for number in range(BATCHES):
    (model.loss(*batches[number]) / BATCHES).backward()
matrices = {
    name.removeprefix("blocks.").removesuffix(".weight"): weight.grad
    for name, weight in model.named_parameters()
    if name.startswith("blocks.") and weight.dim() == 2
}
name = f"{config.n_layer - 1}.feedforward.down"
gradient = matrices[name]
print(f"{len(matrices)} matrices; the gradient of {name} is {tuple(gradient.shape)}")

# %% [markdown]
# ## Its singular values
#
# Any matrix is $U S V^\top$: directions that are read, directions that are written, and how strongly, the **singular values**.
# Muon's update is near $U V^\top$: the same directions, each of length about 1. Adam's, early in a run, is near the *sign* of each
# entry, which knows nothing of directions.

# %%
updates = {
    "gradient": gradient,
    "its signs, as Adam's first step": gradient.sign(),
    "orthogonalised, as Muon's": orthogonalise(gradient[None])[0],
}
COLOURS = dict(zip(updates, ("#888888", "#d1782f", "#4878a8"), strict=True))
fig, ax = plt.subplots(figsize=(6.6, 3.4))
for what, update in updates.items():
    values = torch.linalg.svdvals(update)
    ax.plot(np.arange(1, len(values) + 1), (values / values[0]).numpy(), color=COLOURS[what], label=what)
ax.set_yscale("log")
ax.set_ylim(1e-3, 1.5)
ax.set(xlabel="direction, the strongest first", ylabel="singular value, the first being 1", title=f"Update of {name}")
ax.legend()
plt.show()

# %% [markdown]
# ## How it is done
#
# No singular value is ever computed. A polynomial of the matrix, $X \leftarrow a X + b\,(XX^\top)X + c\,(XX^\top)^2X$, does to each
# singular value what $ax + bx^3 + cx^5$ does to a number, and leaves $U$ and $V$ alone (a Newton-Schulz iteration). Its
# coefficients are chosen to be steep at 0, so that weak directions rise fast; five rounds bring all but the weakest near 1.

# %%
x = torch.logspace(-4, 0, 400, dtype=torch.float64)
fig, ax = plt.subplots(figsize=(6.6, 3.4))
for rounds in range(1, ITERATIONS + 1):
    # A diagonal matrix beside one large entry that fixes its norm at 1: what becomes of each entry is the polynomial.
    y = torch.stack([orthogonalise(torch.diag(torch.stack([v, (1 - v**2).sqrt()]))[None], rounds)[0, 0, 0] for v in x])
    ax.plot(x.numpy(), y.numpy(), color=plt.get_cmap("Blues")(0.3 + 0.7 * rounds / ITERATIONS), label=f"{rounds}")
ax.axhspan(0.7, 1.2, color="#eeeeee", zorder=0)
ax.set_xscale("log")
ax.set(xlabel="singular value before", ylabel="after", title="Rounds of the iteration; grey: 0.7 to 1.2")
ax.legend(title="rounds", ncols=ITERATIONS, loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## All matrices
#
# (With layernorm the last direction has no gradient: the norm that reads the stream subtracts its mean, so its singular value
# is 0 before and after.) In how many directions does an update move? The **effective rank** (Roy and Vetterli 2007) is the exponential of the entropy of the
# singular values: as many directions as there are if all are equal, 1 if there is only one. (The queries', keys' and values' rows of `qkv` are
# made orthogonal each by itself in a run; here they are looked at together.)


# %%
def effective_rank(matrix):
    """exp of the entropy of the singular values, taken as shares of their sum."""
    share = torch.linalg.svdvals(matrix)
    share = share / share.sum()
    return float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum()))


ways = {
    "gradient": lambda g: g,
    "its signs, as Adam's first step": torch.sign,
    "orthogonalised, as Muon's": lambda g: orthogonalise(g[None])[0],
}
ranks = {what: [effective_rank(way(g)) / min(g.shape) for g in matrices.values()] for what, way in ways.items()}
fig, ax = plt.subplots(figsize=(7.2, 0.24 * len(matrices) + 1.4))
places = np.arange(len(matrices))
for what, values in ranks.items():
    ax.plot(values, places, "o", color=COLOURS[what], label=what)
ax.set_yticks(places, list(matrices), family="monospace", fontsize=8)
ax.invert_yaxis()
ax.set_xlim(0, 1.02)
ax.xaxis.set_major_formatter("{x:.0%}")
ax.set(xlabel="effective rank, of all that there are", title="In how many directions an update moves")
ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.18 if len(matrices) > 10 else -0.3), ncols=3, fontsize=8)
plt.show()
for what, values in ranks.items():
    print(f"{what:32} {np.mean(values):4.0%} of the directions on average")

# %% [markdown]
# ## What it is worth
#
# The same small model, the same batches, once with each. (Muon multiplies more for each step: on your machine `minigpt bench`
# measures how much. Compare at equal time if time is what you pay.)

# %%
runs = {
    "adamw": small_run("adamw"),
    "muon": small_run("muon", "--optim.name=muon"),
}


def curve(folder, column):
    """Steps and values of a column of metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        points = [(int(row["step"]), float(row[column])) for row in csv.DictReader(file) if row.get(column)]
    return np.array(points).T


fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.3))
for (optimizer, folder), colour in zip(runs.items(), ("#d1782f", "#4878a8"), strict=True):
    steps, losses = curve(folder, "val/loss")
    axes[0].plot(steps, losses, "o-", ms=3, color=colour, label=optimizer)
    steps, norms = curve(folder, "train/grad_norm")
    axes[1].plot(steps, norms, color=colour, lw=1, label=optimizer)
axes[0].set(xlabel="step", ylabel="validation loss (nats)", title="One seed: an anecdote")
axes[1].set(xlabel="step", ylabel="norm of the gradient", title="The gradient that both are given")
axes[0].legend()
plt.show()
for optimizer, folder in runs.items():
    print(f"{optimizer:6} validation loss {curve(folder, 'val/loss')[1][-1]:.3f}")

# %% [markdown]
# One seed of one small run shows how, not whether. `minigpt sweep` runs both over several seeds and learning rates, and `minigpt
# compare` says how sure the difference is.
