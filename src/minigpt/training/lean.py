"""Nothing between the steps that does nothing there: no calls of empty hooks, no searches for garbage."""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.profilers import PassThroughProfiler

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""What Lightning calls in each step on the module and on every callback."""


@contextlib.contextmanager
def without_empty_hooks(callbacks: Sequence[Callback], module: LightningModule) -> Iterator[None]:
    """Within the block Lightning passes over the hooks of a step that neither module nor callback has overridden.

    It looks whether an attribute of that name can be called, and wraps each call in a context of its profiler: fifty
    empty ones cost a third of a millisecond a step, 2 % of one of shakespeare_cpu.yaml.
    """
    bases: list[tuple[Callback | LightningModule, type]] = [
        (module, LightningModule),
        *((callback, Callback) for callback in callbacks),
    ]
    empty = [
        (owner, hook)
        for owner, base in bases
        for hook in STEP_HOOKS
        if getattr(getattr(owner, hook), "__func__", None) is getattr(base, hook)
    ]
    for owner, hook in empty:
        setattr(owner, hook, None)
    try:
        yield
    finally:
        for owner, hook in empty:
            delattr(owner, hook)


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

    A step makes none, and looking through all of torch's and Lightning's objects takes as long as a step or longer.
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
