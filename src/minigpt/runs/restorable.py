"""Whether weights belong to their config, and a checkpoint's optimizer and position can be gone on with: looked at
before any of it is believed.

A file that was damaged is found by its checksum; one that was made by hand or by a stranger is not. torch's fused
optimizer, for one, reads beyond the end of a state that is smaller than its parameter.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.errors import CheckpointError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.config import OptimConfig, OptimizerName
from minigpt.optim.groups import muon_groups, parameter_groups
from minigpt.system.weights import fault_of_weight

_BOTH = {"total": {"ready": int, "completed": int}, "current": {"ready": int, "completed": int}}
_BATCHES = {
    "total": _BOTH["total"] | {"started": int, "processed": int},
    "current": _BOTH["current"] | {"started": int},
}
_CLEARED = {"total": {"ready": int, "completed": int, "started": int}, "current": {"ready": int, "completed": int}}
_TRAINING = {
    "loops": {
        "fit_loop": {
            "state_dict": {},
            "epoch_loop.state_dict": {"_batches_that_stepped": int},
            "epoch_loop.batch_progress": _BATCHES | {"is_last_batch": bool},
            "epoch_loop.scheduler_progress": _BOTH,
            "epoch_loop.automatic_optimization.state_dict": {},
            "epoch_loop.automatic_optimization.optim_progress": {"optimizer": {"step": _BOTH, "zero_grad": _CLEARED}},
            "epoch_loop.manual_optimization.state_dict": {},
            "epoch_loop.manual_optimization.optim_step_progress": _BOTH,
            "epoch_loop.val_loop.state_dict": {},
            "epoch_loop.val_loop.batch_progress": _BATCHES | {"is_last_batch": bool},
            "epoch_progress": _BATCHES,
        },
        "validate_loop": {"state_dict": {}, "batch_progress": _BATCHES | {"is_last_batch": bool}},
        "test_loop": {"state_dict": {}, "batch_progress": _BATCHES | {"is_last_batch": bool}},
        "predict_loop": {"state_dict": {}, "batch_progress": _BATCHES},
    },
    "epoch": int,
    "global_step": int,
    "callbacks": {},
    "lr_schedulers": list,
}
"""What Lightning writes and reads again: counters under names. Its migrations bring older files up to this."""
_SOMETIMES = {
    "TokenDataModule": {"batches": int, "windows": int},
    "callbacks": {
        "Checkpoints": {"best_loss": (float, int, type(None)), "best_step": (int, type(None))},
        "DivergenceGuard": {"losses": [float], "skipped": int, "in_a_row": int, "overflows": int},
    },
}
_VERSION = re.compile(r"\d+(\.\d+)*(\.?(dev|post|rc|a|b)\d+)*(\+[\w.]+)?")


def check_weights(path: Path, config: GPTConfig, weights: Mapping[str, Tensor]) -> GPT:
    """A model without memory of what the config says, which the weights fit; raises CheckpointError if they do not."""
    if config.n_layer > len(weights):  # a block has several: this is told without building a billion of them
        raise CheckpointError(f"{path}: its config has n_layer={config.n_layer}, and there are {len(weights)} weights")
    try:
        with torch.device("meta"):  # shapes without memory
            blank = GPT(config)
    except (RuntimeError, TypeError, OverflowError):  # sizes that no tensor can have
        raise CheckpointError(f"{path}: its config has sizes that no weights can have: {config.to_dict()}") from None
    expected = blank.state_dict()
    for key in sorted(expected.keys() | weights.keys()):
        if key not in weights:
            raise CheckpointError(f"{path}: the weights lack '{key}', which the config asks for")
        if key not in expected:
            raise CheckpointError(f"{path}: the weights have '{key}', which the config does not know")
        fault = fault_of_weight(weights[key])
        if fault is not None:
            raise CheckpointError(f"{path}: weight '{key}' {fault}")
        found, asked = tuple(weights[key].shape), tuple(expected[key].shape)
        if found != asked:
            raise CheckpointError(f"{path}: weight '{key}' has shape {found}, the config asks for {asked}")
    return blank


def check_restorable(path: Path, content: Mapping[str, Any], blank: GPT) -> OptimizerName:
    """The optimizer whose state `content` holds, for a model of the shapes of `blank`.

    Raises CheckpointError, one line, unless training can go on from it.
    """
    fault = _misfit(content, _TRAINING) or _misfit_of_known(content, _SOMETIMES)
    if not fault and not _VERSION.fullmatch(str(content.get("pytorch-lightning_version"))):
        fault = "pytorch-lightning_version"
    if fault:
        raise CheckpointError(f"{path}: its position is not one that training can go on from: '{fault}' is not right")
    return check_optimizer(path, content["optimizer_states"], blank)


def check_optimizer(path: Path, states: Any, blank: GPT) -> OptimizerName:
    """The optimizer whose state `states` holds alone, for a model of the shapes of `blank`; else CheckpointError."""
    fault = _misfit_of_optimizer(states, blank)
    if fault:
        raise CheckpointError(f"{path}: its optimizer state does not belong to its weights: {fault}")
    return "muon" if _has_muon(states[0]["param_groups"]) else "adamw"


def _misfit(found: Any, expected: Any, name: str = "") -> str | None:
    """The dotted name of the first value that is missing or of another kind, or None."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return name
        each = (_misfit(found.get(key), kind, f"{name}.{key}".strip(".")) for key, kind in expected.items())
        return next(filter(None, each), None)
    if isinstance(expected, list):
        return None if isinstance(found, list) and all(isinstance(each, expected[0]) for each in found) else name
    if expected is int:
        return None if type(found) is int and 0 <= found < 2**62 else name
    return None if isinstance(found, expected) else name


