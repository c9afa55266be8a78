"""A plan: all that can be known about a run before it starts, in numbers."""

from dataclasses import dataclass, replace

from minigpt.lab.plan.machine import Machine
from minigpt.lab.plan.memory import PRECISIONS, STRATEGIES, Memory, checkpoint_bytes, disk_bytes, step_memory
from minigpt.lab.plan.speed import TRAINER_SECONDS, Speed
from minigpt.lab.plan.workload import Workload
from minigpt.lab.scaling.law import FittedLaw, Forecast, compute_optimal, forecast
from minigpt.model.sizes import flops_per_token, parameters_by_part
from minigpt.system.units import bytes_text, seconds_text
from minigpt.system.utilisation import utilisation

STARTUP_SECONDS = 5.4
"""Before the first step, with a prepared corpus: `benchmarks/results/startup.md`."""
PREPARE_BYTES_PER_SECOND = 1.5e6
"""Speed of preparing a text, tokenizer included: base.yaml's 9 MB took 5 s on two cores."""
SAVE_SECONDS = 0.05
DISK_BYTES_PER_SECOND = 3e8
"""Speed at which an ordinary disk writes a checkpoint, with its checksum, and syncs it."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds of a run, by what they are spent on."""

    training: float
    evaluation: float
    saving: float
    sampling: float
    startup: float

    @property
    def total(self) -> float:
        """Wall-clock time of the command."""
        return self.training + self.evaluation + self.saving + self.sampling + self.startup


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """Memory under one strategy and precision."""

    strategy: str
    devices: int
    precision: str
    memory: Memory
    is_chosen: bool
    """Whether it is the config's own."""
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The resources a run needs, the time it takes, and the loss to expect."""

    workload: Workload
    machine: Machine
    speed: Speed
    parameters: dict[str, int]
    flops_per_token: int
    memory: Memory
    memory_rows: list[MemoryRow]
    duration: Duration
    price_per_hour: float | None
    checkpoint_bytes: float
    disk_bytes: float
    tokens_per_parameter: float
    optimum: tuple[float, float]
    """Parameters and tokens that are compute-optimal for the FLOPs of this run."""
    forecast: Forecast

    def __repr__(self) -> str:
        """Three lines: model and tokens, resources, loss."""
        return (
            f"{self.workload.n_parameters:,} parameters, {self.workload.max_steps:,} steps of "
            f"{self.workload.tokens_per_step:,} tokens on {self.machine.devices} x {self.machine.name}\n"
            f"{seconds_text(self.duration.total)}, {bytes_text(self.memory.total)} on each device "
            f"({'it fits' if self.fits else 'too much'}), {bytes_text(self.disk_bytes)} on the disk\n"
            f"loss {self.forecast.text}"
        )

    @property
    def fits(self) -> bool:
        """Whether the step fits into the memory of a device."""
        return self.memory.total <= self.machine.bytes_per_device

    @property
    def cost(self) -> float | None:
        """The price of all devices for the whole run; None without --price."""
        if self.price_per_hour is None:
            return None
        return self.price_per_hour * self.machine.devices * self.duration.total / 3600

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second of training, in whole steps: with the update and the Trainer's overhead."""
        return self.workload.tokens / self.duration.training

    @property
    def utilisation(self) -> float:
        """Model FLOPs utilisation (MFU): the share of all devices' peak at `tokens_per_second`."""
        return utilisation(self.flops_per_token, self.tokens_per_second, self.speed.peak * self.machine.at_once)


def make_plan(
    workload: Workload,
    machine: Machine,
    speed: Speed,
    *,
    law: FittedLaw | None = None,
    price_per_hour: float | None = None,
) -> Plan:
    """Plan `workload` on `machine`, whose batches take the times in `speed`."""
    return Plan(
        workload=workload,
        machine=machine,
        speed=speed,
        parameters=parameters_by_part(workload.config),
        flops_per_token=flops_per_token(workload.config),
        memory=step_memory(workload, machine.kind),
        memory_rows=_memory_rows(workload, machine),
        duration=duration(workload, speed),
        price_per_hour=price_per_hour,
        checkpoint_bytes=checkpoint_bytes(workload),
        disk_bytes=disk_bytes(workload),
        tokens_per_parameter=workload.tokens / workload.n_parameters,
        optimum=compute_optimal(workload.flops),
        forecast=forecast(
            law,
            n_parameters=workload.n_parameters,
            n_tokens=workload.tokens,
            epochs=workload.epochs,
            text=workload.text_in_tokens,
        ),
    )


def duration(workload: Workload, speed: Speed) -> Duration:
    """Seconds of the whole command."""
    step = workload.accumulate * speed.batch + speed.update + TRAINER_SECONDS
    saved = SAVE_SECONDS + checkpoint_bytes(workload) / DISK_BYTES_PER_SECOND
    unprepared = 0.0
    if not workload.text.is_exact:
        unprepared = workload.text.n_bytes / PREPARE_BYTES_PER_SECOND
    return Duration(
        training=workload.max_steps * step,
        evaluation=workload.n_evaluations * workload.batches_per_evaluation * speed.evaluation_batch,
        saving=workload.n_saves * saved,
        sampling=workload.n_samples * workload.sample_tokens * speed.sampled_token,
        # With ddp the first process starts the others after it has itself imported everything.
        startup=STARTUP_SECONDS * (2 if workload.strategy == "ddp" and workload.devices > 1 else 1) + unprepared,
    )


def _memory_rows(workload: Workload, machine: Machine) -> list[MemoryRow]:
    """The config's own strategy and precision, and the alternatives on this machine."""
    chosen = (workload.strategy, workload.precision)
    pairs = [chosen]
    for strategy in STRATEGIES:
        if (strategy == "ddp") == (workload.devices > 1):
            pairs += [(strategy, precision) for precision in PRECISIONS]
    if workload.devices > 1:
        pairs.append(("single", workload.precision))
    rows = []
    for strategy, precision in dict.fromkeys(pairs):
        devices = 1 if strategy == "single" else workload.devices
        other = replace(workload, strategy=strategy, precision=precision, devices=devices)
        memory = step_memory(other, machine.kind)
        rows.append(
            MemoryRow(
                strategy=strategy,
                devices=devices,
                precision=precision,
                memory=memory,
                is_chosen=(strategy, precision) == chosen,
                fits=memory.total <= machine.bytes_per_device,
            )
        )
    return rows
