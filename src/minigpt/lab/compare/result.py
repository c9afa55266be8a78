"""What a comparison of runs comes to, as plain dataclasses."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from minigpt.lab.compare.statistics import Estimate, Method

Measure = Literal["loss", "bits_per_byte"]
UNITS: dict[Measure, str] = {"loss": "nats", "bits_per_byte": "bits per byte"}

By = Literal["final", "best", "tokens", "flops", "time"]
"""Which value of a run counts: the last one, the lowest, or that at equal tokens, FLOPs or training time."""

Claim = Literal["better", "worse", "none"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The validations of one run, in the measure of the comparison."""

    tokens: list[int]
    """Trained on by then."""
    flops: list[float]
    """Of that training."""
    seconds: list[float]
    """Of training, without validations and checkpoints; empty: not recorded."""
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run came to. Losses are nats per token, on the validation split."""

    name: str
    folder: str
    group: str
    seed: int
    state: str
    repeats: str | None
    """The run that it does again: same group, same seed. It counts in no mean."""
    steps: int
    tokens: int
    flops: float
    seconds: float | None
    """Of training, without validations and checkpoints."""
    validations: int
    """How often it was validated."""
    parameters: int
    tokens_per_second: float | None
    """The median over the run."""
    final_loss: float
    best_loss: float
    final_bits_per_byte: float | None
    best_bits_per_byte: float | None
    at_equal_tokens: float | None
    """In the measure of the comparison, read off the curve where the shortest of the runs ends."""
    at_equal_flops: float | None
    at_equal_time: float | None


NUMBERS = (
    "final_loss", "best_loss", "final_bits_per_byte", "best_bits_per_byte", "at_equal_tokens", "at_equal_flops",
    "at_equal_time", "tokens_per_second", "parameters", "seconds",
)  # fmt: skip
"""Of a run's fields, those that have a mean over the seeds."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in nothing but the seed."""

    name: str
    settings: dict[str, Any]
    """By dotted key, of those that differ between the groups."""
    runs: list[str]
    seeds: list[int]
    """Of the runs that count."""
    estimates: dict[str, Estimate]
    """Of `NUMBERS`; one that not all its runs have is left out."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A run that cannot be compared."""

    name: str
    group: str
    """Empty: no run like it is compared, and it belongs to no sweep."""
    state: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a group stands to the baseline."""

    group: str
    baseline: str
    claim: Claim
    text: str
    """The verdict as a sentence."""
    difference: float | None
    """Mean of the group minus mean of the baseline; none: they do not compare."""
    half_width: float | None
    """Of the 95 % interval of this difference by itself."""
    p: float | None
    p_corrected: float | None
    """Holm's, for all groups that are compared with the baseline."""
    method: Method | None
    size: str = ""
    """The difference in digits, with half of its interval where there is one: `-0.012 ± 0.030`."""
    why: str = ""
    """Why nothing can be said, or what else a reader must know of the runs; empty: nothing."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All of it."""

    name: str
    measure: Measure
    by: By
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

    def __repr__(self) -> str:
        """The claims as sentences, and how many groups there are of which nothing can be claimed."""
        claims = [verdict.text for verdict in self.verdicts if verdict.claim != "none"]
        rest = len(self.verdicts) - len(claims)
        head = f"{len(self.runs)} runs in {len(self.groups)} groups, compared with {self.baseline}"
        return "\n".join([head, *claims, *([f"no difference can be claimed of {rest} groups"] if rest else [])])


def field_of(by: By, measure: Measure) -> str:
    """Which of a run's numbers the verdicts are about."""
    return f"{by}_{measure}" if by in {"final", "best"} else f"at_equal_{by}"


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """Plain values for JSON, which has no word for a number that is not finite: such a one is null."""
    return {name: _plain(value) for name, value in asdict(comparison).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