def _misfit_of_known(content: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """As `_misfit`, for what need not be there."""
    for name, kind in expected.items():
        if name in content:
            inner = {key: each for key, each in kind.items() if name != "callbacks" or key in content[name]}
            fault = _misfit(content[name], inner, name)
            if fault:
                return fault
    return None


def _misfit_of_optimizer(states: Any, blank: GPT) -> str | None:
    """What is wrong with the one optimizer's state, in words, or None."""
    only = states[0] if isinstance(states, list) and len(states) == 1 and isinstance(states[0], dict) else {}
    state, saved = only.get("state"), only.get("param_groups")
    if not (isinstance(state, dict) and isinstance(saved, list) and all(isinstance(group, dict) for group in saved)):
        return "it is not that of one optimizer"
    groups = muon_groups(blank, OptimConfig(name="muon")) if _has_muon(saved) else parameter_groups(blank, 0.0)
    if len(saved) != len(groups):
        return f"it has {len(saved)} groups, not {len(groups)}"
    parameters: list[tuple[Tensor, bool]] = []
    for group, theirs in zip(groups, saved, strict=True):
        first, by_muon = len(parameters), bool(group.get("use_muon"))
        parameters += [(parameter, by_muon) for parameter in group["params"]]
        if not _same(theirs.get("params"), list(range(first, len(parameters)))):
            return "its groups hold other parameters"
        fault = next((key for key, good in _settings_of(theirs, group).items() if not good), None)
        if fault:
            return f"'{fault}' of a group is not right"
    for number, values in state.items():
        known = type(number) is int and 0 <= number < len(parameters)
        fault = _misfit_of_parameter(values, *parameters[number]) if known else "there should be none"
        if fault:
            return f"{fault} of parameter {number!r}"
    return None


def _has_muon(groups: list[dict[str, Any]]) -> bool:
    return any("use_muon" in group for group in groups)


def _same(found: Any, expected: list[int]) -> bool:
    return isinstance(found, list) and all(type(number) is int for number in found) and found == expected


def _settings_of(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, bool]:
    """Each setting of a saved group and whether it can be gone on with; the config sets most of them anew."""
    by_muon = bool(ours.get("use_muon"))
    checks = {key: _is_finite(theirs.get(key)) for key in ("lr", "weight_decay")}
    checks["use_muon"] = theirs.get("use_muon", False) is by_muon
    if by_muon:
        parts = theirs.get("parts")
        checks["momentum"] = _is_finite(theirs.get("momentum"))
        checks["parts"] = isinstance(parts, list) and [_plain(each) for each in parts] == ours["parts"]
        return checks
    betas = theirs.get("betas")
    checks["eps"] = _is_finite(theirs.get("eps"))
    checks["betas"] = isinstance(betas, tuple | list) and len(betas) == 2 and all(_is_finite(beta) for beta in betas)
    for key in ("amsgrad", "maximize", "capturable", "differentiable"):
        checks[key] = theirs.get(key, False) is False
    checks["foreach"] = theirs.get("foreach") is None
    checks["fused"] = isinstance(theirs.get("fused"), bool | None)
    checks["decoupled_weight_decay"] = theirs.get("decoupled_weight_decay", True) is True
    return checks


def _plain(rows: Any) -> tuple[int, ...] | None:
    is_plain = isinstance(rows, tuple | list) and all(type(count) is int for count in rows)
    return tuple(rows) if is_plain else None


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def _misfit_of_parameter(values: Any, parameter: Tensor, by_muon: bool) -> str | None:
    averages = ("momentum_buffer",) if by_muon else ("exp_avg", "exp_avg_sq")
    if not isinstance(values, dict) or set(values) != {*averages} | (set() if by_muon else {"step"}):
        return "what is kept"
    for name, value in values.items():
        shape = torch.Size() if name == "step" else parameter.shape
        if not (isinstance(value, Tensor) and value.shape == shape and _is_sound(value)):
            return f"'{name}'"
    return None


def _is_sound(value: Tensor) -> bool:
    """Numbers in a row in memory."""
    return fault_of_weight(value) is None and value.is_contiguous()
