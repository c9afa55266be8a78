"""Compare runs: the settings that differ, the results, and the differences that can be claimed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from minigpt.errors import CheckpointError, ConfigError, did_you_mean
from minigpt.lab.compare.data import choose_measure
from minigpt.lab.compare.groups import RunGroup, group_of, group_runs, sweep_labels
from minigpt.lab.compare.notes import lost_group_notes, run_notes, sweep_notes
from minigpt.lab.compare.result import EVALUATION, UNITS, By, Comparison, Curve, LeftOut, Measure, Run, field_of
from minigpt.lab.compare.sources import RunSource, disambiguate, find_sources
from minigpt.lab.compare.summaries import repeated, shortest_end, summarise_group, summarise_run, validation_curve
from minigpt.lab.compare.table import column_notes
from minigpt.lab.compare.verdicts import GroupValues, verdicts
from minigpt.runs.records import RunRecord

_WITHOUT_RESULT = frozenset({"diverged", "failed", "damaged"})


def compare(
    paths: str | Path | Sequence[str | Path],
    by: By | None = None,
    baseline: str | None = None,
    metric: str | None = None,
) -> Comparison:
    """Compare the runs in `paths`: run folders, names under runs/, a sweep's folder, or a folder of runs.

    `by` chooses the value of each run that the verdicts are about; by default the final one, or that at equal tokens
    if a run is not finished. `baseline` names the group, or one of its runs, that the others are compared with; by
    default a sweep's `base`, else the group of the first run. `metric` names an evaluation of the runs, as
    `eval/Rhymes/share`, whose last values are compared instead of the loss.

    Raises CheckpointError for a path that is no run or has no curve, and ConfigError for a baseline or a metric that
    does not exist and for empty `paths`.
    """
    if metric is not None and by not in {None, "final"}:
        raise ConfigError(f"--by {by} has no effect with --metric {metric}, of which the last value is compared")
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise ConfigError("there is nothing to compare: no run was named")
    sources = find_sources(paths)
    name_of = dict(zip([source.folder for source in sources], disambiguate([s.folder for s in sources]), strict=True))
    usable = [(source, source.record) for source in sources if source.record is not None and not source.reason]
    if not usable:
        reasons = "; ".join(f"{name_of[source.folder]} is {source.state}: {source.reason}" for source in sources[:3])
        raise CheckpointError(f"there is nothing to compare: {reasons}{'; ...' if len(sources) > 3 else ''}")
    records = [record for _, record in usable]
    names = [name_of[source.folder] for source, _ in usable]
    measure, notes = choose_measure(records)
    groups = group_runs(records, names, [source.group for source, _ in usable], baseline)
    left_out = _left_out(sources, groups, name_of)
    curves = [_curve(record, measure) for record in records]
    runs, equal = _summaries(records, names, curves, groups)
    in_order = [run for own in runs for run in own]
    metric = _evaluation(metric, in_order)
    counted = [run for run in in_order if run.repeats is None]
    by = (
        by
        or ("final" if metric else None)
        or ("final" if all(run.state == "finished" for run in counted) else "tokens")
    )
    values = [
        _group_values(group, own, left_out, of=records[first], field=metric or field_of(by, measure))
        for group, own in zip(groups, runs, strict=True)
        for first in group.members[:1]
    ]
    lost = lost_group_notes(left_out, [group.name for group in groups])
    found = Comparison(
        name=Path(paths[0]).resolve().name if len(paths) == 1 else f"{len(in_order)} runs",
        measure=measure,
        by=by,
        metric=metric,
        baseline=groups[0].name,
        groups=[summarise_group(group.name, group.differing, own) for group, own in zip(groups, runs, strict=True)],
        runs=in_order,
        left_out=left_out,
        verdicts=verdicts(values, UNITS[measure], evaluation=(metric or "").removeprefix(EVALUATION)),
        notes=[*notes, *sweep_notes(groups), *lost, *run_notes(in_order, records, by, equal)],
        equal=equal,
        curves={str(record.folder): curve for record, curve in zip(records, curves, strict=True)},
    )
    return replace(found, notes=[*found.notes, *column_notes(found)])


def _evaluation(metric: str | None, runs: Sequence[Run]) -> str | None:
    """The full name of an evaluation, which may be given without `eval/`; raises ConfigError if no run has it."""
    names = list(dict.fromkeys(name for run in runs for name in run.evaluations))
    if metric is None or metric in names:
        return metric
    if EVALUATION + metric in names:
        return EVALUATION + metric
    there = did_you_mean(metric, names) or (f"; there are {', '.join(names)}" if names else "; they have none")
    raise ConfigError(f"--metric {metric} is no evaluation of these runs{there}")


def _left_out(sources: Sequence[RunSource], groups: Sequence[RunGroup], name_of: dict[Path, str]) -> list[LeftOut]:
    """The runs that cannot be compared."""
    labels = sweep_labels([source.group for source in sources if source.group is not None])
    made = []
    for source in sources:
        if source.reason:
            home = group_of(source, groups)
            group = home.name if home else labels[source.group] if source.group else ""
            made.append(LeftOut(name=name_of[source.folder], group=group, state=source.state, reason=source.reason))
    return made


def _curve(record: RunRecord, measure: Measure) -> Curve:
    curve = validation_curve(record, measure)
    if not curve.values:
        raise CheckpointError(f"{record.folder} has no {measure.replace('_', ' ')}: its tokens stand for no text")
    return curve


def _summaries(
    records: Sequence[RunRecord], names: Sequence[str], curves: Sequence[Curve], groups: Sequence[RunGroup]
) -> tuple[list[list[Run]], dict[str, float | None]]:
    """Summarise the runs of each group; also the equal costs at which values are read: where the shortest run ends."""
    repeats = {position: first for group in groups for position, first in repeated(records, group.members).items()}
    counted = [curve for position, curve in enumerate(curves) if position not in repeats]
    equal = {
        "tokens": shortest_end([curve.tokens for curve in counted]),
        "flops": shortest_end([curve.flops for curve in counted]),
        "time": shortest_end([curve.seconds for curve in counted]),
    }
    runs = [
        [
            summarise_run(
                records[position],
                curves[position],
                equal,
                name=names[position],
                group=group.name,
                repeats=names[repeats[position]] if position in repeats else None,
            )
            for position in group.members
        ]
        for group in groups
    ]
    return runs, equal


def _group_values(
    group: RunGroup, runs: Sequence[Run], left_out: Sequence[LeftOut], *, of: RunRecord, field: str
) -> GroupValues:
    """The values that the verdict on a group is based on; `of` is any of its runs: they share data and model."""
    values = {run.seed: run.number(field) for run in runs if run.repeats is None}
    return GroupValues(
        group=group.name,
        data=of.identity,
        tokenizer=of.tokenizer_fingerprint,
        loses=of.loses,
        model=of.model,
        values={seed: value for seed, value in values.items() if value is not None},
        unknown=sum(value is None for value in values.values()),
        # The runs that are left of such a group may be the lucky ones.
        missing=sum(each.group == group.name and each.state in _WITHOUT_RESULT for each in left_out),
    )
