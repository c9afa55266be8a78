# %% [markdown]
# # 7 · A scaling law on a laptop
#
# With so much compute, how large a model, on how much text? Train small models, fit a law to their losses, and read off what a
# larger budget would give (Kaplan et al. 2020; Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models"). Here with
# models of a few thousand parameters, in a minute: the method is the same, and its limits are easier to see.

# %%
import os

# Fits of five numbers: threads of the linear algebra would only wait for each other. (It is read when numpy is imported.)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import matplotlib.pyplot as plt
import numpy as np
import yaml
from pictures import style
from small_sweep import find_sweep, small_sweep

from minigpt.lab.scaling.fits import COEFFICIENTS, fit_scaling
from minigpt.lab.scaling.isoflop import SAME_BUDGET
from minigpt.lab.scaling.result import study_scaling
from minigpt.lab.scaling.runs import read_sweep
from minigpt.lab.scaling.text import advice_lines, law_lines, parabola_lines, run_table
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.optim.config import OptimConfig
from minigpt.optim.schedules import learning_rate
from minigpt.runs.records import read_run

style()

# %% [markdown]
# ## Budgets and sizes
#
# A training of $D$ tokens on $N$ parameters takes about $C = 6ND$ FLOPs: two for each parameter and token forwards, four backwards
# (`flops_per_token` counts exactly, attention and all). So a budget is a choice: a larger model or more text. For each budget some
# sizes, and for each the number of steps that spends it:

