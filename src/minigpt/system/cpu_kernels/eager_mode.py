"""Where an operation of ours, with a gradient of its own, may stand for one of torch's."""

import torch


def runs_eagerly() -> bool:
    """Whether torch does one operation after another, and derives backwards: so it calls a torch.autograd.Function.

    A compiler fuses torch's own operations better; torch.func and forward-mode derivatives know no rule of ours.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )
