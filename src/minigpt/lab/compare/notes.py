"""What a reader must know to read the numbers right."""

from collections.abc import Iterator, Mapping, Sequence

from minigpt.lab.compare.groups import NO_DIFFERENCE, Grouped, differing_keys, sweep_labels
from minigpt.lab.compare.labels import told as as_yaml
from minigpt.lab.compare.result import By, LeftOut, Run
from minigpt.runs.records import RunRecord
from minigpt.runs.sessions import changed_on_the_way

_WHAT: dict[By, str] = {
    "final": "the final losses all the same",
    "best": "the lowest losses",
    "tokens": "the losses at equal tokens",
    "flops": "the losses at equal FLOPs",
    "time": "the losses at equal training time",
}
_COST: dict[By, str] = {"tokens": "tokens", "flops": "flops", "time": "seconds"}
"""What of a run says how far it went."""
_MIDWAY = 1.01
"""Of the shortest run: two of the same length never take the same time."""
_SHOWN = 5


def notes_on(runs: Sequence[Run], records: Sequence[RunRecord], by: By, equal: Mapping[str, float | None]) -> list[str]:
    """On runs that repeat others, that are not finished, that ended elsewhere, that had another machine."""
    repeats = [f"{run.name} repeats {run.repeats}" for run in runs if run.repeats is not None]
    notes = [f"{told} (same settings, same seed): it counts in no mean." for told in repeats]
    if len(repeats) > _SHOWN:
        notes = [f"{len(repeats)} runs repeat others (same settings, same seed) and count in no mean: {_few(repeats)}"]
    runs = [run for run in runs if run.repeats is None]
    early = {str(record.folder): f"stopped early: {record.stopped_early}" for record in records if record.stopped_early}
    unfinished = [f"{run.name} ({early.get(run.folder, run.state)})" for run in runs if run.state != "finished"]
    if unfinished:
        notes.append(f"Not finished: {_few(unfinished)}. The verdicts compare {_WHAT[by]}.")
    elif by == "final" and len({run.tokens for run in runs}) > 1:
        notes.append("The runs ended after different numbers of tokens; the final losses are those of their ends.")
    if by == "best" and len(counts := {run.validations for run in runs}) > 1:
        notes.append(
            f"The lowest losses are those of {min(counts)} to {max(counts)} validations: of more of them the lowest is "
            "lower by chance alone."
        )
    end = equal.get(by)
    if end is not None and any((getattr(run, _COST[by]) or 0) > _MIDWAY * end for run in runs):
        notes.append("Where a longer run is read midway, its learning rate has not come down yet.")
    notes += [f"{record.name}: {record.note}." for record in records if record.note]
    notes += [f"{record.name} was resumed with other settings: {_few(told)}." for record, told in _changed(records)]
    worlds = [record.sessions[-1] for record in records if record.sessions]
    if len({str((world.get("machine"), world.get("device"))) for world in worlds}) > 1:
        notes.append("The runs had different machines: times and tokens per second do not compare.")
    return notes


def _changed(records: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, list[str]]]:
    """The runs that are compared by their last settings, but had others before, and which from which step on."""
    for record in records:
        found = [
            f"{key} {as_yaml(before)} before step {step:,}, {as_yaml(after)} from there"
            for step, key, before, after in changed_on_the_way(record.sessions)
            if key not in NO_DIFFERENCE | {"trainer.max_time"}
        ]
        if found:
            yield record, found


def lost_groups(left_out: Sequence[LeftOut], compared: Sequence[str]) -> list[str]:
    """On the groups of a sweep of which no run can be compared."""
    lost = list(dict.fromkeys(each.group for each in left_out if each.group and each.group not in compared))
    runs = {group: [f"{each.name} is {each.state}" for each in left_out if each.group == group] for group in lost}
    return [f"No verdict on {group}: {', '.join(told)}." for group, told in runs.items()]


def notes_on_sweeps(groups: Sequence[Grouped]) -> list[str]:
    """On groups of several sweeps that are one, and on groups of a sweep that are several."""
    own = list(dict.fromkeys(each for group in groups for each in group.sweep_groups))
    told = sweep_labels(own)
    alike = [" and ".join(told[each] for each in group.sweep_groups) for group in groups if group.sweep_groups[1:]]
    notes = [f"{both} have the same settings: they are one group here." for both in alike]
    if len(alike) > _SHOWN:
        notes = [f"{len(alike)} groups have runs of several that have the same settings: {_few(alike)}"]
    for each in own:
        parts = [group for group in groups if each in group.sweep_groups]
        if len(parts) > 1:
            keys = ", ".join(differing_keys([group.settings for group in parts])[:_SHOWN])
            names = " and ".join(group.name for group in parts)
            notes.append(f"The runs of {told[each]} differ in more than the seed ({keys}): here they are {names}.")
    return notes


def _few(told: Sequence[str]) -> str:
    """The first of them."""
    return ", ".join(told[:_SHOWN]) + (", ..." if len(told) > _SHOWN else "")
