"""Put the CPU kernels into a model after it is built, for whoever trains, samples or measures on a CPU."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from minigpt.system.cpu_kernels.dropout import Dropout
from minigpt.system.cpu_kernels.linear import Linear

Marked = TypeVar("Marked", bound=Callable[..., Any])
Model = TypeVar("Model", bound=nn.Module)

KERNELS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Linear, nn.Dropout: Dropout}
"""Classes that take the place of torch's own; those of other modules are named by `replaced_on_cpu`."""


def replaced_on_cpu(kernel: Any) -> Callable[[Marked], Marked]:
    """Decorate a function, or a class of modules, that `use_cpu_kernels` replaces by `kernel` of the same interface."""

    def mark(plain: Marked) -> Marked:
        plain._cpu_kernel = kernel  # type: ignore[attr-defined]
        return plain

    return mark


def use_cpu_kernels(model: Model) -> Model:
    """Replace the operations of `model` that have a CPU kernel, in place, and return it.

    Results are those of torch up to rounding; dropout draws other random numbers. Parameters and names in the state
    dict stay as they are. A model that is on another device is left alone, and so are modules whose class is not
    exactly the one that a kernel replaces: sharded, parametrised, or the user's own. The kernels leave to torch what
    they cannot do: other devices and dtypes, autocast, compiled code, transforms of torch.func.
    """
    if not all(parameter.is_cpu for parameter in model.parameters()):
        return model
    for module in model.modules():
        kernel = KERNELS.get(type(module)) or vars(type(module)).get("_cpu_kernel")
        if kernel is not None and not getattr(module, "inplace", False):
            module.__class__ = kernel
        for name, value in list(vars(module).items()):
            if "_cpu_kernel" in getattr(value, "__dict__", {}):
                setattr(module, name, value._cpu_kernel)
    return model
