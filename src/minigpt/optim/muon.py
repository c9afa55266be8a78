"""Muon: the update of a matrix is its momentum, made orthogonal; all other parameters take AdamW. One optimizer."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from minigpt.optim import adamw
from minigpt.optim.config import OptimConfig
from minigpt.optim.groups import Groups, parameter_groups

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration, chosen for a steep slope at 0, so that all singular values come near 1
in five steps (Jordan 2024, "Muon", section on the coefficients)."""
ITERATIONS = 5


def groups(model: nn.Module, config: OptimConfig) -> Groups:
    """The groups of `parameter_groups`, with the matrices of linear layers in `model.blocks` moved to one for Muon.

    A layer that makes several matrices at once says so: its module's `row_parts` maps its name to their rows.
    """
    rows_of: dict[Parameter, tuple[int, ...]] = {}
    for parent in model.get_submodule("blocks").modules():
        parts: dict[str, tuple[int, ...]] = getattr(parent, "row_parts", {})
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
                rows_of[cast(Parameter, layer.weight)] = parts.get(name, (layer.out_features,))
    others = parameter_groups(model, config.weight_decay)
    for group in others:
        group["params"] = [parameter for parameter in group["params"] if parameter not in rows_of]
        group["use_muon"] = False
    muon: dict[str, Any] = {"params": list(rows_of), "parts": list(rows_of.values()), "use_muon": True}
    muon["weight_decay"] = config.weight_decay
    return [group for group in (muon, *others) if group["params"]]


