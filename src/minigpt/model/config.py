"""GPTConfig: the settings of the model with their defaults, meanings and checks. Imports no torch."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from minigpt.errors import ConfigError, did_you_mean, shown
from minigpt.system.components import check_choice, is_dotted
from minigpt.system.settings import refuse_without_effect

PositionName = Literal["learned", "sinusoidal", "rotary", "alibi", "none"]
NormName = Literal["layernorm", "rmsnorm"]
NormPlacement = Literal["pre", "post"]
ActivationName = Literal["relu", "gelu", "gelu_tanh", "relu2", "swiglu", "geglu"]
AttentionName = Literal["fused", "explicit"]

GATED_ACTIVATIONS: frozenset[ActivationName] = frozenset({"swiglu", "geglu"})
LOGITS_AT_ONCE = 2**25
"""Most logits that the loss computes together, 128 MiB in float32: 667 tokens of a vocabulary of 50,304."""


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Settings of a GPT. Illegal values and combinations raise ConfigError with the values and the rule.

    `position`, `norm`, `activation`, `attention` and `block` also take the dotted name of a component of the user's
    own (`my_ideas.Spiral`), imported when a model is built. What it must be is documented at the table of the built-in
    ones: POSITIONS, NORMS, FEEDFORWARDS, ATTENTIONS, BLOCKS.
    """

    vocab_size: int
    """Number of distinct tokens (V)."""
    block_size: int = 64
    """Longest sequence in training, in tokens (T)."""
    n_layer: int = 4
    """Number of residual blocks; 0 leaves only embedding and output."""
    n_head: int = 8
    """Number of query heads (H)."""
    n_kv_head: int | None = None
    """Number of key/value heads: null is n_head, fewer is grouped-query, 1 is multi-query attention."""
    n_embd: int = 128
    """Width of the residual stream, in channels (C)."""
    n_ff: int | None = None
    """Width of the feed-forward layer: null is 4 * n_embd, or 8/3 * n_embd for the gated activations."""
    dropout: float = 0.2
    """Share of values dropped in training: in embeddings, attention weights and residual branches."""
    position: PositionName | str = "learned"
    """Position encoding; or a class of your own: my_ideas.Spiral."""
    norm: NormName | str = "layernorm"
    """Normalisation over the channels; or a class of your own."""
    norm_eps: float = 1e-5
    """Epsilon of every norm, which keeps its division finite: GPT-2 has 1e-5, Llama models 1e-5 or 1e-6."""
    norm_placement: NormPlacement = "pre"
    """Normalise the input of each sublayer (pre, GPT-2) or the sum after it (post, the 2017 paper)."""
    activation: ActivationName | str = "gelu"
    """Feed-forward layer, named after its activation; or a function or a class of your own."""
    attention: AttentionName | str = "fused"
    """Attention by torch's fused kernel, or written out step by step: the same numbers; or a function of your own."""
    block: str | None = None
    """A residual block of your own, as my_ideas.Parallel; null: that of norm_placement, which otherwise only decides
    whether there is a norm after the last block (pre)."""
    sliding_window: int | None = None
    """Tokens that each token sees in layers of sliding-window attention, itself included; null: all layers see all."""
    window_pattern: str = "SSSL"
    """Which layers have the window (S) and which see all (L): a letter a layer, repeated from the last layer back."""
    norm_gain: bool = True
    """Give the norms a trained gain for each channel (and layernorm its bias)."""
    qk_norm: bool = False
    """Normalise (RMSNorm) queries and keys of each head before they meet."""
    bias: bool = True
    """Give biases to linear layers and to layernorm."""
    tie_embeddings: bool = True
    """Use one matrix as token embedding and as output layer."""
    zero_init: bool = False
    """Initialise the last matrix of each residual branch, and an untied output layer, to zero."""
    mup_base_width: int | None = None
    """muP: the n_embd at which the learning rate was tuned, which then holds for other widths; null: standard
    parametrisation. Widen by adding heads of the same width, and leave n_ff at null."""
    logit_softcap: float | None = None
    """Limit the logits to (-cap, cap) by cap * tanh(logits / cap); null: no limit."""
    rotary_base: float = 10000.0
    """Base of the rotary wavelengths; only for position=rotary, or a class of your own that reads it."""

    @property
    def head_width(self) -> int:
        """Channels of one head (D)."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Number of key/value heads, with null resolved."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def ff_width(self) -> int:
        """Feed-forward width (F), with null resolved.

        A gated layer has three matrices instead of two, so 8/3 * n_embd keeps the number of parameters of
        4 * n_embd (Shazeer 2020, section 2); it is rounded up to a multiple of 8.
        """
        if self.n_ff is not None:
            return self.n_ff
        return 8 * math.ceil(self.n_embd / 3) if self.activation in GATED_ACTIVATIONS else 4 * self.n_embd

    @property
    def width_multiplier(self) -> float:
        """How many times wider than mup_base_width the model is; 1 in the usual parametrisation."""
        return 1.0 if self.mup_base_width is None else self.n_embd / self.mup_base_width

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How many tokens each layer sees, None for all of them."""
        if self.sliding_window is None:
            return (None,) * self.n_layer
        letters = [self.window_pattern[i % len(self.window_pattern)] for i in range(-self.n_layer, 0)]
        return tuple(self.sliding_window if letter == "S" else None for letter in letters)

    def custom_names(self) -> dict[str, str]:
        """Dotted names of the user's own components, by key: `{"model.position": "my_ideas.Spiral"}`."""
        values = {name: getattr(self, name) for name in (*_CHOICES, "block")}
        return {f"model.{name}": value for name, value in values.items() if is_dotted(value)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name, as a checkpoint stores them: dotted names, never code."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; an unknown or missing name is a ConfigError."""
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"unknown model setting {shown(name)}{did_you_mean(shown(name), names)}")
        if "vocab_size" not in values:
            raise ConfigError("the model setting vocab_size is missing; it has no default")
        return cls(**values)

    def __post_init__(self) -> None:
        self._check_types_and_ranges()
        self._check_choices()
        self._check_combinations()
        for name in ("dropout", "norm_eps", "logit_softcap", "rotary_base"):
            if isinstance(getattr(self, name), int):  # torch calculates with whole numbers of 64 bits alone
                object.__setattr__(self, name, float(getattr(self, name)))

    def _check_types_and_ranges(self) -> None:
        for name in ("vocab_size", "block_size", "n_head", "n_embd"):
            _check_whole(name, getattr(self, name), at_least=1)
        _check_whole("n_layer", self.n_layer, at_least=0)
        for name in ("n_kv_head", "n_ff", "sliding_window", "mup_base_width"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), at_least=1)
        if self.mup_base_width is not None and self.n_ff is not None:
            raise ConfigError(
                f"mup_base_width={self.mup_base_width} asks for layers that all grow with n_embd: leave "
                f"n_ff={self.n_ff} to its default (null)"
            )
        for name in ("norm_gain", "qk_norm", "bias", "tie_embeddings", "zero_init"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={shown(getattr(self, name))} must be true or false")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise ConfigError(f"dropout={shown(self.dropout)} must be a number from 0 up to, not including, 1")
        if not (_is_number(self.norm_eps) and 0 < self.norm_eps < math.inf):
            raise ConfigError(f"norm_eps={shown(self.norm_eps)} must be a finite number above 0")
        if self.logit_softcap is not None and not (
            _is_number(self.logit_softcap) and 0 < self.logit_softcap < math.inf
        ):
            value = shown(self.logit_softcap)
            raise ConfigError(f"logit_softcap={value} must be a finite number above 0 (null: no cap)")
        if not (_is_number(self.rotary_base) and 1 < self.rotary_base < math.inf):
            raise ConfigError(f"rotary_base={shown(self.rotary_base)} must be a finite number above 1")

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        if self.norm_placement not in (placements := get_args(NormPlacement)):
            value = self.norm_placement
            near = did_you_mean(value if isinstance(value, str) else shown(value), placements)
            raise ConfigError(f"norm_placement={shown(value)} must be one of {', '.join(placements)}{near}")
        if self.block is not None and not is_dotted(self.block):
            raise ConfigError(
                f"block={shown(self.block)} must be a class of your own as my_file.Name (null: by norm_placement)"
            )

    def _check_combinations(self) -> None:
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd={self.n_embd} must be divisible by n_head={self.n_head}")
        if self.n_head % self.kv_heads:
            raise ConfigError(f"n_head={self.n_head} must be divisible by n_kv_head={self.n_kv_head}")
        if self.position == "rotary" and self.head_width % 2:
            raise ConfigError(
                f"position=rotary needs an even head width, but n_embd={self.n_embd} / n_head={self.n_head} "
                f"is {self.head_width}"
            )
        if self.position == "sinusoidal" and self.n_embd % 2:
            raise ConfigError(f"position=sinusoidal needs an even n_embd, not n_embd={self.n_embd}")
        if not is_dotted(self.position):  # a class of the user's own may read it
            refuse_without_effect(self, "", "rotary_base", "position", ("rotary",))
        self._check_windows()

    def _check_windows(self) -> None:
        pattern = self.window_pattern
        if not (isinstance(pattern, str) and pattern and set(pattern) <= {"S", "L"} and "S" in pattern):
            raise ConfigError(
                f"window_pattern={shown(pattern)} must be letters S (sliding window) and L (all), one S at least"
            )
        if self.sliding_window is None and pattern != type(self).window_pattern:
            raise ConfigError(f"window_pattern={pattern} has no effect without sliding_window")
        if self.sliding_window is not None and self.sliding_window >= self.block_size:
            raise ConfigError(
                f"sliding_window={self.sliding_window} must be less than block_size={self.block_size}, which is all "
                "that a token can see"
            )


def loss_rows(vocab_size: int) -> int:
    """Tokens whose logits the loss computes together; the logits of no more are in memory at once."""
    return max(1, LOGITS_AT_ONCE // vocab_size)


def padded_vocabulary(n_tokens: int, multiple: int) -> int:
    """`vocab_size` for a tokenizer of so many tokens: the next multiple of `multiple`."""
    return -(-n_tokens // multiple) * multiple


_CHOICES: dict[str, tuple[str, ...]] = {
    "position": get_args(PositionName),
    "norm": get_args(NormName),
    "activation": get_args(ActivationName),
    "attention": get_args(AttentionName),
}


def _is_number(value: object) -> bool:
    """Whether it is a number, and one that a float can hold, if it is a whole one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max


def _check_whole(name: str, value: object, at_least: int) -> None:
    """Refuse what is not a whole number (True is an int to Python, not to a reader) and what is too small."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name}={shown(value)} must be a whole number")
    if value < at_least:
        raise ConfigError(f"{name}={value} must be at least {at_least}")