# %%
BATCH, WINDOW = 16, 64
PLAN = {  # FLOPs: (layers, width) of the models
    3e10: [(1, 8), (1, 12), (1, 16), (1, 24)],
    1e11: [(1, 12), (1, 16), (1, 24), (1, 32)],
    3e11: [(1, 16), (1, 24), (1, 32), (2, 32)],
}
cells = []
for letter, (flops, shapes) in zip("abc", PLAN.items(), strict=True):
    for n_layer, n_embd in shapes:
        shape = {"n_layer": n_layer, "n_head": max(1, n_embd // 16), "n_embd": n_embd}
        config = GPTConfig(vocab_size=257, block_size=WINDOW, dropout=0.0, **shape)  # 256 bytes, and an end of text
        steps = round(flops / flops_per_token(config) / (BATCH * WINDOW))
        print(
            f"{flops:.0e} FLOPs: {n_layer} x {n_embd:2}, {parameter_count(config):6,} parameters, {steps:5,} steps, "
            f"{steps * BATCH * WINDOW / parameter_count(config):4.0f} tokens a parameter"
        )
        cells.append(
            {
                "name": f"{letter}-{n_layer}x{n_embd}",
                **{f"model.{key}": value for key, value in shape.items()},
                "trainer.max_steps": steps,
                "optim.warmup_steps": round(steps / 10),
            }
        )

# %% [markdown]
# Your own sweep: `minigpt sweep configs/sweeps/scaling.yaml` (a budget more, three minutes on two cores) leaves `runs/scaling`.
# Without it the plan above is trained now, in about a minute. The rest of its file:

# %%
SWEEP = "runs/scaling"  # any folder that `minigpt sweep` wrote
SMALL = {
    "base": "configs/base.yaml",
    "name": "small_scaling",
    "seeds": [1337],
    "overrides": {
        "data.tokenizer": "byte",  # a small vocabulary: else small models would be all embedding
        "data.batch_size": BATCH,
        "model.block_size": WINDOW,
        "model.dropout": 0.0,  # no byte is seen often
        "optim.lr": 1e-2,  # these models are narrow
        "optim.min_lr": 1e-3,
        "trainer.accelerator": "cpu",
        "run.eval_every": 1_000_000,  # at the last step alone
        "run.eval_batches": 60,
        "run.save_every": 1_000_000,
        "run.sample_every": 0,
    },
    "cells": cells,
}

sweep = find_sweep(SWEEP) or small_sweep(yaml.safe_dump(SMALL, sort_keys=False))
study = read_sweep(sweep)
print(f"{study.name}: {len(study.points)} runs, {len({p.n_parameters for p in study.points})} sizes")
for line in study.left_out:
    print("left out:", line)

# %% [markdown]
# ## Why each run has a schedule of its own
#
# It would be cheaper to train once for long and read the loss off along the way. But a run is at its best only when its learning
# rate has come down: in the middle of a long run the loss is that of a model that is still taking large steps. So the schedule of
# each run ends where its tokens do (Hoffmann et al. 2022, section 3). The same model with two budgets:

# %%
records = {point.name: read_run(sweep / point.name) for point in study.points}
by_size = {}
for point in sorted(study.points, key=lambda point: point.n_tokens):
    by_size.setdefault(point.n_parameters, []).append(point)
same = max(by_size.values(), key=len)  # the size that was trained for the most lengths


def train_curve(record):
    """Million tokens, and the training loss as a running mean of 21 points (fewer, where there are not so many)."""
    points = sorted((step, row["train/loss"]) for step, row in record.metrics.items() if "train/loss" in row)
    steps, losses = np.array(points).T
    half = min(10, (len(steps) - 1) // 2)
    mean = np.convolve(losses, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")
    return steps[half : len(steps) - half] * record.tokens_per_step / 1e6, mean


fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4))
for point, colour in zip(same, plt.cm.viridis(np.linspace(0.75, 0.1, len(same))), strict=True):
    record = records[point.name]
    optim, steps = OptimConfig(**record.config["optim"]), np.arange(record.max_steps)
    rate = [learning_rate(int(step), record.max_steps, optim) for step in steps]
    left.plot(steps * record.tokens_per_step / 1e6, rate, color=colour, label=f"{point.flops:.0e} FLOPs")
    right.plot(*train_curve(record), color=colour)
    right.plot(point.n_tokens / 1e6, point.loss, "o", color=colour)
left.set(
    xlabel="million tokens",
    ylabel="learning rate",
    title=f"{same[0].n_parameters:,} parameters: the schedules",
    ylim=(0, None),
)
left.legend()
shorter = same[:-1] or same
lowest = min(point.loss for point in shorter)
right.set(xlabel="million tokens", ylabel="loss (nats per token)", title="training loss (dots: validation at the end)")
right.set(xlim=(0, 1.3 * shorter[-1].n_tokens / 1e6), ylim=(lowest - 0.1, lowest + 0.8))
plt.show()
longest = train_curve(records[same[-1].name])
for point in same[:-1]:
    own = train_curve(records[point.name])
    on_the_way = np.interp(own[0][-1], *longest)
    print(
        f"near {own[0][-1]:.2f}M tokens: {own[1][-1]:.3f} where the schedule ends, {on_the_way:.3f} in the longest run"
    )

# %% [markdown]
# ## IsoFLOP parabolas
#
# One budget, many sizes: a model too small cannot learn what the text holds, one too large sees too little of it. Between the two lies
# the best size, and a parabola in $\log N$ finds it (approach 2 of Hoffmann et al.). With a larger budget it moves to the right.

# %%
flops = max(point.flops for point in study.points)
result = study_scaling(study, 10 * flops, bootstraps=100)
fit, law = result.fit, result.fit.law
budgets = np.log10([point.flops for point in study.points])


def tone(flops):
    """A colour by budget."""
    return plt.cm.viridis(0.85 * (np.log10(flops) - budgets.min()) / max(np.ptp(budgets), 1e-9))


fig, ax = plt.subplots(figsize=(7, 4))
for point in study.points:
    ax.plot(point.n_parameters, point.loss, "o", color=tone(point.flops))
for each in result.parabolas:
    sizes = [point.n_parameters for point in each.points]
    span = np.geomspace(min(sizes) / 1.1, max(sizes) * 1.1, 100)
    ax.plot(span, each.loss(span), color=tone(each.flops), label=f"{each.flops:.1g} FLOPs")
    if each.is_inside:
        ax.plot(each.best_parameters, each.best_loss, "*", ms=14, color=tone(each.flops), mec="black")
ax.set(
    xscale="log",
    xlabel="parameters",
    ylabel="validation loss (nats per token)",
    title="One budget, many sizes (star: the best)",
)
if result.parabolas:
    ax.legend()
plt.show()
print("\n".join(parabola_lines(result.parabolas, result.frontier)))
for each in result.parabolas:
    cost = each.coefficients[0] * np.log(2) ** 2
    print(f"{each.flops:.1g} FLOPs: a model twice or half the best size costs {cost:.3f} nats")

# %% [markdown]
# ## The law
#
# Approach 3 puts one formula through all runs:
#
# $$L(N, D) = E + A / N^{\alpha} + B / D^{\beta}$$
#
# $E$ is what no model could do better than, the second term what a model of $N$ parameters lacks, the third what $D$ tokens lack. The
# fit minimises Huber's loss of $\log L$, so that a run that went wrong does not pull it away.

# %%
print(run_table(study, fit))
print()
print("\n".join(law_lines(fit)))

# %% [markdown]
# The numbers in brackets come from a **bootstrap**: draw as many runs with replacement, fit again, a hundred times; nine in ten fits
# lie between them. Look at how wide they are, and at how the coefficients hang together:

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.3))
draws = {name: np.array([getattr(each, name) for each in fit.resampled]) for name in COEFFICIENTS}
axes[0].hist(draws["E"], bins=24, color="#9bb7d4")
axes[0].axvline(law.E, color="#1f4e79")
axes[0].set(xlabel="E (nats per token)", ylabel="bootstrap fits", title="the loss that is left")
axes[1].plot(draws["alpha"], draws["A"], ".", color="#9bb7d4")
axes[1].plot(law.alpha, law.A, "o", color="#1f4e79")
axes[1].set(xlabel="alpha", ylabel="A", yscale="log", title="A and alpha: one trades for the other")
exponents = draws["beta"] / (draws["alpha"] + draws["beta"])
axes[2].hist(exponents, bins=24, color="#9bb7d4")
axes[2].axvline(fit.exponent, color="#1f4e79", label="these runs")
axes[2].axvline(0.5, color="#d1782f", ls="--", label="equal shares")
axes[2].set(xlabel="a", title="the best N grows as C^a")
axes[2].legend()
plt.show()