def build(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    """`fused` is AdamW's, whose settings `betas` and `eps` are too."""
    for group in groups:
        if not group["use_muon"]:
            group.update(betas=config.betas, eps=config.eps)
    return Muon(groups, fused=fused)


def at_step(group: dict[str, Any], config: OptimConfig, step: int, rate: float) -> dict[str, Any]:
    """The settings of a group in the update number `step`: Muon's learning rate follows AdamW's, with its own peak."""
    if not group["use_muon"]:
        return adamw.at_step(group, config, step, rate)
    return {"lr": rate * (config.muon_lr / config.lr), "momentum": muon_momentum(step, config)}


def muon_momentum(step: int, config: OptimConfig) -> float:
    """Muon's momentum in the update number `step`: a line from `muon_momentum_start` over the warm-up, then constant.

    While the gradients still turn quickly a long memory points to where they were (after Jordan et al. 2024,
    "modded-nanogpt").
    """
    if step >= config.muon_momentum_warmup:
        return config.muon_momentum
    share = step / config.muon_momentum_warmup
    return config.muon_momentum_start + share * (config.muon_momentum - config.muon_momentum_start)


def orthogonalise(matrices: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """For each M = U S V^T of (N, R, C), a matrix near U V^T: most of its singular values lie in 0.7 to 1.2.

    A Newton-Schulz iteration, X <- (a I + b G + c G^2) X with G = X X^T, is matrix products alone (Bernstein and
    Newhouse 2024, "Old Optimizer, New Norm", appendix A).
    """
    R, C = matrices.shape[-2:]
    wide = matrices if R <= C else matrices.mT  # (N, r, c), r <= c
    # The Frobenius norm bounds the largest singular value; the sum is for a gradient of zeros.
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    exact = wide.dtype in {torch.float32, torch.float64}
    iterate = _iterate_gram if exact and wide.shape[-1] >= 2 * wide.shape[-2] else _iterate
    result = iterate(wide, iterations)
    return result if R <= C else result.mT


def _iterate(X: Tensor, iterations: int) -> Tensor:
    """As the formula says: per step two products of the square kind, G G and G X, and one for G."""
    for _ in range(iterations):
        X = torch.bmm(_polynomial(torch.bmm(X, X.mT)), X)
    return X


def _iterate_gram(X: Tensor, iterations: int) -> Tensor:
    """The same with X kept as Q X_0: Q and G are square, so a step costs four small products, however long X is.

    Not for bfloat16: the rounding of G, which stands for the small singular values, grows from step to step, and a
    gradient of low rank comes out many times too long.
    """
    gram, Q = torch.bmm(X, X.mT), None
    for number in range(iterations):
        step = _polynomial(gram)
        Q = step if Q is None else torch.bmm(step, Q)
        if number + 1 < iterations:
            gram = torch.bmm(torch.bmm(step, gram), step)
    return X if Q is None else torch.bmm(Q, X)


def _polynomial(gram: Tensor) -> Tensor:
    """a I + b G + c G^2 of (N, r, r)."""
    a, b, c = _QUINTIC
    value = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    value.diagonal(dim1=-2, dim2=-1).add_(a)
    return value


class _Part(NamedTuple):
    """Some rows of a parameter that are a matrix of their own: the queries' share of one that makes q, k and v."""

    parameter: Parameter
    first: int
    rows: int


class Muon(Optimizer):
    """Muon for groups with `use_muon`, AdamW for the others (Jordan 2024; Liu et al. 2025 for the weight decay).

    A Muon group has lr, momentum, weight_decay and `parts`: for each parameter the numbers of rows of the matrices that
    it holds, one above the other. An update is scaled by sqrt(max(1, rows / columns)), as Jordan's is, so that a
    learning rate carries over between widths (Bernstein 2025, "Deriving Muon", has sqrt(rows / columns), which differs
    for matrices that narrow). Equal shapes are orthogonalised together.
    """

    found_inf: Tensor | None = None
    """As torch's fused optimizers have it: () float32 on the device, and a step changes nothing where it is 1."""

    def __init__(self, groups: list[dict[str, Any]], *, fused: bool) -> None:
        """`groups` as above; `fused` is AdamW's."""
        super().__init__(groups, {"fused": fused})
        self._link_adamw()

    def _link_adamw(self) -> None:
        """An AdamW over the very dicts of the other groups and the same state: a schedule or a resume reaches both."""
        others = [group for group in self.param_groups if not group["use_muon"]]
        self._adamw: AdamW | None = None
        if others:
            self._adamw = AdamW([{"params": group["params"]} for group in others], fused=self.defaults["fused"])
            for theirs, ours in zip(self._adamw.param_groups, others, strict=True):
                for name, value in theirs.items():
                    ours.setdefault(name, value)
            self._adamw.param_groups = others
            self._adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As any optimizer, which replaces the dicts that are shared."""
        super().load_state_dict(state_dict)
        self._link_adamw()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of everything that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["use_muon"]:
                self._step_muon(group)
        if self._adamw is not None:
            self._adamw.found_inf = self.found_inf  # type: ignore[attr-defined]
            self._adamw.step()
        return loss

    def _step_muon(self, group: dict[str, Any]) -> None:
        with_gradient = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not with_gradient:
            return
        buffers = [self._momentum(parameter) for parameter in with_gradient]
        gradients = [cast(Tensor, parameter.grad) for parameter in with_gradient]
        decay: float | Tensor = 1 - group["lr"] * group["weight_decay"]
        if self.found_inf is not None:  # then the momentum moves towards itself, and the weights not at all
            skip = self.found_inf != 0
            gradients = [torch.where(skip, *pair) for pair in zip(buffers, gradients, strict=True)]
            decay = torch.where(skip, 1.0, decay)
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, buffers, group["momentum"])  # Nesterov's look ahead
        direction_of = dict(zip(with_gradient, directions, strict=True))
        torch._foreach_mul_(with_gradient, decay)
        for (rows, columns), parts in self._by_shape(group, direction_of).items():
            stack = torch.stack([direction_of[part.parameter][part.first : part.first + rows] for part in parts])
            updates = orthogonalise(stack.to(_working_dtype(stack.device.type)))
            if self.found_inf is not None:
                updates = updates * (self.found_inf == 0)
            scale = max(1.0, rows / columns) ** 0.5
            targets = [part.parameter[part.first : part.first + rows] for part in parts]
            torch._foreach_add_(targets, list(updates.to(stack.dtype)), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    @staticmethod
    def _by_shape(group: dict[str, Any], wanted: dict[Parameter, Tensor]) -> dict[tuple[int, int], list[_Part]]:
        """The matrices of the group's parameters, by their shape."""
        found: dict[tuple[int, int], list[_Part]] = {}
        for part in _matrices(group):
            if part.parameter in wanted:
                found.setdefault((part.rows, part.parameter.shape[1]), []).append(part)
        return found


def _matrices(group: dict[str, Any]) -> Iterator[_Part]:
    for parameter, rows in zip(group["params"], group["parts"], strict=True):
        first = 0
        for count in rows:
            yield _Part(parameter, first, count)
            first += count


@functools.cache
def _working_dtype(device_type: str) -> torch.dtype:
    """bfloat16 is enough for the iteration and twice as fast, where the processor multiplies in it."""
    if device_type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.9 cannot tell
        return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32
    return torch.bfloat16 if device_type == "cuda" else torch.float32
