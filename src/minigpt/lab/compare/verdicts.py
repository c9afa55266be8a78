"""Verdicts: what can be claimed about each group against the baseline, as sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minigpt.data.identity import DataIdentity
from minigpt.lab.compare.result import Claim, Verdict
from minigpt.lab.compare.statistics import CONFIDENCE, Difference, difference, holm
from minigpt.model.config import GPTConfig


@dataclass(frozen=True, kw_only=True)
class GroupValues:
    """The values of one group that a verdict is based on."""

    group: str
    data: DataIdentity
    """Identifies the text it is validated on."""
    tokenizer: str
    """The tokenizer's fingerprint."""
    loses: str
    """What the tokenizer loses of the text, as a phrase; empty: nothing."""
    model: GPTConfig
    values: dict[int, float]
    """By seed."""
    unknown: int = 0
    """Number of runs without a value: those that have one may be the fast ones, so there is no verdict."""
    missing: int = 0
    """Number of runs of the group that failed or diverged."""


def verdicts(groups: Sequence[GroupValues], unit: str, evaluation: str = "") -> list[Verdict]:
    """A verdict for each group but the first, which is the baseline; p-values are corrected by Holm's method.

    The values are losses in `unit`, of which less is better, or those of `evaluation`.
    """
    baseline, *others = groups
    tests: list[tuple[GroupValues, Difference | None]] = [
        (other, None if _incomparable(other, baseline, evaluation) else _difference(other, baseline))
        for other in others
    ]
    known = [test.p for _, test in tests if test is not None and test.p is not None]
    corrected = iter(holm(known))
    made = []
    for other, test in tests:
        p = next(corrected) if test is not None and test.p is not None else None
        made.append(_verdict(other, baseline, test, p, n_tests=len(known), unit=unit, evaluation=evaluation))
    return made


def _difference(ours: GroupValues, theirs: GroupValues) -> Difference:
    return difference(ours.values, theirs.values, one_model=ours.model == theirs.model)


def _verdict(
    ours: GroupValues,
    theirs: GroupValues,
    test: Difference | None,
    corrected: float | None,
    *,
    n_tests: int,
    unit: str,
    evaluation: str,
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
        reason = _incomparable(ours, theirs, evaluation)
        return replace(plain, text=f"no verdict on {ours.group}: {reason}", why=reason)
    missing = [
        f"{group.missing} of {group.missing + len(group.values)} runs of {group.group} gave no result"
        for group in (ours, theirs)
        if group.missing
    ]
    lost = "".join(f"; {each}" for each in missing)
    gap = f"{test.difference:+.{_digits(test)}f}"
    if corrected is None or test.half_width is None:
        text, why = _without_interval(ours, theirs, test, f"{gap} {evaluation or unit}")
        return replace(plain, text=text + lost, size=gap, why="; ".join([why, *missing]))
    plain = replace(plain, size=f"{gap} ± {test.half_width:.{_digits(test)}f}", why="; ".join(missing))
    size = f"{abs(test.difference):.{_digits(test)}f} ± {test.half_width:.{_digits(test)}f}"
    tested = ", paired" if test.method == "paired" else ""
    many = f" corrected for {n_tests} comparisons" if n_tests > 1 else ""
    facts = f"({_seeds(ours, theirs)}{tested}, {_p(corrected)}{many})"
    if corrected >= 1 - CONFIDENCE:
        between = f"no difference can be claimed between {ours.group} and {theirs.group}"
        return replace(plain, text=f"{between}: {plain.size} {evaluation or unit} {facts}{lost}")
    claim: Claim
    if evaluation:
        claim = "lower" if test.difference < 0 else "higher"
        sentence = f"{ours.group} has a {claim} {evaluation} than {theirs.group} by {size}"
    else:
        claim = "better" if test.difference < 0 else "worse"
        sentence = f"{ours.group} is {claim} than {theirs.group} by {size} {unit}"
    return replace(plain, claim=claim, text=f"{sentence} {facts}{lost}")


def _incomparable(ours: GroupValues, theirs: GroupValues, evaluation: str) -> str:
    """Why there is no verdict; empty if there is one."""
    for group in (ours, theirs):
        if not group.values:
            return f"{group.group} has no value here"
        if group.unknown:
            some = f"{group.unknown} of {group.unknown + len(group.values)} runs"
            return f"{some} of {group.group} have no value here"
    return "" if evaluation else _other_text(ours, theirs)


def _other_text(ours: GroupValues, theirs: GroupValues) -> str:
    """Why losses of these two cannot be compared; empty if they can."""
    same_text = ours.data.same_held_out(theirs.data)
    if same_text is None:
        return f"it is not known whether it is validated on the same text as {theirs.group}"
    if not same_text:
        return f"it is not validated on the same text as {theirs.group}"
    for group in (ours, theirs):
        if group.loses and ours.tokenizer != theirs.tokenizer:
            return (
                f"the tokenizer of {group.group} loses {group.loses}, and bits per byte of the rest cannot be compared "
                "with another tokenizer's"
            )
    return ""


def _without_interval(ours: GroupValues, theirs: GroupValues, test: Difference, gap: str) -> tuple[str, str]:
    """The sentence of a verdict without an interval, and its reason in a few words."""
    single = [group.group for group in (ours, theirs) if len(group.values) == 1]
    if len(single) == 2:
        why = "one seed: no interval"
        return f"{why}; {ours.group} differs from {theirs.group} by {gap}, but nothing can be claimed", why
    if single:
        why = f"one seed of {single[0]}: no interval"
        return f"{why}; {ours.group} differs from {theirs.group} by {gap}", why
    if test.difference == 0:
        return f"{ours.group} and {theirs.group} are identical to the last bit", "identical to the last bit"
    why = "no interval: the seeds do not differ"
    return f"{why}; {ours.group} differs from {theirs.group} by {gap}", why


def _seeds(ours: GroupValues, theirs: GroupValues) -> str:
    counts = [len(ours.values), len(theirs.values)]
    return f"{counts[0]} seeds" if counts[0] == counts[1] else f"{counts[0]} and {counts[1]} seeds"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _digits(test: Difference) -> int:
    """Decimal places: three, or as many as two significant digits of the interval need."""
    width = test.half_width or abs(test.difference)
    return max(3, 1 - math.floor(math.log10(width))) if width > 0 else 3
