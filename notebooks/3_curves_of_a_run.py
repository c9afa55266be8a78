# %% [markdown]
# # 3 · The curves of a run
#
# While it trains, a run writes its numbers twice: as **TensorBoard events** (to watch: `tensorboard --logdir runs`) and as
# **`metrics.csv`** (one row a step, for a spreadsheet or a notebook). In both, x is the number of optimizer steps done. Here
# they are read, drawn and compared.

# %%
import csv
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import yaml
from pictures import style
from small_run import find_run, small_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import minigpt
from minigpt.optim.config import OptimConfig
from minigpt.optim.schedules import learning_rate

style()

# %% [markdown]
# ## The runs
#
# Name your runs; those that exist are drawn. If there are none, two small ones are trained now (about half a minute each),
# which differ in one thing: the second has a tenth of the learning rate.

# %%
RUNS = ["runs/base", "runs/base-2"]  # any folders that `minigpt fit` wrote

runs = [folder for folder in map(find_run, RUNS) if folder]
if not runs:
    runs = [small_run("small"), small_run("small-tenth", "--optim.lr=5e-4", "--optim.min_lr=5e-5")]
COLOURS = dict(zip([run.name for run in runs], ("#4878a8", "#d1782f", "#5a9e5a", "#8d6bb5"), strict=False))
run = runs[0]
print(
    "runs:",
    ", ".join(COLOURS),
    "   files of the first:",
    ", ".join(sorted(path.name.split(".")[0] for path in run.iterdir())),
)

# %% [markdown]
# ## metrics.csv
#
# A row has what was measured at its step and leaves the other columns empty: the training curves stand at every `run.log_every`
# steps, the validation curves at every `run.eval_every`.


