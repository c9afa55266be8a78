"""The panels by name, as a config gives them. No torch here: the command line checks it first."""

from collections.abc import Sequence
from typing import Literal, get_args

from minigpt.errors import ConfigError, did_you_mean

PanelName = Literal["attention", "histograms", "ratios", "position", "frequency", "calibration", "samples"]


def parse_panels(entries: Sequence[str], every: int) -> dict[PanelName, int]:
    """The panels of `run.panels`, each `NAME` or `NAME:STEPS`, with its report interval in steps (`every`, or its own).

    Raises ConfigError for an unknown name, a name given twice, and steps that are not a number of 1 or more.
    """
    intervals: dict[PanelName, int] = {}
    for entry in entries:
        name, colon, steps = entry.partition(":")
        known = next((each for each in get_args(PanelName) if each == name), None)
        if known is None:
            choices = get_args(PanelName)
            raise ConfigError(
                f"run.panels={entry!r} must be one of {', '.join(choices)}{did_you_mean(name, choices)}; "
                "NAME:STEPS sets how often"
            )
        if known in intervals:
            raise ConfigError(f"run.panels names {name} twice")
        if colon and not (steps.isdecimal() and steps.isascii() and len(steps) < 19 and int(steps) > 0):
            raise ConfigError(f"run.panels={entry!r}: the steps behind {name} must be a whole number, 1 or more")
        intervals[known] = int(steps) if colon else every
    return intervals
