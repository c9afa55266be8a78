"""The state of an optimizer: what it keeps for each parameter, and whether a state out of a file is one of its own.

torch's fused kernels read beyond the end of a state that is smaller than its parameter.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minigpt.errors import CheckpointError
from minigpt.optim.groups import Groups
from minigpt.system.weights import fault_of_weight

State = dict[int, dict[str, Any]]
"""Number of the parameter -> name -> value, as in `Optimizer.state_dict()["state"]`."""

_ON_A_DEVICE = dict.fromkeys(("fused", "foreach", "capturable"), False)


def expected_state(optimizer: Optimizer, build: Callable[[Groups], Optimizer]) -> State:
    """The state that an optimizer such as `optimizer`, made by `build`, has after its first step.

    The step is made on the meta device, without memory, or with zeros on the CPU by one that asks for numbers.
    """
    for device in ("meta", "cpu"):
        try:
            twin = build([_group_on(group, device) for group in optimizer.param_groups])
            for group in twin.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            twin.step()
            break
        except Exception:
            if device == "cpu":
                raise
    state: State = twin.state_dict()["state"]
    return state


def _group_on(group: dict[str, Any], device: str) -> dict[str, Any]:
    parameters = [nn.Parameter(torch.zeros_like(parameter, device=device)) for parameter in group["params"]]
    plain = {name: value for name, value in _ON_A_DEVICE.items() if name in group}
    return {**group, **plain, "params": parameters}


def numbers_of(state: State) -> int:
    """Numbers in the tensors of a state; single ones, which count steps, are left out."""
    values = [value for kept in state.values() for value in kept.values()]
    return sum(value.numel() for value in values if isinstance(value, Tensor) and value.ndim > 0)


def checked_state(
    optimizer: Optimizer, saved: dict[str, Any], *, build: Callable[[Groups], Optimizer], estimates: Collection[str]
) -> dict[str, Any]:
    """`saved`, the content of `state_dict()`, as `optimizer` may load it: with the settings that it has already.

    Of what is saved of a group only `estimates` are taken, names of what the optimizer itself writes there. Called by
    torch before each load. Raises CheckpointError for a state that is not one of these parameters.
    """
    fault = _fault(optimizer, saved, build)
    if fault:
        raise CheckpointError(f"its optimizer state does not belong to its weights: {fault}")
    groups = [
        {**ours, **{name: theirs[name] for name in estimates if name in ours and _alike(theirs.get(name), ours[name])}}
        for ours, theirs in zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True)
    ]
    return {**saved, "param_groups": groups}


def _fault(optimizer: Optimizer, saved: Any, build: Callable[[Groups], Optimizer]) -> str | None:
    """What is wrong with a saved state, in words, or None."""
    state, groups = (saved.get(name) if isinstance(saved, dict) else None for name in ("state", "param_groups"))
    if not (isinstance(state, dict) and isinstance(groups, list) and all(isinstance(group, dict) for group in groups)):
        return "it is not that of one optimizer"
    ours = [group["params"] for group in optimizer.state_dict()["param_groups"]]
    if len(groups) != len(ours):
        return f"it has {len(groups)} groups, not {len(ours)}"
    if repr([group.get("params") for group in groups]) != repr(ours):
        return "its groups hold other parameters"
    return _fault_of_values(state, expected_state(optimizer, build), sum(map(len, ours)))


def _fault_of_values(state: dict[Any, Any], expected: State, n_parameters: int) -> str | None:
    for number, values in state.items():
        if type(number) is not int or not 0 <= number < n_parameters:
            return f"there should be none of parameter {number!r}"
        wanted = expected.get(number, {})
        if not isinstance(values, dict) or not values.keys() >= wanted.keys():
            return f"what is kept of parameter {number}"
        wrong = next((name for name, value in wanted.items() if not _alike(values[name], value)), None)
        if wrong:
            return f"'{wrong}' of parameter {number}"
    return None


def _alike(found: Any, expected: Any) -> bool:
    """Whether a value out of a file can stand where `expected` does: numbers in a row in memory, of its shape."""
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor) or found.shape != expected.shape:
            return False
        if not expected.is_floating_point():
            return found.dtype == expected.dtype and found.layout == torch.strided and found.is_contiguous()
        return fault_of_weight(found) is None and found.is_contiguous()
    if isinstance(expected, bool) or expected is None:
        return type(found) is type(expected)
    if isinstance(expected, int | float):
        return isinstance(found, int | float) and not isinstance(found, bool)
    return type(found) is type(expected)
