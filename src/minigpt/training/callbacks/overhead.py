"""Remove per-step overhead: calls of empty hooks, an empty profiler, the automatic search for garbage."""

import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""Hooks that Lightning calls in each step on the module and on every callback."""
_PACKAGES = ("minigpt", "lightning")
YOUNG_EVERY = 20
"""Batches. A collection of what was made since the last one takes some 15 microseconds."""
_RARE = 1000
"""A search through everything waits until so many times as long has passed as the last one took."""


@contextlib.contextmanager
def without_empty_hooks(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Within the block Lightning passes over the hooks of a step that a callback of minigpt or Lightning does not have.

    It looks whether an attribute of that name can be called, and wraps each call in a context of its profiler: fifty
    empty ones cost a third of a millisecond a step, 2 % of one of shakespeare_cpu.yaml. The module and callbacks of the
    user's own are left as they are: a hook may be replaced or wrapped while training goes on.
    """
    empty = [
        (callback, hook)
        for callback in callbacks
        if type(callback).__module__.partition(".")[0] in _PACKAGES
        for hook in STEP_HOOKS
        if getattr(getattr(callback, hook), "__func__", None) is getattr(Callback, hook)
    ]
    for callback, hook in empty:
        setattr(callback, hook, None)
    try:
        yield
    finally:
        for callback, hook in empty:
            if vars(callback).get(hook, callback) is None:  # not one that was put there meanwhile
                delattr(callback, hook)


class NoProfiler(PassThroughProfiler):
    """Lightning's own for "none" makes a generator for each of the twenty spans of a step; this one makes nothing."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Nothing."""
        return self._nothing


@contextlib.contextmanager
def garbage_on_demand() -> Iterator[None]:
    """Within the block Python looks for unreachable cycles only when `gc.collect()` is called, and not among what was
    there before.

    Looking through all of torch's and Lightning's objects takes as long as a step or longer. Who calls: each
    validation, and a `GarbageCollector` between the steps.
    """
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not frozen:  # thawed is all or nothing
            gc.unfreeze()
        if enabled:
            gc.enable()


class GarbageCollector(Callback):
    """Collect cycles that a step left behind, as pictures, exceptions and some libraries make them.

    Every YOUNG_EVERY batches those that are new; those that lived longer at validations, and in between at most a
    thousandth of the time, however rare a validation is.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.due = 0.0
        """Time of the next full collection, by time.monotonic."""

    def on_train_batch_end(self, *_: object) -> None:
        """Collect, if enough batches have passed."""
        self.batches += 1
        if self.batches % YOUNG_EVERY:
            return
        begin = time.monotonic()
        if begin < self.due:
            gc.collect(1)
            return
        gc.collect()
        end = time.monotonic()
        self.due = end + _RARE * (end - begin)
