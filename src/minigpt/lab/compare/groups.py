"""Group the runs that differ only in the seed, and find the settings in which the groups differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigpt.errors import ConfigError, did_you_mean
from minigpt.lab.compare.data import DATA_KEYS, data_content, describe_data
from minigpt.lab.compare.labels import ABSENT, distinct, labels
from minigpt.lab.compare.sources import RunSource, SweepGroup, disambiguate
from minigpt.lab.sweep.record import BASE_GROUP
from minigpt.runs.records import RunRecord, flat_settings

NEUTRAL_SETTINGS = frozenset({
    "seed_everything", "run.name", "run.root", "run.log_every", "run.save_every", "run.keep", "run.sample_every",
    "run.sample_prompt", "run.panels", "run.panel_every", "run.panel_heads", "run.panel_sentence",
    "run.panel_temperatures", "data.num_workers", "trainer.enable_progress_bar", "trainer.logger", "trainer.profiler",
    "trainer.enable_autolog_hparams", "data.allow_lossy_tokenizer", "run.evaluations", "run.evaluate_every",
})  # fmt: skip
"""Settings that change no weight and no loss."""


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Runs that differ only in the seed."""

    name: str
    members: list[int]
    """Positions of its runs."""
    key: dict[str, Any]
    """Equal for all runs of the group and for no other: the settings, and the data by content."""
    settings: dict[str, Any]
    """Flat settings that affect the result, the data described so that different contents differ."""
    differing: dict[str, Any]
    """The settings that are not the same in all groups."""
    sweep_groups: list[SweepGroup]
    """The groups of sweeps that its runs belong to; empty: they belong to none."""


def group_runs(
    records: Sequence[RunRecord], names: Sequence[str], sweep_groups: Sequence[SweepGroup | None], baseline: str | None
) -> list[RunGroup]:
    """Group `records` by their settings, the baseline first. `names` are unique names of the runs.

    Runs of one sweep stay in the groups of that sweep, also where two of these have the same settings. Where all runs
    belong to sweeps, groups keep their names there: `base`, or `SWEEP/base` where there are several sweeps.

    The baseline is the group that `baseline` names, itself or one of its runs (ConfigError if none or several do); by
    default a sweep's `base`, or else the group of the first run.
    """
    keys = [_key(record) for record in records]
    every = [_settings(record) | data for record, data in zip(records, describe_data(records), strict=True)]
    of_sweeps = [each for each in sweep_groups if each is not None]
    all_in_sweeps = len(of_sweeps) == len(records)
    one_sweep = all_in_sweeps and len({each.sweep for each in of_sweeps}) == 1
    members = _equal_positions(list(zip(sweep_groups, keys, strict=True)) if one_sweep else keys)

    def group_names() -> list[str]:
        runs = [[names[index] for index in indices] for indices in members]
        if all_in_sweeps:
            labels_of = sweep_labels(of_sweeps)
            return distinct([labels_of[of_sweeps[indices[0]]] for indices in members], runs)
        return labels(differing(), runs)

    def differing() -> list[dict[str, Any]]:
        own = [every[indices[0]] for indices in members]
        return [{key: each[key] for key in differing_keys(own) if key in each} for each in own]

    def aliases(indices: Sequence[int]) -> set[str]:
        """What --baseline may call a group, beside its label."""
        own = [sweep_groups[index] for index in indices]
        runs = {name for index in indices for name in (names[index], records[index].name)}
        return runs | {each.name for each in own if each is not None}

    first = 0
    if baseline is not None:
        first = _find(baseline, group_names(), [aliases(indices) for indices in members])
    elif all_in_sweeps:
        bases = [of_sweeps[indices[0]].name == BASE_GROUP for indices in members]
        first = bases.index(True) if any(bases) else 0
    members.insert(0, members.pop(first))
    return [
        RunGroup(
            name=name,
            members=indices,
            key=keys[indices[0]],
            settings=every[indices[0]],
            differing=own,
            sweep_groups=list(dict.fromkeys(each for index in indices if (each := sweep_groups[index]) is not None)),
        )
        for name, indices, own in zip(group_names(), members, differing(), strict=True)
    ]


def group_of(source: RunSource, groups: Sequence[RunGroup]) -> RunGroup | None:
    """The group that a run which is not compared would belong to, by its sweep or by its settings, if there is one."""
    key = None if source.record is None else _key(source.record)
    own = [group for group in groups if source.group is None or source.group in group.sweep_groups]
    equal = [group for group in own if group.key == key]
    return next(iter((equal or own) if source.group else equal), None)


def differing_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all `settings`."""
    first = settings[0]
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if any(each.get(key, ABSENT) != first.get(key, ABSENT) for each in settings)]


def sweep_labels(groups: Sequence[SweepGroup]) -> dict[SweepGroup, str]:
    """A unique name for each group of one or of several sweeps."""
    sweeps = list(dict.fromkeys(group.sweep for group in groups))
    if len(sweeps) == 1:
        return {group: group.name for group in groups}
    names = dict(zip(sweeps, disambiguate(sweeps), strict=True))
    return {group: f"{names[group.sweep]}/{group.name}" for group in groups}


def _settings(record: RunRecord) -> dict[str, Any]:
    """The flat settings of a run that affect its result, and the hashes of the user's own files behind them."""
    settings = {key: value for key, value in flat_settings(record.config).items() if key not in NEUTRAL_SETTINGS}
    for key in ("run.module", "optim.options"):  # older configs do not have them
        if not settings.get(key):
            settings.pop(key, None)
    files = record.sessions[-1].get("files") if record.sessions else None
    return settings | {name: str(sha256)[:8] for name, sha256 in (files if isinstance(files, dict) else {}).items()}


def _key(record: RunRecord) -> dict[str, Any]:
    """Equal for runs that differ only in the seed; the data counts by its content, not by its path."""
    settings, content = _settings(record), data_content(record)
    if content:
        settings = {key: value for key, value in settings.items() if key not in DATA_KEYS}
    return settings | {"content": content}


def _equal_positions(values: Sequence[Any]) -> list[list[int]]:
    """The positions of equal values, in the order of their first."""
    groups: list[list[int]] = []
    for position, value in enumerate(values):
        group = next((each for each in groups if values[each[0]] == value), None)
        if group is None:
            groups.append([position])
        else:
            group.append(position)
    return groups


def _find(baseline: str, names: Sequence[str], aliases: Sequence[set[str]]) -> int:
    """The position of the group that `baseline` names."""
    if baseline in names:
        return names.index(baseline)
    found = [position for position, own in enumerate(aliases) if baseline in own]
    if len(found) > 1:
        raise ConfigError(f"--baseline {baseline} may mean {', '.join(names[position] for position in found)}")
    if found:
        return found[0]
    near = did_you_mean(baseline, [*names, *sorted(set().union(*aliases))]) or f"; there are {', '.join(names[:6])}"
    raise ConfigError(f"--baseline {baseline}: no group or run of that name{near}")
