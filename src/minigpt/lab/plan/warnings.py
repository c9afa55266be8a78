"""What will go wrong with a planned run, each with the nearest setting that works: computed, not guessed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from minigpt.data.options import LEAST_BPE_VOCABULARY
from minigpt.lab.plan.memory import largest_batch, step_memory
from minigpt.lab.plan.plan import Plan
from minigpt.lab.plan.workload import Workload
from minigpt.lab.scaling.law import REPEATED
from minigpt.model.config import padded_vocabulary
from minigpt.system.limits import usable_cores
from minigpt.system.precision import product_dtype
from minigpt.system.units import bytes_text, count_text, seconds_text
from minigpt.system.utilisation import data_sheet

USELESS_PASSES = 16
"""From about here more passes add almost nothing (Muennighoff et al. 2023, figure 1)."""
LOOKING = 0.1
"""The share of a run's time that validation, samples or checkpoints should not take more than."""
WARMUP_SHARE = 0.1
"""A warm-up of a tenth of the run or less is customary."""
USED_SHARE = 0.5
"""Of the vocabulary, below which most of its rows are never trained."""
LEAST_ADVISED = 2 * LEAST_BPE_VOCABULARY
"""Tokens of a BPE of which more than half occur, however few of the bytes do: those that it has merged."""


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One thing, and what to do about it."""

    told: str
    remedy: str
    """Options of the command line, or a sentence."""

    def __str__(self) -> str:
        return f"{self.told}: {self.remedy}"


def warnings_of(plan: Plan, disk_free: float = math.inf) -> list[Caution]:
    """Everything that there is to say, the gravest first. `disk_free` is in bytes."""
    found = [warning for check in CHECKS for warning in check(plan)]
    if plan.disk_bytes > disk_free:
        found.insert(0, _disk(plan, disk_free))
    return found


def _memory(plan: Plan) -> Iterator[Caution]:
    if plan.fits:
        return
    limit, workload = plan.machine.bytes_per_device, plan.workload
    told = (
        f"does not fit: {bytes_text(plan.memory.total)} of memory, and there are {bytes_text(limit)} for each process"
    )
    batch, devices = largest_batch(workload, plan.machine.kind, limit), workload.devices
    if batch is not None:
        # As many tokens a step as before, or the next more that the devices can share, in more and smaller batches:
        # the largest divisor of each device's windows that fits.
        windows = workload.windows_per_device
        share = max(n for n in range(1, batch // devices + 1) if windows % n == 0)
        accumulate = workload.accumulate * windows // share
        remedy = (
            f"--data.batch_size {share * devices} --trainer.accumulate_grad_batches {accumulate} "
            f"(at most {batch} windows fit)"
        )
        yield Caution(told=told, remedy=remedy)
        return
    for precision in ("bf16-mixed", "bf16-true"):
        batch = largest_batch(replace(workload, precision=precision), plan.machine.kind, limit)
        if batch is not None:
            yield Caution(told=told, remedy=f"--trainer.precision {precision} --data.batch_size {batch}")
            return
    width = _widest(workload, plan.machine.kind, limit)
    remedy = "no width of this model fits" if width is None else f"--model.n_embd {width} --data.batch_size {devices}"
    yield Caution(told=f"{told}, not even one window in bf16-true", remedy=remedy)


def _widest(workload: Workload, machine_kind: str, limit: float) -> int | None:
    """The largest width, in steps of two a head, at which one window on each device fits in the config's precision."""
    step = workload.config.n_head * 2  # rotary positions need an even head

    def fits(steps: int) -> bool:
        config = replace(workload.config, n_embd=steps * step, n_ff=None)
        return step_memory(replace(workload, config=config, batch_size=workload.devices), machine_kind).total <= limit

    low, high = 0, max(1, workload.config.n_embd // step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * step if low and fits(low) else None


def _windows(plan: Plan) -> Iterator[Caution]:
    text, block = plan.workload.text, plan.workload.config.block_size
    shortest = min(text.train_tokens, text.val_tokens)
    if shortest <= block:
        told = f"one of the splits has {shortest:,} tokens, and a window takes {block + 1:,}"
        yield Caution(told=told, remedy=f"--model.block_size {max(1, shortest - 1)} or a longer text")


def _busy(plan: Plan) -> Iterator[Caution]:
    load, cores = plan.machine.load, usable_cores()
    if plan.speed.is_measured and plan.machine.kind == "cpu" and load > 1.5 * cores:
        told = f"other programs kept this machine busy while it was timed (load {load:.1f} on {cores} cores)"
        yield Caution(told=told, remedy="the time is that of a run beside them; plan again when they are done")


def _devices(plan: Plan) -> Iterator[Caution]:
    batch, devices = plan.workload.batch_size, plan.workload.devices
    if batch % devices:
        told = f"data.batch_size={batch} cannot be shared out among {devices} devices"
        remedy = f"--data.batch_size {math.ceil(batch / devices) * devices}"
        yield Caution(told=told, remedy=remedy if plan.fits else f"any multiple of {devices} that fits")


def _passes(plan: Plan) -> Iterator[Caution]:
    workload = plan.workload
    if workload.passes <= REPEATED:
        return
    told = f"sees the data {round(workload.passes):,} times"
    if workload.passes >= USELESS_PASSES:
        told += ", and repeated tokens teach little after four times (Muennighoff et al. 2023)"
    else:
        told += "; up to four times repeated tokens are nearly as good as new ones (Muennighoff et al. 2023)"
    steps = int(REPEATED * workload.text.train_tokens / workload.tokens_per_step)
    wanted = workload.tokens / REPEATED
    more = f"a text of {count_text(wanted)} tokens, or dropout and a look at the validation loss"
    yield Caution(told=told, remedy=f"--trainer.max_steps {steps}, or {more}" if steps else more)


def _warmup(plan: Plan) -> Iterator[Caution]:
    warmup, steps = plan.workload.optim.warmup_steps, plan.workload.max_steps
    if warmup < steps and warmup <= 5 * WARMUP_SHARE * steps:
        return
    if warmup >= steps:
        told = f"the warm-up of {warmup:,} steps is as long as the run of {steps:,}: the peak rate is never reached"
    else:
        told = f"the warm-up of {warmup:,} steps is {warmup / steps:.0%} of the run"
    yield Caution(told=told, remedy=f"--optim.warmup_steps {int(WARMUP_SHARE * steps)} (a tenth of the run)")


def _looking(plan: Plan) -> Iterator[Caution]:
    """Validation, samples and checkpoints that cost more than a tenth of training."""
    workload, times = plan.workload, plan.duration
    costs = {"validation": times.evaluation, "saving": times.saving, "sampling": times.sampling}
    keys = {"validation": "eval_every", "saving": "save_every", "sampling": "sample_every"}
    for name, seconds in costs.items():
        if seconds <= LOOKING * times.training:
            continue
        key = f"run.{keys[name]}"
        every = getattr(workload, keys[name])
        wanted = math.ceil(min(every, workload.max_steps) * seconds / (LOOKING * times.training))
        told = f"{name} takes {seconds_text(seconds)}, training itself {seconds_text(times.training)}"
        if wanted < workload.max_steps:
            yield Caution(told=told, remedy=f"--{key} {wanted}")
        elif name == "validation":  # there is always one at the last step
            batches = int(workload.batches_per_evaluation * LOOKING * times.training / seconds * workload.n_evaluations)
            yield Caution(told=told, remedy=f"--{key} {workload.max_steps} --run.eval_batches {max(1, batches)}")
        elif workload.max_steps > every:
            yield Caution(told=told, remedy=f"--{key} {workload.max_steps}")


def _held_out(plan: Plan) -> Iterator[Caution]:
    workload = plan.workload
    there = workload.batches_per_evaluation
    if there < workload.eval_batches:
        told = f"run.eval_batches={workload.eval_batches}, and the held-out text has {there} batches"
        yield Caution(told=told, remedy=f"--run.eval_batches {there} does the same")


def _vocabulary(plan: Plan) -> Iterator[Caution]:
    text, config = plan.workload.text, plan.workload.config
    if text.used_vocabulary is not None and text.used_vocabulary < USED_SHARE * text.vocab_size:
        learnt = max(LEAST_ADVISED, text.used_vocabulary)
        if learnt < text.vocab_size:  # the unused bytes of a smaller one are no loss: nothing byte-level is without
            told = f"of the tokenizer's {text.vocab_size:,} tokens {text.used_vocabulary:,} occur in the text"
            remedy = f"--data.tokenizer bpe --data.vocab_size {learnt}, learnt on this very text"
            yield Caution(told=told, remedy=remedy)
    if plan.machine.kind == "cuda" and config.vocab_size % 64:
        padded = padded_vocabulary(config.vocab_size, 64)
        told = f"a vocabulary of {config.vocab_size:,} is no multiple of 64, and products of it are slower on a GPU"
        yield Caution(told=told, remedy=f"--data.vocab_multiple 64 makes it {padded:,}")


def _precision(plan: Plan) -> Iterator[Caution]:
    if plan.machine.kind != "cuda" or product_dtype(plan.workload.precision).itemsize != 4:
        return
    sheet = data_sheet(plan.machine.name)
    if sheet is None:
        return
    half = "bf16" if "bf16" in sheet.tflops else "16"
    rate = sheet.tflops["bf16" if half == "bf16" else "fp16"]
    told = f"{plan.workload.precision} multiplies at {sheet.tflops['fp32']:g} of the {rate:g} TFLOP/s of this device"
    yield Caution(told=told, remedy=f"--trainer.precision {half}-mixed")


def _disk(plan: Plan, free: float) -> Caution:
    told = f"the checkpoints take {bytes_text(plan.disk_bytes)}, and {bytes_text(free)} are free"
    keep = int(free / plan.checkpoint_bytes) - 1
    return Caution(told=told, remedy=f"--run.keep {keep}" if keep > 0 else "another disk: --run.root FOLDER")


CHECKS: tuple[Callable[[Plan], Iterator[Caution]], ...] = (
    _memory,
    _windows,
    _busy,
    _devices,
    _passes,
    _warmup,
    _looking,
    _held_out,
    _vocabulary,
    _precision,
)
