"""`compare`: what differs between runs, what came out, and which differences can be claimed."""

from collections.abc import Sequence
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.records import RunRecord
from minigpt.study.compare_curves import shortest_end, validation_curve
from minigpt.study.compare_data import choose_measure, text_of
from minigpt.study.compare_groups import group_runs
from minigpt.study.compare_notes import lost_groups, notes_on
from minigpt.study.compare_result import By, Comparison, Curve, LeftOut, Measure, Run, field_of
from minigpt.study.compare_runs import repeated, summarise_group, summarise_run
from minigpt.study.compare_sources import find_sources
from minigpt.study.compare_verdicts import Sample, verdicts

_NOTHING_CAME = frozenset({"diverged", "failed", "damaged"})


def compare(paths: Sequence[str | Path], by: By | None = None, baseline: str | None = None) -> Comparison:
    """Compare the runs that `paths` mean: run folders, names under runs/, a sweep's folder, a folder of runs.

    `by` says which value of a run the verdicts are about; none: the final one, or that at equal tokens where a run is
    not finished. `baseline` names the group, or a run of it, that the others are compared with; none: a sweep's `base`,
    else the group of the first run. Raises CheckpointError for what is no run or has no curve, and ConfigError for a
    baseline that is not there.
    """
    sources = find_sources(paths)
    usable = [(source, source.record) for source in sources if source.record is not None]
    if not usable:
        reasons = "; ".join(f"{source.name} is {source.state}: {source.reason}" for source in sources[:3])
        raise CheckpointError(f"there is nothing to compare: {reasons}{'; ...' if len(sources) > 3 else ''}")
    left_out = [
        LeftOut(name=source.name, group=source.group, state=source.state, reason=source.reason)
        for source in sources
        if source.record is None
    ]
    records = [record for _, record in usable]
    texts = text_of(records)
    measure, notes = choose_measure(records, texts)
    grouping = group_runs(
        records, [source.name for source, _ in usable], [source.group for source, _ in usable], baseline
    )
    curves = [_curve(record, measure) for record in records]
    equal = {
        "tokens": shortest_end([curve.tokens for curve in curves]),
        "flops": shortest_end([curve.flops for curve in curves]),
        "time": shortest_end([curve.seconds for curve in curves]),
    }
    runs: dict[str, list[Run]] = {}
    for name, indices in zip(grouping.names, grouping.members, strict=True):
        repeats = repeated([records[index] for index in indices])
        runs[name] = [
            summarise_run(records[index], curves[index], equal, group=name, repeats=repeat)
            for index, repeat in zip(indices, repeats, strict=True)
        ]
    in_order = [run for group in runs.values() for run in group]
    by = by or ("final" if all(run.state == "finished" for run in in_order) else "tokens")
    samples = [
        Sample(
            group=name,
            text=texts[indices[0]],
            model=records[indices[0]].model,
            values=_values(runs[name], field_of(by, measure)),
            # What is left of a group that lost runs may be the lucky ones.
            missing=sum(each.group == name and each.state in _NOTHING_CAME for each in left_out),
        )
        for name, indices in zip(grouping.names, grouping.members, strict=True)
    ]
    return Comparison(
        name=Path(paths[0]).resolve().name if len(paths) == 1 else f"{len(in_order)} runs",
        measure=measure,
        by=by,
        baseline=grouping.names[0],
        groups=[
            summarise_group(name, settings, runs[name])
            for name, settings in zip(grouping.names, grouping.settings, strict=True)
        ],
        runs=in_order,
        left_out=left_out,
        verdicts=verdicts(samples, measure),
        notes=[*notes, *lost_groups(left_out, grouping.names), *notes_on(in_order, records, by)],
        equal=equal,
        curves={str(record.folder): curve for record, curve in zip(records, curves, strict=True)},
    )


def _curve(record: RunRecord, measure: Measure) -> Curve:
    curve = validation_curve(record, measure)
    if not curve.values:
        raise CheckpointError(f"{record.folder} has no {measure.replace('_', ' ')}: its tokens stand for no text")
    return curve


def _values(runs: Sequence[Run], field: str) -> dict[int, float]:
    """What the verdict is about, by seed."""
    values = {run.seed: getattr(run, field) for run in runs if run.repeats is None}
    return {seed: value for seed, value in values.items() if value is not None}
