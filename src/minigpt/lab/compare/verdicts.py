"""What can be claimed of each group against the baseline, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minigpt.data.identity import DataIdentity
from minigpt.lab.compare.result import UNITS, Claim, Measure, Verdict
from minigpt.lab.compare.statistics import CONFIDENCE, Difference, difference, holm
from minigpt.model.config import GPTConfig


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The values of one group that count."""

    group: str
    data: DataIdentity
    """Which text it is validated on."""
    tokenizer: str
    """The tokenizer's fingerprint."""
    loses: str
    """What of the text the tokenizer loses, in words; empty: nothing."""
    model: GPTConfig
    values: dict[int, float]
    """By seed."""
    unknown: int = 0
    """Runs without one: those that have it may be the fast ones, so they say nothing of the group."""
    missing: int = 0
    """Runs of the group that came to no value."""


def verdicts(samples: Sequence[Sample], measure: Measure) -> list[Verdict]:
    """One for each sample but the first, which is the baseline; the p-values are corrected for being several."""
    baseline, *others = samples
    tests: list[tuple[Sample, Difference | None]] = [
        (other, None if _incomparable(other, baseline) else _difference(other, baseline)) for other in others
    ]
    known = [test.p for _, test in tests if test is not None and test.p is not None]
    corrected = iter(holm(known))
    made = []
    for other, test in tests:
        p = next(corrected) if test is not None and test.p is not None else None
        made.append(_verdict(other, baseline, test, p, n_tests=len(known), measure=measure))
    return made


def _difference(ours: Sample, theirs: Sample) -> Difference:
    return difference(ours.values, theirs.values, one_model=ours.model == theirs.model)


def _verdict(
    ours: Sample, theirs: Sample, test: Difference | None, corrected: float | None, *, n_tests: int, measure: Measure
) -> Verdict:
    plain = Verdict(
        group=ours.group,
        baseline=theirs.group,
        claim="none",
        text="",
        difference=test.difference if test else None,
        half_width=test.half_width if test else None,
        p=test.p if test else None,
        p_corrected=corrected,
        method=test.method if test else None,
    )
    if test is None:
        reason = _incomparable(ours, theirs)
        return replace(plain, text=f"no verdict on {ours.group}: {reason}", why=reason)
    missing = [
        f"{sample.missing} of {sample.missing + len(sample.values)} runs of {sample.group} came to nothing"
        for sample in (ours, theirs)
        if sample.missing
    ]
    lost = "".join(f"; {each}" for each in missing)
    gap = f"{test.difference:+.{_digits(test)}f}"
    if corrected is None or test.half_width is None:
        text, why = _without_interval(ours, theirs, test, f"{gap} {UNITS[measure]}")
        return replace(plain, text=text + lost, size=gap, why="; ".join([why, *missing]))
    plain = replace(plain, size=f"{gap} ± {test.half_width:.{_digits(test)}f}", why="; ".join(missing))
    size = f"{abs(test.difference):.{_digits(test)}f} ± {test.half_width:.{_digits(test)}f} {UNITS[measure]}"
    tested = ", pair by pair" if test.method == "paired" else ""
    many = f" corrected for {n_tests} comparisons" if n_tests > 1 else ""
    facts = f"({_seeds(ours, theirs)}{tested}, {_p(corrected)}{many})"
    if corrected >= 1 - CONFIDENCE:
        between = f"no difference can be claimed between {ours.group} and {theirs.group}"
        return replace(plain, text=f"{between}: {plain.size} {UNITS[measure]} {facts}{lost}")
    claim: Claim = "better" if test.difference < 0 else "worse"
    return replace(plain, claim=claim, text=f"{ours.group} is {claim} than {theirs.group} by {size} {facts}{lost}")


def _incomparable(ours: Sample, theirs: Sample) -> str:
    """Why there is no verdict; empty: there is."""
    for sample in (ours, theirs):
        if not sample.values:
            return f"{sample.group} has no value here"
        if sample.unknown:
            some = f"{sample.unknown} of {sample.unknown + len(sample.values)} runs"
            return f"{some} of {sample.group} have no value here"
    same_text = ours.data.same_held_out(theirs.data)
    if same_text is None:
        return f"it is not known whether it is validated on the text of {theirs.group}"
    if not same_text:
        return f"it is validated on another text than {theirs.group}"
    for sample in (ours, theirs):
        if sample.loses and ours.tokenizer != theirs.tokenizer:
            return (
                f"the tokenizer of {sample.group} loses {sample.loses}, and bits per byte of less text do not compare "
                "with another tokenizer's"
            )
    return ""


def _without_interval(ours: Sample, theirs: Sample, test: Difference, gap: str) -> tuple[str, str]:
    """The verdict as a sentence, and why it is none in a few words."""
    single = [sample.group for sample in (ours, theirs) if len(sample.values) == 1]
    if len(single) == 2:
        why = "one seed: no interval"
        return f"{why}; {ours.group} came out {gap} from {theirs.group}, and nothing can be claimed", why
    if single:
        why = f"one seed of {single[0]}: no interval"
        return f"{why}; {ours.group} came out {gap} from {theirs.group}", why
    if test.difference == 0:
        return f"{ours.group} and {theirs.group} came out the same to the last bit", "the same to the last bit"
    why = "no interval: no seed changes anything"
    return f"{why}; {ours.group} came out {gap} from {theirs.group}", why


def _seeds(ours: Sample, theirs: Sample) -> str:
    counts = [len(ours.values), len(theirs.values)]
    return f"{counts[0]} seeds" if counts[0] == counts[1] else f"{counts[0]} and {counts[1]} seeds"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _digits(test: Difference) -> int:
    """Places after the point: three, or as many as two digits of the interval need."""
    width = test.half_width or abs(test.difference)
    return max(3, 1 - math.floor(math.log10(width))) if width > 0 else 3
