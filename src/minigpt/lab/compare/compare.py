"""`compare`: what differs between runs, what came out, and which differences can be claimed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from minigpt.errors import CheckpointError, ConfigError
from minigpt.lab.compare.curves import shortest_end, validation_curve
from minigpt.lab.compare.data import choose_measure
from minigpt.lab.compare.groups import Grouped, group_runs, home_of, sweep_labels
from minigpt.lab.compare.notes import lost_groups, notes_on, notes_on_sweeps
from minigpt.lab.compare.result import By, Comparison, Curve, LeftOut, Measure, Run, field_of
from minigpt.lab.compare.runs import repeated, summarise_group, summarise_run
from minigpt.lab.compare.sources import RunSource, find_sources, told_apart
from minigpt.lab.compare.table import note_on_columns
from minigpt.lab.compare.verdicts import Sample, verdicts
from minigpt.runs.records import RunRecord

_NOTHING_CAME = frozenset({"diverged", "failed", "damaged"})


def compare(paths: str | Path | Sequence[str | Path], by: By | None = None, baseline: str | None = None) -> Comparison:
    """Compare the runs that `paths` mean: run folders, names under runs/, a sweep's folder, a folder of runs.

    `by` says which value of a run the verdicts are about; none: the final one, or that at equal tokens where a run is
    not finished. `baseline` names the group, or a run of it, that the others are compared with; none: a sweep's `base`,
    else the group of the first run. Raises CheckpointError for what is no run or has no curve, and ConfigError for a
    baseline that is not there, and where `paths` is empty.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise ConfigError("there is nothing to compare: no run was named")
    sources = find_sources(paths)
    name_of = dict(zip([source.folder for source in sources], told_apart([s.folder for s in sources]), strict=True))
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
    counted = [run for run in in_order if run.repeats is None]
    by = by or ("final" if all(run.state == "finished" for run in counted) else "tokens")
    samples = [
        _sample(group, own, left_out, of=records[first], field=field_of(by, measure))
        for group, own in zip(groups, runs, strict=True)
        for first in group.members[:1]
    ]
    lost = lost_groups(left_out, [group.name for group in groups])
    found = Comparison(
        name=Path(paths[0]).resolve().name if len(paths) == 1 else f"{len(in_order)} runs",
        measure=measure,
        by=by,
        baseline=groups[0].name,
        groups=[summarise_group(group.name, group.differing, own) for group, own in zip(groups, runs, strict=True)],
        runs=in_order,
        left_out=left_out,
        verdicts=verdicts(samples, measure),
        notes=[*notes, *notes_on_sweeps(groups), *lost, *notes_on(in_order, records, by, equal)],
        equal=equal,
        curves={str(record.folder): curve for record, curve in zip(records, curves, strict=True)},
    )
    return replace(found, notes=[*found.notes, *note_on_columns(found)])


def _left_out(sources: Sequence[RunSource], groups: Sequence[Grouped], name_of: dict[Path, str]) -> list[LeftOut]:
    """The runs that cannot be compared."""
    told = sweep_labels([source.group for source in sources if source.group is not None])
    made = []
    for source in sources:
        if source.reason:
            home = home_of(source, groups)
            group = home.name if home else told[source.group] if source.group else ""
            made.append(LeftOut(name=name_of[source.folder], group=group, state=source.state, reason=source.reason))
    return made


def _curve(record: RunRecord, measure: Measure) -> Curve:
    curve = validation_curve(record, measure)
    if not curve.values:
        raise CheckpointError(f"{record.folder} has no {measure.replace('_', ' ')}: its tokens stand for no text")
    return curve


def _summaries(
    records: Sequence[RunRecord], names: Sequence[str], curves: Sequence[Curve], groups: Sequence[Grouped]
) -> tuple[list[list[Run]], dict[str, float | None]]:
    """The runs of each group, and where the values at equal cost are read: at the end of the shortest that counts."""
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


def _sample(group: Grouped, runs: Sequence[Run], left_out: Sequence[LeftOut], *, of: RunRecord, field: str) -> Sample:
    """What the verdict on a group is made from; `of` is one of its runs, which all have its data and its model."""
    values = {run.seed: getattr(run, field) for run in runs if run.repeats is None}
    return Sample(
        group=group.name,
        data=of.identity,
        tokenizer=of.tokenizer_fingerprint,
        loses=of.loses,
        model=of.model,
        values={seed: value for seed, value in values.items() if value is not None},
        unknown=sum(value is None for value in values.values()),
        # What is left of a group that lost runs may be the lucky ones.
        missing=sum(each.group == group.name and each.state in _NOTHING_CAME for each in left_out),
    )
