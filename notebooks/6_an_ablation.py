# %% [markdown]
# # 6 · An ablation, from sweep to verdict
#
# How much does each part of a model matter? Change one thing, train, look at the loss. But a loss is also luck: another seed
# begins with other weights, reads the text in another order, and ends elsewhere. So each variant is trained with several seeds,
# and the question becomes: is the difference larger than what seeds alone make?

# %%
import json
from itertools import zip_longest

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display
from pictures import style
from small_sweep import find_sweep, small_sweep

import minigpt
from minigpt import interpret
from minigpt.data.batches import ValidationBatches, Windows
from minigpt.data.prepare import prepare_cached
from minigpt.evaluate.predictions import loss_by_position, predict
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.picture import colours, draw_differences
from minigpt.lab.compare.result import UNITS, field_of
from minigpt.lab.compare.statistics import difference
from minigpt.lab.compare.table import outcome_table, ranked, settings_table
from minigpt.training.config import DataConfig

torch.set_grad_enabled(False)  # no gradients are needed
style()

# %% [markdown]
# ## What a sweep file says
#
# A **base** config, the **seeds**, and **cells**: each changes something in the base, `{}` changes nothing. `overrides` hold for all
# cells. `minigpt sweep FILE` trains every cell with every seed, as many at a time as there are cores, and each is an ordinary run.

# %%
SMALL = """
base: configs/sweeps/ablation_base.yaml
name: small_ablation
seeds: [1, 2, 3]
overrides:
  model.activation: relu
  trainer.max_steps: 300
  optim.warmup_steps: 30
  run.eval_every: 50
  run.eval_batches: 20
cells:
  - {}
  - {model.position: rotary}
  - {model.activation: gelu}
  - {optim.lr: 2.5e-3}
"""

# %% [markdown]
# Your own sweep: `minigpt sweep configs/sweeps/ablation.yaml` (about 15 minutes on two cores) leaves `runs/ablation`. Without it the
# small one above is trained now, which takes a minute. Its record, `sweep.json`, says what was asked for and what became of it.

# %%
SWEEP = "runs/ablation"  # any folder that `minigpt sweep` wrote

sweep = find_sweep(SWEEP) or small_sweep(SMALL)
record = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
print(f"{sweep.name}: {len(record['cells'])} runs, from {record['base']} with {record['overrides']}\n")
for name in dict.fromkeys(cell["group"] for cell in record["cells"]):
    cells = [cell for cell in record["cells"] if cell["group"] == name]
    states = ", ".join(sorted({cell["state"] for cell in cells}))
    print(f"{name:22} {len(cells)} seeds, {states:10} {cells[0]['overrides'] or 'changes nothing'}")

# %% [markdown]
# Are the changes what you meant? Not what the file says but what the runs recorded, where they differ (the best group first):

# %%
comparison = compare([sweep])
print(settings_table(comparison).plain())

# %% [markdown]
# ## The curves
#
# Runs that differ in nothing but the seed are one **group**: a colour. Each thin line is one run; the thick one is the mean, dashed for
# the baseline, the cell that changes nothing. (With many groups those in the middle are grey.)

# %%
tones = {name: tone or "#8a8f98" for name, tone in colours(comparison).items()}
named = [name for name, tone in colours(comparison).items() if tone]