# %%
def read_csv(run: Path, curve: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the values of one curve."""
    with (run / "metrics.csv").open(newline="") as file:
        points = [(int(row["step"]), float(row[curve])) for row in csv.DictReader(file) if row.get(curve)]
    steps, values = zip(*points, strict=True)
    return np.array(steps), np.array(values)


with (run / "metrics.csv").open() as file:
    for name in file.readline().strip().split(",")[1:]:
        steps, values = read_csv(run, name)
        print(f"{name:24} {len(steps):4} points   first {values[0]:<10.4g} last {values[-1]:.4g}")

# %% [markdown]
# ## TensorBoard events
#
# The events hold the same curves in 32-bit floats, and more: the time of each point, the config and sampled texts, and the
# settings beside the losses (TensorBoard's HPARAMS tab).

# %%
events = {run: EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload() for run in runs}
tags = events[run].Tags()
print("scalars:", ", ".join(tags["scalars"]))
print("texts:  ", ", ".join(tag.removesuffix("/text_summary") for tag in tags["tensors"]))

furthest = 0.0
for name in ("train/loss", "val/loss", "train/learning_rate"):
    steps, values = read_csv(run, name)
    points = events[run].Scalars(name)
    assert [point.step for point in points] == steps.tolist()
    furthest = max(furthest, *(abs(point.value / value - 1) for point, value in zip(points, values, strict=True)))
print(f"largest relative difference between the two files: {furthest:.0e}")

# %% [markdown]
# ## The learning rate
#
# It is a pure function of the step (`optim/schedules.py`): a linear warm-up, then here a decay to `min_lr`. The points are what
# the run wrote, the line is the function. (The point at step $s$ is the rate of the update that led there, number $s-1$.)

# %%
settings = yaml.safe_load((run / "config.yaml").read_text())
optim = OptimConfig(**settings["optim"])
max_steps = settings["trainer"]["max_steps"]
steps, rates = read_csv(run, "train/learning_rate")

fig, ax = plt.subplots(figsize=(7, 2.8))
every = np.arange(1, max_steps + 1)
ax.plot(every, [learning_rate(step - 1, max_steps, optim) for step in every], color="#9bb7d4", label="the function")
ax.plot(steps, rates, ".", color=COLOURS[run.name], label="the run")
ax.axvspan(0, optim.warmup_steps, color="#eeeeee", zorder=0)
ax.text(optim.warmup_steps + 0.01 * max_steps, optim.lr / 25, "← warm-up", fontsize=9, color="grey")
ax.set(xlabel="optimizer steps", ylabel="learning rate", ylim=(0, None), title=f"{run.name}: {optim.schedule} schedule")
ax.legend()
plt.show()

# %% [markdown]
# ## The loss
#
# The loss is the mean of $-\ln p$ of the right token. A model that knows nothing has $\ln V$: both curves must begin there. The
# **training** loss of a step is that of its own batch, so it jumps from batch to batch; the **validation** loss is that of text
# never trained on, always of the same windows, and is smooth. The smoothed line is a running mean of the training loss.


# %%
def smooth(values: np.ndarray, width: int = 9) -> np.ndarray:
    """Mean of each value and as many neighbours on either side; towards the ends these are fewer."""
    halves = [min(width // 2, i, len(values) - 1 - i) for i in range(len(values))]
    return np.array([values[i - half : i + half + 1].mean() for i, half in enumerate(halves)])


vocab_size = minigpt.load(run).config.vocab_size
steps, values = read_csv(run, "train/loss")
fig, ax = plt.subplots(figsize=(7, 3.4))
ax.axhline(math.log(vocab_size), color="grey", lw=0.8, ls="--")
ax.text(max_steps, math.log(vocab_size), f"ln V = ln {vocab_size:,}", ha="right", va="bottom", fontsize=9, color="grey")
ax.plot(steps, values, ".", ms=4, color="#9bb7d4", label="training, a batch")
ax.plot(steps, smooth(values), color=COLOURS[run.name], label="training, smoothed")
steps, values = read_csv(run, "val/loss")
ax.plot(steps, values, "o-", color="#b03a2e", label="validation")
ax.set(xlabel="optimizer steps", ylabel="nats per token", title=f"{run.name}: the loss")
ax.legend()
plt.show()
print(f"lowest validation loss: {values.min():.4f} nats per token at step {steps[values.argmin()]}")

# %% [markdown]
# Where the validation loss stops falling while the training loss goes on falling, the model begins to overfit. (With
# dropout the training loss is measured with parts of the model switched off, and may even lie above.)
#
# ## Is it healthy, and how fast is it?
#
# The **norm of the gradient** before clipping shows trouble first: a spike means that a step would have gone too far;
# `trainer.gradient_clip_val` limits it. **Tokens per second** is the speed of training alone: time spent on validating,
# sampling and saving is not counted.

# %%
clip = settings["trainer"]["gradient_clip_val"]
fig, (above, below) = plt.subplots(2, 1, figsize=(7, 4.4), sharex=True)
steps, norms = read_csv(run, "train/grad_norm")
above.plot(steps, norms, color=COLOURS[run.name])
if clip:
    above.axhline(clip, color="grey", lw=0.8, ls="--")
    above.text(max_steps, clip, f"clipped above {clip:g}", ha="right", va="bottom", fontsize=9, color="grey")
above.set(ylabel="norm of the gradient", ylim=(0, None), title=f"{run.name}: gradient")
steps, speed = read_csv(run, "train/tokens_per_second")
below.plot(steps, speed / 1000, color=COLOURS[run.name])
below.axhline(np.median(speed) / 1000, color="grey", lw=0.8, ls="--")
below.set(xlabel="optimizer steps", ylabel="1000 tokens per second", ylim=(0, None))
below.set_title(f"{run.name}: speed, {np.median(speed):,.0f} tokens per second in the median")
plt.show()

# %% [markdown]
# ## How its texts change
#
# Now and then a run samples a text, always with the same prompt and the same random numbers (`run.sample_every`).

# %%
for sample in events[run].Tensors("sample/text_summary"):
    text = sample.tensor_proto.string_val[0].decode()
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    print(f"── step {sample.step} " + "─" * 60)
    print("\n".join(lines[:8]))

# %% [markdown]
# ## Two runs in one picture
#
# Against **steps** one sees which learns more from the same text; against **seconds** which learns more in the same time.
# Losses are comparable where text and tokenizer are the same; otherwise compare `val/bits_per_byte`.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.3))
for each in runs:
    colour = COLOURS[each.name]
    axes[0].plot(*read_csv(each, "train/learning_rate"), color=colour, label=each.name)
    points = events[each].Scalars("val/loss")
    first = events[each].Scalars("train/loss")[0].wall_time
    axes[1].plot([point.step for point in points], [point.value for point in points], ".-", color=colour)
    axes[2].plot([point.wall_time - first for point in points], [point.value for point in points], ".-", color=colour)
axes[0].set(title="learning rate", xlabel="optimizer steps", ylim=(0, None))
axes[0].ticklabel_format(axis="y", scilimits=(0, 0))
axes[0].legend()
axes[1].set(title="validation loss", xlabel="optimizer steps", ylabel="nats per token")
axes[2].set(title="validation loss", xlabel="seconds since the first point", ylabel="nats per token")
plt.show()

# %%
print(f"{'run':16}{'steps':>8}{'best val loss':>16}{'bits per byte':>16}{'tokens/s':>12}")
for each in runs:
    steps, losses = read_csv(each, "val/loss")
    bits, speed = read_csv(each, "val/bits_per_byte")[1], read_csv(each, "train/tokens_per_second")[1]
    print(f"{each.name:16}{steps[-1]:8,}{losses.min():16.4f}{bits.min():16.4f}{np.median(speed):12,.0f}")

# %% [markdown]
# One run of each is a sample of one: with another `--seed_everything` each would end a little elsewhere. A difference means
# something when it is larger than the spread between seeds; before believing a small one, run both with several seeds.
#
# Next: [4 · Reload a checkpoint](4_reload_a_checkpoint.ipynb).
