"""What a reader must know to read the numbers right."""

from collections.abc import Sequence

from minigpt.records import RunRecord
from minigpt.study.compare_result import By, LeftOut, Run

_WHAT: dict[By, str] = {
    "final": "the final losses all the same",
    "best": "the lowest losses",
    "tokens": "the losses at equal tokens",
    "flops": "the losses at equal FLOPs",
    "time": "the losses at equal training time",
}
_SHOWN = 5


def notes_on(runs: Sequence[Run], records: Sequence[RunRecord], by: By) -> list[str]:
    """On runs that repeat others, that are not finished, that ended elsewhere, that had another machine."""
    notes = [
        f"{run.name} repeats {run.repeats} (same settings, same seed): it counts in no mean."
        for run in runs
        if run.repeats is not None
    ]
    unfinished = [f"{run.name} ({run.state})" for run in runs if run.state != "finished"]
    if unfinished:
        named = ", ".join(unfinished[:_SHOWN]) + (", ..." if len(unfinished) > _SHOWN else "")
        notes.append(f"Not finished: {named}. The verdicts compare {_WHAT[by]}.")
    elif by == "final" and len({run.tokens for run in runs}) > 1:
        notes.append("The runs ended after different numbers of tokens; the final losses are those of their ends.")
    if by in {"tokens", "flops", "time"} and len({run.steps for run in runs}) > 1:
        notes.append("Where a longer run is read midway, its learning rate has not come down yet.")
    worlds = [record.sessions[-1] for record in records if record.sessions]
    if len({str((world.get("machine"), world.get("device"))) for world in worlds}) > 1:
        notes.append("The runs had different machines: times and tokens per second do not compare.")
    return notes


def lost_groups(left_out: Sequence[LeftOut], compared: Sequence[str]) -> list[str]:
    """On the groups of a sweep of which no run can be compared."""
    lost = list(dict.fromkeys(each.group for each in left_out if each.group and each.group not in compared))
    runs = {group: [f"{each.name} is {each.state}" for each in left_out if each.group == group] for group in lost}
    return [f"No verdict on {group}: {', '.join(told)}." for group, told in runs.items()]
