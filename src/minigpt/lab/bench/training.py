"""Time training steps under the Trainer, in a bare loop, and of another library."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from minigpt.lab.bench.contenders import CONTENDERS, BareLoop, our_loop
from minigpt.lab.bench.measure import Interleaving, ReportProgress, Turn, no_progress
from minigpt.lab.bench.memory import step_bytes
from minigpt.lab.bench.setting import Setting
from minigpt.system.matmul import fastest_product
from minigpt.system.output import console
from minigpt.system.precision import product_dtype
from minigpt.training.config import Experiment
from minigpt.training.fit import fit
from minigpt.training.position import TurnTaker

TRAINER = "minigpt, Trainer"
BARE = "minigpt, bare loop"
PRODUCTS = "matrix products"
"""Matrix products take turns as well: a peak measured on a busy machine would be too low."""
_PRODUCT_SECONDS = 0.2
WARMUP = 10
"""Steps before timing: the first ones allocate, choose kernels and fill caches."""
_NEVER = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measurements of one contender."""

    name: str
    seconds: list[float]
    """Seconds per step in each round."""
    flops_per_token: int
    n_bytes: int | None
    """Peak bytes of a step; None if they cannot be told from those of others."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """All contenders, and the fastest matrix product measured meanwhile."""

    results: list[Result]
    peak: float
    """FLOP/s."""


def race(
    setting: Setting,
    *,
    against: str | None,
    steps: int,
    n_rounds: int,
    warmup: int = WARMUP,
    progress: ReportProgress = no_progress,
) -> Race:
    """Time rounds of `steps` training steps of each contender.

    They are the Trainer (with TensorBoard, metrics.csv and the checks of a run, without validations and checkpoints),
    our model in a bare loop, and, with `against`, another library's in the same loop.

    Raises ConfigError if that library is missing, SystemExit with the Trainer's exit code if a signal stopped it.
    """
    with tempfile.TemporaryDirectory(prefix="minigpt-bench-") as root:
        experiment = undisturbed(setting.experiment, root, warmup + n_rounds * steps + 1)
        setting = replace(setting, experiment=experiment)
        loops: dict[str, BareLoop] = {BARE: our_loop(setting)}
        if against:
            loops[against] = CONTENDERS[against](setting)
        for loop in loops.values():
            loop.run(warmup)
        n_bytes = {name: step_bytes(loop) for name, loop in loops.items()}
        peaks: list[float] = []
        guests: dict[str, Turn] = {name: partial(loop.run, steps) for name, loop in loops.items()}
        guests[PRODUCTS] = lambda: peaks.append(
            fastest_product(setting.device, product_dtype(setting.precision), _PRODUCT_SECONDS)
        )
        turns = Interleaving(guests, n_rounds, setting.device, host=TRAINER, progress=progress)
        experiment.trainer["callbacks"] = [
            *_listed(experiment.trainer.get("callbacks")),
            TurnTaker(warmup, steps, turns.take_turns),
        ]
        try:
            code = fit(experiment, console=console(quiet=True), prepared=setting.prepared)
        finally:
            turns.abandon()
        if code:
            raise SystemExit(code)
    flops = {TRAINER: loops[BARE].flops_per_token, **{name: loop.flops_per_token for name, loop in loops.items()}}
    results = [
        Result(
            name=name,
            seconds=[turn / steps for turn in turns.seconds[name]],
            flops_per_token=n_flops,
            n_bytes=n_bytes.get(name),
        )
        for name, n_flops in flops.items()
    ]
    return Race(results=results, peak=max(peaks))


def undisturbed(experiment: Experiment, root: str, max_steps: int) -> Experiment:
    """The experiment with its own folder, one device, and only training steps: validation and checkpoint come at the
    last step, which is not timed."""
    run = replace(
        experiment.run,
        root=root,
        name="bench",
        eval_every=_NEVER,
        eval_batches=1,
        save_every=_NEVER,
        sample_every=0,
        init_from=None,
    )
    return replace(experiment, run=run, trainer={**experiment.trainer, "max_steps": max_steps, "devices": 1})


def _listed(value: object) -> Sequence[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
