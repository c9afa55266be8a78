"""Notes on what a reader must know to read the numbers right."""

from collections.abc import Iterator, Mapping, Sequence

from minigpt.lab.compare.groups import NEUTRAL_SETTINGS, RunGroup, differing_keys, sweep_labels
from minigpt.lab.compare.labels import yaml_text
from minigpt.lab.compare.result import By, LeftOut, Run
from minigpt.runs.records import RunRecord
from minigpt.runs.sessions import changed_on_the_way

_WHAT: dict[By, str] = {
    "final": "their final losses anyway",
    "best": "the lowest losses",
    "tokens": "the losses at equal tokens",
    "flops": "the losses at equal FLOPs",
    "time": "the losses at equal training time",
}
_COST: dict[By, str] = {"tokens": "tokens", "flops": "flops", "time": "seconds"}
"""The field of a run that says how far it went."""
_MIDWAY = 1.01
"""Times the shortest run: two of the same length never take exactly the same time."""
_SHOWN = 5


def run_notes(
    runs: Sequence[Run], records: Sequence[RunRecord], by: By, equal: Mapping[str, float | None]
) -> list[str]:
    """Notes on runs that repeat others, are not finished, ended at other steps, or ran on other machines."""
    repeats = [f"{run.name} repeats {run.repeats}" for run in runs if run.repeats is not None]
    notes = [f"{repeat} (same settings, same seed): it counts in no mean." for repeat in repeats]
    if len(repeats) > _SHOWN:
        notes = [f"{len(repeats)} runs repeat others (same settings, same seed) and count in no mean: {_few(repeats)}"]
    runs = [run for run in runs if run.repeats is None]
    early = {str(record.folder): f"stopped early: {record.stopped_early}" for record in records if record.stopped_early}
    unfinished = [f"{run.name} ({early.get(run.folder, run.state)})" for run in runs if run.state != "finished"]
    if unfinished:
        notes.append(f"Not finished: {_few(unfinished)}. The verdicts compare {_WHAT[by]}.")
    elif by == "final" and len({run.tokens for run in runs}) > 1:
        notes.append("The runs ended after different numbers of tokens; each final loss is that at the end of its run.")
    if by == "best" and len(counts := {run.validations for run in runs}) > 1:
        notes.append(
            f"The lowest losses are those of {min(counts)} to {max(counts)} validations: the lowest of more "
            "validations is lower by chance alone."
        )
    end = equal.get(by)
    if end is not None and any((getattr(run, _COST[by]) or 0) > _MIDWAY * end for run in runs):
        notes.append("Where the curve of a longer run is read midway, its learning rate has not decayed yet.")
    notes += [f"{record.name}: {record.note}." for record in records if record.note]
    notes += [
        f"{record.name} was resumed with other settings: {_few(changes)}." for record, changes in _changed(records)
    ]
    sessions = [record.sessions[-1] for record in records if record.sessions]
    if len({str((session.get("machine"), session.get("device"))) for session in sessions}) > 1:
        notes.append("The runs ran on different machines: times and tokens per second do not compare.")
    return notes


def _changed(records: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, list[str]]]:
    """The runs whose settings a resume changed, with the changes; they are compared by their last settings."""
    for record in records:
        found = [
            f"{key} {yaml_text(before)} before step {step:,}, {yaml_text(after)} from there"
            for step, key, before, after in changed_on_the_way(record.sessions)
            if key not in NEUTRAL_SETTINGS | {"trainer.max_time"}
        ]
        if found:
            yield record, found


def lost_group_notes(left_out: Sequence[LeftOut], compared: Sequence[str]) -> list[str]:
    """Notes on the groups of a sweep of which no run can be compared."""
    lost = list(dict.fromkeys(each.group for each in left_out if each.group and each.group not in compared))
    runs = {group: [f"{each.name} is {each.state}" for each in left_out if each.group == group] for group in lost}
    return [f"No verdict on {group}: {', '.join(states)}." for group, states in runs.items()]


def sweep_notes(groups: Sequence[RunGroup]) -> list[str]:
    """Notes on groups of several sweeps that are merged, and on groups of a sweep that are split."""
    own = list(dict.fromkeys(each for group in groups for each in group.sweep_groups))
    labels = sweep_labels(own)
    alike = [" and ".join(labels[each] for each in group.sweep_groups) for group in groups if group.sweep_groups[1:]]
    notes = [f"{both} have the same settings: they are one group here." for both in alike]
    if len(alike) > _SHOWN:
        notes = [f"{len(alike)} groups are merged from several with the same settings: {_few(alike)}"]
    for each in own:
        parts = [group for group in groups if each in group.sweep_groups]
        if len(parts) > 1:
            keys = ", ".join(differing_keys([group.settings for group in parts])[:_SHOWN])
            names = " and ".join(group.name for group in parts)
            notes.append(
                f"The runs of {labels[each]} differ in more than the seed ({keys}): here they are the groups {names}."
            )
    return notes


def _few(texts: Sequence[str]) -> str:
    """The first few, comma-separated."""
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")
