"""When a custom autograd function can replace torch's operations."""

import torch


def runs_eagerly() -> bool:
    """Whether torch runs operation by operation and differentiates backwards, as a torch.autograd.Function requires.

    A compiler fuses torch's own operations better; torch.func and forward-mode derivatives have no rule for ours.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )
