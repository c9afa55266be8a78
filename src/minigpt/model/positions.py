"""Position encodings: learned, sinusoidal, rotary, ALiBi, none, or a class of the user's own."""

# ruff: noqa: ARG002 - the base class takes what its subclasses need
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigpt.model.config import GPTConfig, PositionName
from minigpt.model.custom import build_module, supports_cache, try_once


class Starts(NamedTuple):
    """Positions of the first tokens of sequences that begin at different positions."""

    each: Tensor
    """(B, 1) int64."""
    longest: int
    """The largest of them, as shapes depend on it: known to the caller, which saves a copy from the device."""


Start = int | Starts
"""Position of the first token: the same for all sequences, or one per sequence."""


class PositionSignals(NamedTuple):
    """What attention reads of the positions: computed once in a forward pass, used by every layer.

    With `Starts`, rotation is (2, B, T, 1, D/2), and bias is not None.
    """

    start: Start
    """Position of the first token: the number of tokens already in the cache."""
    rotation: Tensor | None
    """(2, T, 1, D/2): cosines and sines that rotate queries and keys."""
    bias: Tensor | None
    """(1 or B, 1 or H, T, S): added to the attention scores; already -inf where a key lies in the future."""


@supports_cache
class Position(nn.Module):
    """No position encoding (`none`), and the base of the others: each overrides one or more of the three methods.

    Without any encoding a causal transformer can still learn the order, since token t attends to t + 1 tokens
    (Haviv et al. 2022).
    """

    max_positions: int | None = None
    """Number of positions that can be encoded; None: no limit."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()

    def embed(self, x: Tensor, start: Start) -> Tensor:
        """Add positions start..start+T-1 to token embeddings (B, T, C) -> (B, T, C)."""
        return x

    def rotation(self, x: Tensor, start: Start) -> Tensor | None:
        """Return cosines and sines (2, T, 1, D/2) for `rotate`, on the device of x (B, T, C), or None."""
        return None

    def bias(self, x: Tensor, start: Start) -> Tensor | None:
        """Return the bias (1 or B, 1 or H, T, S) of the attention scores, S = start + T, in the dtype of x (B, T, C).

        It must be -inf where a key lies in the future. None leaves the causal mask to the attention function; with
        `Starts`, where sequences begin at different positions, there must be a bias.
        """
        if isinstance(start, int):
            return None
        distance = distances(x, start)  # (B, 1, T, S)
        return torch.zeros_like(distance).masked_fill(distance > 0, -math.inf)

    def signals(self, x: Tensor, start: Start) -> PositionSignals:
        """Compute what the layers need for T tokens x (B, T, C) that begin at position `start`."""
        return PositionSignals(start, self.rotation(x, start), self.bias(x, start))


@supports_cache
class LearnedPosition(Position):
    """One trained vector for each of block_size positions (GPT-2; Vaswani et al. 2017, section 3.5)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.weight = nn.Parameter(torch.empty(config.block_size, config.n_embd))
        self.max_positions = config.block_size

    def embed(self, x: Tensor, start: Start) -> Tensor:
        T = x.shape[1]
        if isinstance(start, int):
            return x + self.weight[start : start + T]  # (B, T, C) + (T, C)
        return x + self.weight[places(start, T, x.device)]  # (B, T, C) twice


@supports_cache
class SinusoidalPosition(Position):
    """Fixed sines and cosines added to the embedding (Vaswani et al. 2017, section 3.5).

    The embedding is multiplied by sqrt(C) first (section 3.4): with a standard deviation of 0.02 it would otherwise
    vanish beside sines of amplitude 1.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.embedding_scale = math.sqrt(config.n_embd)

    def embed(self, x: Tensor, start: Start) -> Tensor:
        T, C = x.shape[1:]
        return x * self.embedding_scale + sinusoids(start, T, C, x.device).to(x.dtype)  # (B, T, C) + (T, C)


@supports_cache
class RotaryPosition(Position):
    """Rotate queries and keys by an angle proportional to the position (RoPE; Su et al. 2021, section 3.4).

    The dot product of a query and a key then depends on their distance alone.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.head_width = config.head_width
        self.base = config.rotary_base

    def rotation(self, x: Tensor, start: Start) -> Tensor:
        angle = angles(start, x.shape[1], self.head_width, self.base, x.device)  # (T, D/2)
        return torch.stack((angle.cos(), angle.sin())).unsqueeze(-2)  # (2, T, 1, D/2), the same for every head


@supports_cache
class AlibiPosition(Position):
    """Subtract slope * distance from each score, one slope per head (ALiBi; Press et al. 2022, section 3)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.slopes = alibi_slopes(config.n_head)

    def bias(self, x: Tensor, start: Start) -> Tensor:
        distance = distances(x, start)  # (1 or B, 1, T, S)
        distance = distance.masked_fill(distance > 0, -math.inf)
        slopes = torch.tensor(self.slopes, dtype=x.dtype, device=x.device)  # (H,)
        return slopes[:, None, None] * distance  # (1 or B, H, T, S)


POSITIONS: dict[PositionName, type[Position]] = {
    "none": Position,
    "learned": LearnedPosition,
    "sinusoidal": SinusoidalPosition,
    "rotary": RotaryPosition,
    "alibi": AlibiPosition,
}
"""Position encodings by `model.position`, which also takes the dotted name of a class of the same protocol:

    class Spiral(Position):                        derived from Position
        def __init__(self, config): ...            config: GPTConfig; call super().__init__(config)
        def embed(self, x, start): ...             one or more of `embed`, `rotation` and `bias`
        def reset_parameters(self): ...            only with parameters or buffers of its own, see model/init.py

A class that takes `start` into account, which is also given as `Starts`, is marked `@supports_cache`
(minigpt.model.custom); without the mark, `start` is always 0.
"""


def build_position(config: GPTConfig) -> Position:
    """Build the position encoding that `config.position` names; ConfigError for one of the user's that fails."""
    name = config.position
    position: Position = build_module("position", name, POSITIONS, config, base=Position)
    B, T, C = 2, min(3, config.block_size), config.n_embd
    x, q = torch.zeros(B, T, C), torch.zeros(B, T, config.n_head, config.head_width)
    scores = torch.zeros(B, config.n_head, T, T)
    try_once("position", name, lambda: position.embed(x, 0), (B, T, C))
    try_once("position", name, lambda: _rotated(q, position.rotation(x, 0)), q.shape)
    try_once("position", name, lambda: _biased(scores, position.bias(x, 0)), scores.shape)
    return position


def _rotated(q: Tensor, rotation: Tensor | None) -> Tensor:
    return q if rotation is None else rotate(q, rotation)


def _biased(scores: Tensor, bias: Tensor | None) -> Tensor:
    return scores if bias is None else scores + bias


def end_of(start: Start, T: int) -> int:
    """Return the position after the last of T tokens, in the longest sequence: the number of keys (S)."""
    return (start if isinstance(start, int) else start.longest) + T


def places(start: Start, T: int, device: torch.device) -> Tensor:
    """Return the positions of T tokens, int64: (T,), or (B, T) with `Starts`."""
    if isinstance(start, int):
        return torch.arange(start, start + T, device=device)
    return torch.arange(T, device=device) + start.each


def distances(x: Tensor, start: Start) -> Tensor:
    """Return position of key minus position of query, negative in the past: (1 or B, 1, T, S), dtype of x (B, T, C)."""
    T = x.shape[1]
    query = places(start, T, x.device).view(-1, 1, T, 1)
    return (torch.arange(end_of(start, T), device=x.device) - query).to(x.dtype)


def angles(start: Start, T: int, width: int, base: float, device: torch.device) -> Tensor:
    """Return position / base^(2i/width), float32 (T, width/2), or (B, T, width/2) with `Starts`.

    They are the angles of the sinusoids and of the rotary rotation alike.
    """
    position = places(start, T, device).float()  # (T,)
    exponent = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width  # (width/2,)
    frequency = 1.0 / base**exponent
    return position[..., None] * frequency  # (T, width/2)


def sinusoids(start: Start, T: int, C: int, device: torch.device) -> Tensor:
    """Return sin in even channels, cos in odd ones, float32 (T, C) or (B, T, C) (Vaswani et al. 2017, section 3.5)."""
    angle = angles(start, T, C, 10000.0, device)  # (T, C/2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)  # (T, C/2, 2) -> (T, C)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + D/2]) of queries or keys x (B, T, H, D) by the angles of (2, T, 1, D/2).

    The paper pairs neighbours (x[2i], x[2i+1]); pairing the two halves is the same up to a fixed permutation
    of channels, and is the convention of Llama's published weights in `transformers`.
    Computed in float32, returned in the dtype of x.
    """
    cos, sin = rotation  # (T, 1, D/2) each, or (B, T, 1, D/2)
    first, second = x.chunk(2, dim=-1)  # (B, T, H, D/2) each
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)  # (B, T, H, D)
    return rotated.to(x.dtype)


def alibi_slopes(n_head: int) -> list[float]:
    """Return one slope per head: 2^(-8/n), 2^(-16/n), ..., 2^-8 where n = n_head is a power of two.

    Otherwise those of the next lower power of two, then every other one of the next higher power, as in the
    code that the paper's authors published.
    """
    below = 2 ** math.floor(math.log2(n_head))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    between = [2 ** (-8 * (i + 1) / (2 * below)) for i in range(0, 2 * below, 2)]
    return slopes + between[: n_head - below]