fig, ax = plt.subplots(figsize=(8.4, 3.8))
late = []
for name, tone in tones.items():
    curves = [comparison.curves[run.folder] for run in comparison.runs if run.group == name]
    for curve in curves:
        ax.plot(np.array(curve.tokens) / 1e3, curve.values, color=tone, lw=0.6, alpha=0.6)
        late += curve.values[len(curve.values) // 4 :]
    dashes = "--" if name == comparison.baseline else "-"
    mean = np.mean([curve.values for curve in curves], axis=0)
    is_named = name in named
    ax.plot(np.array(curves[0].tokens) / 1e3, mean, dashes, color=tone, lw=2 if is_named else 1, zorder=2 + is_named)
    if is_named:
        ax.plot([], [], dashes, color=tone, lw=2, label=name)
ax.set(xlabel="thousand tokens trained on", ylabel=f"validation ({UNITS[comparison.measure]})", title="All runs")
ax.set_ylim(min(late) - 0.05, max(late) + 0.05)
fig.legend(loc="outside right center")
plt.show()

# %% [markdown]
# ## One run is an anecdote
#
# Each dot below is one run. Imagine that you had trained one of each: any dot of a variant against any dot of the baseline.

# %%
field = field_of(comparison.by, comparison.measure)
groups = ranked(comparison)
values = {group.name: [getattr(run, field) for run in comparison.runs if run.group == group.name] for group in groups}
mine = values[comparison.baseline]

fig, ax = plt.subplots(figsize=(7.6, 0.34 * len(groups) + 1.2))
ax.axvspan(min(mine), max(mine), color="#eeeeee", zorder=0)
for row, group in enumerate(groups):
    ax.plot([np.mean(values[group.name])] * 2, [row - 0.3, row + 0.3], color=tones[group.name], lw=1.5)
    ax.plot(values[group.name], [row] * len(values[group.name]), "o", ms=6, alpha=0.7, color=tones[group.name])
ax.set_yticks(range(len(groups)), [group.name for group in groups])
unit = UNITS[comparison.measure]
ax.set(
    ylim=(len(groups) - 0.4, -0.6),
    xlabel=f"validation at the end ({unit})",
    title="Every run (grey: where the baseline's own seeds lie)",
)
plt.show()

print(f"the seeds alone move {comparison.baseline} by {max(mine) - min(mine):.3f} {unit}")
for name, theirs in values.items():
    if name != comparison.baseline:
        wins = sum(one < other for one in theirs for other in mine)
        print(
            f"{name:22} mean {np.mean(theirs) - np.mean(mine):+.3f}; lower in {wins} of {len(theirs) * len(mine)} pairs"
        )

# %% [markdown]
# Even "lower in 9 of 9 pairs" is weak: the nine come from six runs. If two groups of three were the same, one would lie wholly below
# the other in 2 of 20 orders, one time in ten; with many cells it happens somewhere nearly always.
#
# How sure can a mean be? The interval below holds the true difference in 95 of 100 such experiments. Of one seed each there is no
# interval at all; of two it is nearly useless (one degree of freedom); three are the least from which something can be learned.

# %%
rival = next((v for v in comparison.verdicts if v.group == "position=rotary"), comparison.verdicts[0]).group
by_seed = {
    name: {run.seed: getattr(run, field) for run in comparison.runs if run.group == name}
    for name in (rival, comparison.baseline)
}
seeds = sorted(set(by_seed[rival]) & set(by_seed[comparison.baseline]))
fig, ax = plt.subplots(figsize=(6.4, 2.6))
for n in range(1, len(seeds) + 1):
    ours, theirs = ({seed: by_seed[name][seed] for seed in seeds[:n]} for name in (rival, comparison.baseline))
    found = difference(ours, theirs, one_model=False)
    width = found.half_width or 0
    ax.errorbar(found.difference, n, xerr=width, fmt="o", color=tones[rival], capsize=4, lw=2)
    told = f"± {width:.3f}" if width else "no interval"
    print(f"{n} seed{'s' * (n > 1)}: {rival} − {comparison.baseline} = {found.difference:+.3f} {told}")
ax.axvline(0, color="grey", lw=0.8)
ax.set_yticks(range(1, len(seeds) + 1))
ax.set(ylim=(len(seeds) + 0.6, 0.4), ylabel="seeds of each", xlabel=f"{rival} minus {comparison.baseline} ({unit})")
ax.set_title("What more seeds buy")
plt.show()

# %% [markdown]
# ## The table
#
# Means with their 95 % intervals. Besides the loss at the end: at equal FLOPs and at equal training time, for a variant that learns
# more from each step may still be too slow. (Times are only as good as the machine was quiet.)

# %%
print(outcome_table(comparison).plain())

# %% [markdown]
# ## The verdicts
#
# The same as `minigpt compare` prints: the difference of each group to the baseline with its interval, and what may be claimed.

# %%
picture = draw_differences(comparison)
if picture:
    display(Image(picture.png, width=760))
for verdict in comparison.verdicts:
    print(verdict.text)
for note in comparison.notes:
    print("note:", note)

# %% [markdown]
# How to read them:
#
# - **p** is how often chance alone would make a difference as large, were there none. It is not the chance that you are wrong, and
#   says nothing about how *large* the difference is: the interval does.
# - **corrected for n comparisons**: who asks twenty questions gets one "p < 0.05" for nothing. Holm's method (1979) multiplies the
#   smallest p by n, the next by n − 1, ... So every cell more makes each claim harder: ask few questions.
# - **Welch or pair by pair**: by default Welch's test, which lets one group scatter more than the other. Where both groups are the
#   *same model* from the same seeds (a learning rate, say), the runs of a seed begin with the same weights and what they share
#   drops out: they are compared pair by pair. Which test it is follows from the settings alone, never from the losses.
# - **"no difference can be claimed"** is not "they are equal". It says that this experiment cannot tell; the interval says how
#   large a difference may still hide.
# - And all of it is true of *this* size, text and length of training.

# %%
print(f"{'group':22} {'test':8} {'p':>8} {'corrected':>10}   a difference still possible ({unit})")
for verdict in comparison.verdicts:
    if verdict.p is None or verdict.p_corrected is None:
        continue
    low, high = verdict.difference - verdict.half_width, verdict.difference + verdict.half_width
    print(
        f"{verdict.group:22} {verdict.method:8} {verdict.p:8.2g} {verdict.p_corrected:10.2g}   {low:+.3f} to {high:+.3f}"
    )

# %% [markdown]
# ## Inside: where does the difference come from?
#
# A number says *that*, not *why*. Both models read the same validation text; here is what a token costs by its place in the window,
# one thin line a run, and the mean.


# %%
def runs_of(name):
    """The folders of a group."""
    return [run.folder for run in comparison.runs if run.group == name]


def validation(loaded, batches=24):
    """Windows of the text that a run was validated on."""
    prepared = prepare_cached(DataConfig(**loaded.checkpoint.data).prepare_options(), tokenizer=loaded.tokenizer)
    windows = Windows(prepared.val.shards, loaded.config.block_size)
    return list(ValidationBatches(windows, batch_size=32, n_batches=batches))


pair = (comparison.baseline, rival)
look = dict(zip(pair, ("#4878a8", "#d1782f"), strict=True))
batches = validation(minigpt.load(runs_of(rival)[0]))
profile = {
    name: [loss_by_position(predict(minigpt.load(run).model, batches)) for run in runs_of(name)] for name in pair
}

fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.4))
for name in pair:
    place = np.arange(1, len(profile[name][0]) + 1)
    for each in profile[name]:
        left.plot(place, each, color=look[name], lw=0.6, alpha=0.6)
    left.plot(place, np.mean(profile[name], axis=0), color=look[name], lw=2, label=name)
