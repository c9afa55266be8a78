"""The result of a comparison of runs, as plain dataclasses."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from minigpt.lab.compare.statistics import Estimate, Method

Measure = Literal["loss", "bits_per_byte"]
UNITS: dict[Measure, str] = {"loss": "nats", "bits_per_byte": "bits per byte"}

EVALUATION = "eval/"
"""The beginning of the names of evaluations, as columns of metrics.csv."""

By = Literal["final", "best", "tokens", "flops", "time"]
"""Which value of a run is compared: the last one, the lowest, or that at equal tokens, FLOPs or training time."""

Claim = Literal["better", "worse", "higher", "lower", "none"]
"""What may be said of a difference. A lower loss is better; which way an evaluation is better is
not known."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The validations of one run, in the measure of the comparison."""

    tokens: list[int]
    """Tokens trained on at each validation."""
    flops: list[float]
    """FLOPs of training at each validation."""
    seconds: list[float]
    """Seconds of training, without validations and checkpoints; empty: not recorded."""
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The numbers of one run. Losses are nats per token, on the validation split."""

    name: str
    folder: str
    group: str
    seed: int
    state: str
    repeats: str | None
    """The run that it repeats: same group, same seed. It counts in no mean."""
    steps: int
    tokens: int
    flops: float
    seconds: float | None
    """Seconds of training, without validations and checkpoints."""
    validations: int
    """How many there were."""
    parameters: int
    tokens_per_second: float | None
    """The median over the run."""
    final_loss: float
    best_loss: float
    final_bits_per_byte: float | None
    best_bits_per_byte: float | None
    at_equal_tokens: float | None
    """In the measure of the comparison, interpolated where the shortest of the runs ends."""
    at_equal_flops: float | None
    at_equal_time: float | None
    evaluations: dict[str, float] = field(default_factory=dict)
    """The last number of each curve of `run.evaluations`: `eval/LABEL/NAME`."""

    def number(self, name: str) -> float | None:
        """The value of a field, or of an evaluation."""
        return self.evaluations.get(name) if name.startswith(EVALUATION) else getattr(self, name)


NUMBERS = (
    "final_loss", "best_loss", "final_bits_per_byte", "best_bits_per_byte", "at_equal_tokens", "at_equal_flops",
    "at_equal_time", "tokens_per_second", "parameters", "seconds",
)  # fmt: skip
"""The fields of a run that are averaged over the seeds."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ only in the seed."""

    name: str
    settings: dict[str, Any]
    """The settings that differ between the groups, by dotted key."""
    runs: list[str]
    seeds: list[int]
    """The seeds of the runs that count."""
    estimates: dict[str, Estimate]
    """Means of `NUMBERS` and of the evaluations; one that is missing in any of its runs is left out."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A run that cannot be compared."""

    name: str
    group: str
    """Empty: no run with its settings is compared, and it belongs to no sweep."""
    state: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a group compares with the baseline."""

    group: str
    baseline: str
    claim: Claim
    text: str
    """The verdict as a sentence."""
    difference: float | None
    """Mean of the group minus mean of the baseline; none: they cannot be compared."""
    half_width: float | None
    """Half the width of the 95 % interval of this difference, not corrected for several comparisons."""
    p: float | None
    p_corrected: float | None
    """By Holm's method, for all groups that are compared with the baseline."""
    method: Method | None
    size: str = ""
    """The difference as text, with half of its interval where there is one: `-0.012 ± 0.030`."""
    why: str = ""
    """Why there is no verdict, or how many runs gave no result; empty: neither."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Groups, runs, verdicts and notes."""

    name: str
    measure: Measure
    by: By
    metric: str | None = None
    """The evaluation that the verdicts are about, instead of `measure`."""
    baseline: str
    groups: list[Group]
    runs: list[Run]
    left_out: list[LeftOut]
    verdicts: list[Verdict]
    notes: list[str]
    """What a reader must know to read the numbers right."""
    equal: dict[str, float | None]
    """`tokens`, `flops` and `time` (seconds) at which the values at equal cost are read."""
    curves: dict[str, Curve]
    """By run folder."""

    @property
    def field(self) -> str:
        """The number of a run that the verdicts are about."""
        return self.metric or field_of(self.by, self.measure)

    @property
    def unit(self) -> str:
        """The unit of the differences, or the name of the evaluation."""
        return self.metric.removeprefix(EVALUATION) if self.metric else UNITS[self.measure]

    def __repr__(self) -> str:
        """The claims as sentences, and the number of groups for which no difference can be claimed."""
        claims = [verdict.text for verdict in self.verdicts if verdict.claim != "none"]
        rest = len(self.verdicts) - len(claims)
        head = f"{len(self.runs)} runs in {len(self.groups)} groups, compared with {self.baseline}"
        return "\n".join([head, *claims, *([f"no difference can be claimed for {rest} groups"] if rest else [])])


def field_of(by: By, measure: Measure) -> str:
    """The field of a run that the verdicts are about."""
    return f"{by}_{measure}" if by in {"final", "best"} else f"at_equal_{by}"


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """Convert to plain values for JSON; numbers that are not finite become null."""
    return {name: _plain(value) for name, value in asdict(comparison).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