# %% [markdown]
# Single coefficients are hardly known: a larger $A$ with a larger $\alpha$ gives nearly the same losses where there are runs. What
# the fits agree on is the loss *there*, and the further away, the less.
#
# ## Does it predict anything?
#
# A law that fits what it has seen proves little: five numbers bend far. So hide the largest budget, fit the rest, and forecast it.

# %%
seen = [point for point in study.points if point.flops * (1 + SAME_BUDGET) < flops]
hidden = [point for point in study.points if point not in seen]
blind = fit_scaling(seen, bootstraps=100)
fig, ax = plt.subplots(figsize=(6, 4.2))
ax.plot(
    [point.loss for point in seen],
    [blind.law.loss(p.n_parameters, p.n_tokens) for p in seen],
    ".",
    color="grey",
    label="fitted",
)
inside = 0
for point in sorted(hidden, key=lambda point: point.n_parameters):
    forecast, between = (
        blind.law.loss(point.n_parameters, point.n_tokens),
        blind.loss_interval(point.n_parameters, point.n_tokens),
    )
    inside += between.low <= point.loss <= between.high
    ax.plot([point.loss] * 2, [between.low, between.high], color="#d1782f", lw=2, alpha=0.5)
    ax.plot(point.loss, forecast, "o", color="#d1782f")
    print(
        f"{point.n_parameters:7,} parameters: {forecast:.3f} forecast ({between.low:.3f} to {between.high:.3f}), {point.loss:.3f} measured"
    )
ends = [min(p.loss for p in study.points) - 0.05, max(p.loss for p in study.points) + 0.05]
ax.plot(ends, ends, color="grey", lw=0.8)
ax.plot([], [], "o-", color="#d1782f", label="forecast, with its interval")
ax.legend()
ax.set(
    xlabel="measured loss",
    ylabel="loss by the law",
    title=f"{flops:.0e} FLOPs, forecast from the {len(seen)} cheaper runs",
)
plt.show()
print(f"{inside} of {len(hidden)} within an interval that should hold nine in ten")

# %% [markdown]
# An interval of the bootstrap knows one thing alone: that other runs might have been drawn. It does not know that the formula may be
# wrong, that one seed a size is a sample of one, or that the learning rate suits some sizes better than others.
#
# ## Ten times the compute

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
span = np.geomspace(min(point.flops for point in study.points), 30 * flops, 60)
best = [fit.optimum(each) for each in span]
between = [fit.loss_interval(*each) for each in best]
left.plot(span, [law.loss(*each) for each in best], color="#1f4e79", label="the law, at its best size")
left.fill_between(span, [i.low for i in between], [i.high for i in between], color="#9bb7d4", alpha=0.4, lw=0)
left.plot([p.flops for p in study.points], [p.loss for p in study.points], ".", color="grey", label="runs")
left.set(xscale="log", xlabel="FLOPs of training", ylabel="loss (nats per token)", title="The loss (band: 90 %)")
sizes = [fit.optimum_interval(each) for each in span]
right.plot(span, [n for n, _ in best], color="#1f4e79", label=f"the law: C^{fit.exponent:.2f}")
right.fill_between(span, [i.low for i in sizes], [i.high for i in sizes], color="#9bb7d4", alpha=0.4, lw=0)
if result.frontier:
    line = [result.frontier.parameters(each) for each in span]
    right.plot(span, line, "--", color="#d1782f", label=f"the parabolas: C^{result.frontier.exponent:.2f}")
right.plot([p.flops for p in study.points], [p.n_parameters for p in study.points], ".", color="grey")
right.set(xscale="log", yscale="log", xlabel="FLOPs of training", ylabel="parameters", title="The best size")
for ax in (left, right):
    ax.axvline(10 * flops, color="grey", lw=0.8, ls=":")
    ax.legend(fontsize=9)
plt.show()
advice = "\n".join(advice_lines(result.advice, ", ten times the largest run"))
print(advice.replace(str(sweep), "SWEEP").replace(str(sweep.parent), "RUNS"))

# %% [markdown]
# The interval of the best size is wide, and the two ways to fit need not agree: that is what so few runs know. What an error in the
# size costs, the parabolas said above. What would narrow it: a wider range of budgets, several seeds a size, and learning rates tuned
# by size (or `model.mup_base_width`).
#
# And what no interval says: the law holds for *this* text in *these* tokens, for one epoch, this shape and this recipe.
#
# `minigpt scaling runs/scaling --hours 2` does all of it in one command, says what to train, and leaves `scaling.json`, by which
# `minigpt plan` forecasts the loss of a run.
#
# Next: [8 · What Muon does](8_what_muon_does.ipynb).