gap = np.mean(profile[rival], axis=0) - np.mean(profile[comparison.baseline], axis=0)
left.set(xlabel="tokens that the model has to go by", ylabel="loss (nats)", title="Loss by place in the window")
left.set_xscale("log", base=2)
left.xaxis.set_major_formatter("{x:.0f}")
left.legend()
right.axhline(0, color="grey", lw=0.8)
right.plot(place, gap, color=look[rival])
right.set_xscale("log", base=2)
right.xaxis.set_major_formatter("{x:.0f}")
right.set(xlabel="tokens that the model has to go by", title=f"{rival} minus {comparison.baseline}")
plt.show()
last = gap[-len(gap) // 4 :].mean()
print(
    f"{rival} minus {comparison.baseline}: {gap[0]:+.3f} nats with one token to go by, {last:+.3f} in the last quarter"
)

# %% [markdown]
# Rotary against learned positions: with one token of context there is nothing to look back at, and rotary gains nothing, it even
# loses a little. Two or three tokens later it is ahead, and stays so. So it is about *finding* the tokens just before. The heads
# show it: for one run of each, the head that attends most to the token before, and how the weight of all heads falls with the distance.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.6, 3.5), width_ratios=(1, 1, 1.15))
for ax, name in zip(axes, pair, strict=False):
    model = minigpt.load(runs_of(name)[0]).model
    patterns = interpret.trace(model, batches[0][0], keep=["pattern"]).stack("pattern").mean(1)  # (L, H, T, T)
    T = patterns.shape[-1]
    distance = [torch.diagonal(patterns, -back, 2, 3).mean(-1) for back in range(T)]  # of (L, H)
    layer, head = divmod(int(distance[1].argmax()), patterns.shape[1])
    ax.imshow(patterns[layer, head].numpy(), cmap="magma_r", vmin=0, vmax=0.5)
    ax.set(title=f"{name}: layer {layer}, head {head}", xlabel="place that is read")
    for each in torch.stack(distance, -1).flatten(0, 1).numpy():
        axes[2].plot(range(T // 2), each[: T // 2], color=look[name], lw=0.9, alpha=0.7)
    axes[2].plot([], color=look[name], label=name)
axes[0].set(ylabel="place that reads")
axes[2].set(xlabel="how many tokens back", title="weight by distance, a line a head", ylim=(0, None))
axes[2].legend()
plt.show()

# %% [markdown]
# With rotary positions, "the token before" is the same angle everywhere; with learned ones it has to be learned for each pair of
# positions. Hence sharp lines on one side and smears on the other, and the more so the shorter the training. (A picture of one run suggests why. To
# claim it, one would make it a number, and compare that number over the seeds.)
#
# ## Samples side by side
#
# The same prompt and the same random numbers. Texts are the weakest evidence of all, being one draw each, but they say what a tenth
# of a nat looks like.

# %%
WIDTH = 58
samples = {}
for name in pair:
    loaded = minigpt.load(runs_of(name)[0])
    samples[name] = loaded.generate("def ", max_new_tokens=300, temperature=0.6, seed=1).splitlines()
print(f"{pair[0]:{WIDTH}}  {pair[1]}\n{'─' * WIDTH}  {'─' * WIDTH}")
for one, other in zip_longest(*samples.values(), fillvalue=""):
    print(f"{one[:WIDTH]:{WIDTH}}  {other[:WIDTH]}".rstrip())

# %% [markdown]
# `minigpt compare runs/ablation` writes all of it, curves and samples included, into one HTML page: `runs/ablation/report/report.html`.
#
# Next: [7 · A scaling law](7_a_scaling_law.ipynb).
