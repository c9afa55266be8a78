"""Which runs differ in nothing but the seed, and in what the others differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigpt.errors import ConfigError, did_you_mean
from minigpt.records import RunRecord, flat_settings
from minigpt.study.compare_labels import ABSENT, labels
from minigpt.study.sweep_record import BASE_GROUP

NO_DIFFERENCE = frozenset({
    "seed_everything", "run.name", "run.root", "run.log_every", "run.save_every", "run.keep", "run.sample_every",
    "run.sample_prompt", "run.panels", "run.panel_every", "run.panel_heads", "run.panel_sentence",
    "run.panel_temperatures", "data.num_workers", "trainer.enable_progress_bar", "trainer.logger", "trainer.profiler",
    "trainer.enable_autolog_hparams",
})  # fmt: skip
"""Settings that change no weight and no loss."""
CONTENT = "data_fingerprint"
"""Not a setting: the content of the prepared text, shown where no setting tells two of them apart."""


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Runs by group; the baseline is the first."""

    members: list[list[int]]
    """The runs of each group, by their positions."""
    names: list[str]
    settings: list[dict[str, Any]]
    """Of each group, those that differ between the groups."""


def group_runs(
    records: Sequence[RunRecord], names: Sequence[str], sweep_groups: Sequence[str], baseline: str | None
) -> Grouping:
    """Put `records` into groups, by a sweep's names for them or, where one of these is empty, by their settings.

    The baseline is the group that `baseline` names, itself or one of its runs (ConfigError if none does); by default a
    sweep's `base`, or else the group of the first run.
    """
    every = [_settings(record) for record in records]
    in_sweep = all(sweep_groups)
    members = _alike(list(sweep_groups)) if in_sweep else _alike(every)
    runs_of = [[names[index] for index in indices] for indices in members]

    def called() -> list[str]:
        return [sweep_groups[indices[0]] for indices in members] if in_sweep else labels(differing(), runs_of)

    def differing() -> list[dict[str, Any]]:
        own = [every[indices[0]] for indices in members]
        return [{key: each[key] for key in _differing_keys(own) if key in each} for each in own]

    first = 0
    if baseline is not None:
        first = _find(baseline, called(), runs_of)
    elif in_sweep and BASE_GROUP in called():
        first = called().index(BASE_GROUP)
    members.insert(0, members.pop(first))
    runs_of.insert(0, runs_of.pop(first))
    return Grouping(members=members, names=called(), settings=differing())


def _settings(record: RunRecord) -> dict[str, Any]:
    """What makes a run what it is, flat."""
    flat = {key: value for key, value in flat_settings(record.config).items() if key not in NO_DIFFERENCE}
    return flat | {CONTENT: record.data_fingerprint[:8]}


def _differing_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys of which not all have the same value."""
    first = settings[0]
    keys = dict.fromkeys(key for each in settings for key in each)
    differing = [key for key in keys if any(each.get(key, ABSENT) != first.get(key, ABSENT) for each in settings)]
    if any(key.startswith("data.") for key in differing):  # says the same, and a person can read it
        return [key for key in differing if key != CONTENT]
    return differing


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


def _find(baseline: str, called: Sequence[str], runs_of: Sequence[Sequence[str]]) -> int:
    """The position of the group that `baseline` names."""
    if baseline in called:
        return called.index(baseline)
    for position, own in enumerate(runs_of):
        if baseline in own:
            return position
    choices = list(dict.fromkeys([*called, *(name for own in runs_of for name in own)]))
    near = did_you_mean(baseline, choices) or f"; there are {', '.join(called[:6])}"
    raise ConfigError(f"baseline={baseline}: no group or run of that name{near}")
