"""Warnings about a planned run, each with the nearest setting that works: computed, not guessed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from minigpt.data.options import LEAST_BPE_VOCABULARY
from minigpt.lab.plan.memory import largest_batch
from minigpt.lab.plan.plan import Plan
from minigpt.lab.scaling.law import MOST_EPOCHS
from minigpt.model.config import padded_vocabulary
from minigpt.system.limits import usable_cores
from minigpt.system.precision import product_dtype
from minigpt.system.units import bytes_text, count_text, seconds_text
from minigpt.system.utilisation import data_sheet

USELESS_EPOCHS = 16
"""From about here more epochs add almost nothing (Muennighoff et al. 2023, figure 1)."""
OVERHEAD_SHARE = 0.1
"""The largest share of the training time that validation, samples or checkpoints should take each."""
WARMUP_SHARE = 0.1
"""A warm-up of at most a tenth of the run is customary."""
USED_SHARE = 0.5
"""Share of the vocabulary that occurs, below which most of its rows are never trained."""
LEAST_ADVISED = 2 * LEAST_BPE_VOCABULARY
"""Vocabulary of a BPE of which more than half occurs, however few of the bytes do: its merges all occur."""


@dataclass(frozen=True)
class PlanWarning:
    """One problem, and what to do about it."""

    message: str
    suggestion: str
    """Command-line options, or a sentence."""

    def __str__(self) -> str:
        return f"{self.message}: {self.suggestion}"


def warnings_of(plan: Plan, disk_free: float = math.inf) -> list[PlanWarning]:
    """All warnings, the gravest first. `disk_free` is in bytes."""
    found = [warning for check in CHECKS for warning in check(plan)]
    if plan.disk_bytes > disk_free:
        found.insert(0, _disk(plan, disk_free))
    return found


def _memory(plan: Plan) -> Iterator[PlanWarning]:
    if plan.fits:
        return
    limit, workload = plan.machine.bytes_per_device, plan.workload
    message = (
        f"does not fit: {bytes_text(plan.memory.total)} of memory, and there are {bytes_text(limit)} for each process"
    )
    batch, devices = largest_batch(workload, plan.machine.kind, limit), workload.devices
    if batch is not None:
        # Keep the tokens per step (rounded up to a multiple of the devices) in more and smaller batches: the largest
        # divisor of the windows per device that fits.
        windows = workload.windows_per_device
        share = max(n for n in range(1, batch // devices + 1) if windows % n == 0)
        accumulate = workload.accumulate * windows // share
        suggestion = (
            f"--data.batch_size {share * devices} --trainer.accumulate_grad_batches {accumulate} "
            f"(at most {batch} windows fit)"
        )
        yield PlanWarning(message, suggestion)
        return
    for precision in ("bf16-mixed", "bf16-true"):
        batch = largest_batch(replace(workload, precision=precision), plan.machine.kind, limit)
        if batch is not None:
            yield PlanWarning(message, f"--trainer.precision {precision} --data.batch_size {batch}")
            return
    message += ", not even one window in bf16-true"
    yield PlanWarning(message, f"--model.n_embd or --model.n_layer must be smaller, with --data.batch_size {devices}")


def _windows(plan: Plan) -> Iterator[PlanWarning]:
    text, block = plan.workload.text, plan.workload.config.block_size
    shortest = min(text.train_tokens, text.val_tokens)
    if shortest <= block:
        message = f"one of the splits has {shortest:,} tokens, and a window takes {block + 1:,}"
        yield PlanWarning(message, f"--model.block_size {max(1, shortest - 1)} or a longer text")


def _busy(plan: Plan) -> Iterator[PlanWarning]:
    load, cores = plan.machine.load, usable_cores()
    if plan.speed.is_measured and plan.machine.kind == "cpu" and load > 1.5 * cores:
        message = f"other programs kept this machine busy while it was timed (load {load:.1f} on {cores} cores)"
        yield PlanWarning(message, "the time is that of a run beside them; plan again without them")


def _devices(plan: Plan) -> Iterator[PlanWarning]:
    batch, devices = plan.workload.batch_size, plan.workload.devices
    if batch % devices:
        message = f"data.batch_size={batch} cannot be shared out among {devices} devices"
        suggestion = f"--data.batch_size {math.ceil(batch / devices) * devices}"
        yield PlanWarning(message, suggestion if plan.fits else f"any multiple of {devices} that fits")


def _epochs(plan: Plan) -> Iterator[PlanWarning]:
    workload = plan.workload
    if workload.epochs <= MOST_EPOCHS:
        return
    message = f"trains {round(workload.epochs):,} epochs"
    if workload.epochs >= USELESS_EPOCHS:
        message += ", and repeated tokens teach little after four epochs (Muennighoff et al. 2023)"
    else:
        message += "; up to four epochs repeated tokens are nearly as good as new ones (Muennighoff et al. 2023)"
    steps = int(MOST_EPOCHS * workload.text.train_tokens / workload.tokens_per_step)
    wanted = workload.tokens / MOST_EPOCHS
    more = f"a text of {count_text(wanted)} tokens, or dropout, watching the validation loss"
    yield PlanWarning(message, f"--trainer.max_steps {steps}, or {more}" if steps else more)


def _warmup(plan: Plan) -> Iterator[PlanWarning]:
    warmup, steps = plan.workload.optim.warmup_steps, plan.workload.max_steps
    if warmup < steps and warmup <= 5 * WARMUP_SHARE * steps:
        return
    if warmup >= steps:
        message = f"the warm-up of {warmup:,} steps is as long as the run of {steps:,}: the peak rate is never reached"
    else:
        message = f"the warm-up of {warmup:,} steps is {warmup / steps:.0%} of the run"
    yield PlanWarning(message, f"--optim.warmup_steps {int(WARMUP_SHARE * steps)} (a tenth of the run)")


def _overhead(plan: Plan) -> Iterator[PlanWarning]:
    """Validation, samples and checkpoints that take more than a tenth of the training time."""
    workload, times = plan.workload, plan.duration
    costs = {"validation": times.evaluation, "saving": times.saving, "sampling": times.sampling}
    keys = {"validation": "eval_every", "saving": "save_every", "sampling": "sample_every"}
    for name, seconds in costs.items():
        if seconds <= OVERHEAD_SHARE * times.training:
            continue
        key = f"run.{keys[name]}"
        every = getattr(workload, keys[name])
        wanted = math.ceil(min(every, workload.max_steps) * seconds / (OVERHEAD_SHARE * times.training))
        message = f"{name} takes {seconds_text(seconds)}, training itself {seconds_text(times.training)}"
        if wanted < workload.max_steps:
            yield PlanWarning(message, f"--{key} {wanted}")
        elif name == "validation":  # there is always one at the last step
            batches = int(
                workload.batches_per_evaluation * OVERHEAD_SHARE * times.training / seconds * workload.n_evaluations
            )
            yield PlanWarning(message, f"--{key} {workload.max_steps} --run.eval_batches {max(1, batches)}")
        elif workload.max_steps > every:
            yield PlanWarning(message, f"--{key} {workload.max_steps}")


def _held_out(plan: Plan) -> Iterator[PlanWarning]:
    workload = plan.workload
    there = workload.batches_per_evaluation
    if there < workload.eval_batches:
        message = f"run.eval_batches={workload.eval_batches}, and the held-out text has {there} batches"
        yield PlanWarning(message, f"--run.eval_batches {there} does the same")


def _vocabulary(plan: Plan) -> Iterator[PlanWarning]:
    text, config = plan.workload.text, plan.workload.config
    if text.used_vocabulary is not None and text.used_vocabulary < USED_SHARE * text.vocab_size:
        learnt = max(LEAST_ADVISED, text.used_vocabulary)
        if learnt < text.vocab_size:  # unused bytes are in every byte-level vocabulary
            message = f"of the tokenizer's {text.vocab_size:,} tokens {text.used_vocabulary:,} occur in the text"
            suggestion = f"--data.tokenizer bpe --data.vocab_size {learnt}, trained on this very text"
            yield PlanWarning(message, suggestion)
    if plan.machine.kind == "cuda" and config.vocab_size % 64:
        padded = padded_vocabulary(config.vocab_size, 64)
        message = f"a vocabulary of {config.vocab_size:,} is no multiple of 64, and products of it are slower on a GPU"
        yield PlanWarning(message, f"--data.vocab_multiple 64 makes it {padded:,}")


def _precision(plan: Plan) -> Iterator[PlanWarning]:
    if plan.machine.kind != "cuda" or product_dtype(plan.workload.precision).itemsize != 4:
        return
    sheet = data_sheet(plan.machine.name)
    if sheet is None:
        return
    half = "bf16" if "bf16" in sheet.tflops else "16"
    rate = sheet.tflops["bf16" if half == "bf16" else "fp16"]
    message = f"{plan.workload.precision} multiplies at {sheet.tflops['fp32']:g} of the {rate:g} TFLOP/s of this device"
    yield PlanWarning(message, f"--trainer.precision {half}-mixed")


def _disk(plan: Plan, free: float) -> PlanWarning:
    message = f"the checkpoints take {bytes_text(plan.disk_bytes)}, and {bytes_text(free)} are free"
    keep = int(free / plan.checkpoint_bytes) - 1
    return PlanWarning(message, f"--run.keep {keep}" if keep > 0 else "another disk: --run.root FOLDER")


CHECKS: tuple[Callable[[Plan], Iterator[PlanWarning]], ...] = (
    _memory,
    _windows,
    _busy,
    _devices,
    _epochs,
    _warmup,
    _overhead,
    _held_out,
    _vocabulary,
    _precision,
)
