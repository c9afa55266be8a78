"""Sessions of a run, from its provenance.json: the first start and each resume, which may change settings."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from minigpt.errors import CheckpointError
from minigpt.runs.paths import PROVENANCE

Session = Mapping[str, Any]
"""The record of one session in provenance.json."""

_COUNTED = ("data.batch_size", "trainer.accumulate_grad_batches", "model.block_size")
"""The settings whose product is the number of tokens of a step, on all devices together."""


BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError)
"""What reading a damaged file may raise."""


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """Read the records of all sessions; none without a provenance.json, CheckpointError for a damaged one."""
    path = folder / PROVENANCE
    if not path.is_file():
        return []
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
        if not all(isinstance(session, dict) for session in sessions):
            raise TypeError("a session is no group of facts")
    except BROKEN as error:
        raise CheckpointError(f"{path} is damaged: {reason_of(error)}") from None
    return list(sessions)


def reason_of(error: BaseException) -> str:
    """What is wrong with a damaged file, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} is not YAML: {error.problem or error.context}"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def tokens_at(step: int, sessions: Sequence[Session], settings: Mapping[str, Any]) -> int:
    """Tokens that a run has learnt from after `step` optimizer steps; `settings`, flat, are those of its last session.

    Each session counts by its own. One that began from another run's checkpoint knows how that was set at its end, and
    counts all of it so.
    """
    now = {key: int(settings[key]) for key in _COUNTED}
    tokens, end = 0, step
    for session in reversed(lasting(sessions)):
        begin = min(end, first_step(session))
        tokens += (end - begin) * math.prod(now.values())
        end = begin
        now |= {key: then for key, then, _ in changes(session) if key in now and type(then) is int}
    return tokens + end * math.prod(now.values())


def lasting(sessions: Sequence[Session]) -> list[Session]:
    """The sessions whose steps are still part of the run, oldest first; one that starts earlier replaces others."""
    kept: list[Session] = []
    for session in sessions:
        while kept and first_step(kept[-1]) >= first_step(session):
            kept.pop()
        kept.append(session)
    return kept


def changed_on_the_way(sessions: Sequence[Session]) -> Iterator[tuple[int, str, Any, Any]]:
    """Yield (steps done, key, value before, value after) of each setting that a resume changed."""
    for session in lasting(sessions):
        if step := first_step(session):
            yield from ((step, *change) for change in changes(session))


def first_step(session: Session) -> int:
    """Optimizer steps done when the session began; 0 if not recorded."""
    step = session.get("from_step")
    return step if type(step) is int else 0


def changes(session: Session) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, value before, value after) of the settings that the session changed."""
    found = session.get("changes")
    for key, values in found.items() if isinstance(found, dict) else ():
        if isinstance(values, list) and len(values) == 2:
            yield (key, *values)
