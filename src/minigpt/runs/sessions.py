"""The sessions that a run's steps come from: its first start and each resume, which may change settings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Session = Mapping[str, Any]
"""What provenance.json says of one."""

_COUNTED = ("data.batch_size", "trainer.accumulate_grad_batches", "model.block_size")
"""Whose product are the tokens of a step, on all devices together."""


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
    """Those whose steps are still the run's, oldest first; one that begins further back does the later steps again."""
    kept: list[Session] = []
    for session in sessions:
        while kept and first_step(kept[-1]) >= first_step(session):
            kept.pop()
        kept.append(session)
    return kept


def changed_on_the_way(sessions: Sequence[Session]) -> Iterator[tuple[int, str, Any, Any]]:
    """(steps done, key, value before, value after) of each setting that a resume changed."""
    for session in lasting(sessions):
        if step := first_step(session):
            yield from ((step, *change) for change in changes(session))


def first_step(session: Session) -> int:
    """Optimizer steps that were done when it began; 0 also where that is not recorded."""
    step = session.get("from_step")
    return step if type(step) is int else 0


def changes(session: Session) -> Iterator[tuple[str, Any, Any]]:
    """(key, value before, value after) of the settings that it began with."""
    found = session.get("changes")
    for key, values in found.items() if isinstance(found, dict) else ():
        if isinstance(values, list) and len(values) == 2:
            yield (key, *values)
