"""Which runs differ in nothing but the seed, and in what the others differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigpt.errors import ConfigError, did_you_mean
from minigpt.lab.compare.contents import DATA_KEYS, content_of, told_data
from minigpt.lab.compare.labels import ABSENT, distinct, labels
from minigpt.lab.compare.sources import RunSource, SweepGroup, told_apart
from minigpt.lab.sweep.record import BASE_GROUP
from minigpt.runs.records import RunRecord, flat_settings

NO_DIFFERENCE = frozenset({
    "seed_everything", "run.name", "run.root", "run.log_every", "run.save_every", "run.keep", "run.sample_every",
    "run.sample_prompt", "run.panels", "run.panel_every", "run.panel_heads", "run.panel_sentence",
    "run.panel_temperatures", "data.num_workers", "trainer.enable_progress_bar", "trainer.logger", "trainer.profiler",
    "trainer.enable_autolog_hparams", "data.allow_lossy_tokenizer",
})  # fmt: skip
"""Settings that change no weight and no loss."""


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Runs that differ in nothing but the seed."""

    name: str
    members: list[int]
    """Their positions."""
    key: dict[str, Any]
    """What is the same in all of them and in no other group: the settings, and the data by content."""
    settings: dict[str, Any]
    """All that makes them what they are, flat, the data in words that tell their contents apart."""
    differing: dict[str, Any]
    """Of these, what is not the same in all groups."""
    sweep_groups: list[SweepGroup]
    """What sweeps call them, each once; empty: they belong to none."""


def group_runs(
    records: Sequence[RunRecord], names: Sequence[str], sweep_groups: Sequence[SweepGroup | None], baseline: str | None
) -> list[Grouped]:
    """Put `records` into groups by their settings, the baseline first. `names` tell the runs apart.

    Runs of one sweep stay in the groups of that sweep, also where two of these have the same settings. Where all runs
    belong to sweeps, groups are called as there: `base`, or `SWEEP/base` where there are several.

    The baseline is the group that `baseline` names, itself or one of its runs (ConfigError if none or several do); by
    default a sweep's `base`, or else the group of the first run.
    """
    keys = [_key(record) for record in records]
    every = [_settings(record) | words for record, words in zip(records, told_data(records), strict=True)]
    of_sweeps = [each for each in sweep_groups if each is not None]
    all_in_sweeps = len(of_sweeps) == len(records)
    one_sweep = all_in_sweeps and len({each.sweep for each in of_sweeps}) == 1
    members = _alike(list(zip(sweep_groups, keys, strict=True)) if one_sweep else keys)

    def called() -> list[str]:
        runs = [[names[index] for index in indices] for indices in members]
        if all_in_sweeps:
            told = sweep_labels(of_sweeps)
            return distinct([told[of_sweeps[indices[0]]] for indices in members], runs)
        return labels(differing(), runs)

    def differing() -> list[dict[str, Any]]:
        own = [every[indices[0]] for indices in members]
        return [{key: each[key] for key in differing_keys(own) if key in each} for each in own]

    def named(indices: Sequence[int]) -> set[str]:
        """Whatever a person may call a group by, beside its label."""
        own = [sweep_groups[index] for index in indices]
        runs = {word for index in indices for word in (names[index], records[index].name)}
        return runs | {each.name for each in own if each is not None}

    first = 0
    if baseline is not None:
        first = _find(baseline, called(), [named(indices) for indices in members])
    elif all_in_sweeps:
        bases = [of_sweeps[indices[0]].name == BASE_GROUP for indices in members]
        first = bases.index(True) if any(bases) else 0
    members.insert(0, members.pop(first))
    return [
        Grouped(
            name=name,
            members=indices,
            key=keys[indices[0]],
            settings=every[indices[0]],
            differing=own,
            sweep_groups=list(dict.fromkeys(each for index in indices if (each := sweep_groups[index]) is not None)),
        )
        for name, indices, own in zip(called(), members, differing(), strict=True)
    ]


def home_of(source: RunSource, groups: Sequence[Grouped]) -> Grouped | None:
    """The group that a run which is not compared would be in: its sweep's, or that of its settings; None: there is
    none, or its settings are not known."""
    key = None if source.record is None else _key(source.record)
    own = [group for group in groups if source.group is None or source.group in group.sweep_groups]
    alike = [group for group in own if group.key == key]
    return next(iter((alike or own) if source.group else alike), None)


def differing_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys of which not all have the same value."""
    first = settings[0]
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if any(each.get(key, ABSENT) != first.get(key, ABSENT) for each in settings)]


def sweep_labels(groups: Sequence[SweepGroup]) -> dict[SweepGroup, str]:
    """What to call each group of one or of several sweeps."""
    sweeps = list(dict.fromkeys(group.sweep for group in groups))
    if len(sweeps) == 1:
        return {group: group.name for group in groups}
    told = dict(zip(sweeps, told_apart(sweeps), strict=True))
    return {group: f"{told[group.sweep]}/{group.name}" for group in groups}


def _settings(record: RunRecord) -> dict[str, Any]:
    """What makes a run what it is, flat, as its config says it."""
    return {key: value for key, value in flat_settings(record.config).items() if key not in NO_DIFFERENCE}


def _key(record: RunRecord) -> dict[str, Any]:
    """The same for runs that differ in nothing but the seed: the content of the data, and not how it is spelt."""
    settings, content = _settings(record), content_of(record)
    if content:
        settings = {key: value for key, value in settings.items() if key not in DATA_KEYS}
    return settings | {"content": content}


def _alike(values: Sequence[Any]) -> list[list[int]]:
    """The positions of equal values, in the order of their first."""
    groups: list[list[int]] = []
    for position, value in enumerate(values):
        group = next((each for each in groups if values[each[0]] == value), None)
        if group is None:
            groups.append([position])
        else:
            group.append(position)
    return groups


def _find(baseline: str, called: Sequence[str], named: Sequence[set[str]]) -> int:
    """The position of the group that `baseline` names."""
    if baseline in called:
        return called.index(baseline)
    found = [position for position, words in enumerate(named) if baseline in words]
    if len(found) > 1:
        raise ConfigError(f"--baseline {baseline} may mean {', '.join(called[position] for position in found)}")
    if found:
        return found[0]
    near = did_you_mean(baseline, [*called, *sorted(set().union(*named))]) or f"; there are {', '.join(called[:6])}"
    raise ConfigError(f"--baseline {baseline}: no group or run of that name{near}")
