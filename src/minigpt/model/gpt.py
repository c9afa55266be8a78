"""GPT: tokens in, logits of the next token out."""

import torch
from torch import Tensor, nn

from minigpt.errors import ConfigError
from minigpt.model.attention import Attention, within
from minigpt.model.block import build_block
from minigpt.model.cache import Cache
from minigpt.model.config import GPTConfig
from minigpt.model.custom import states_cache_support
from minigpt.model.init import draw_weights, initialise
from minigpt.model.loss import Reduction, next_token_loss
from minigpt.model.norms import build_norm
from minigpt.model.positions import Start, build_position, end_of


class SoftCap(nn.Module):
    """cap * tanh(logits / cap) keeps every logit within (-cap, cap) (Gemma Team 2024, section 2)."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, logits: Tensor) -> Tensor:
        """(..., V) -> (..., V)."""
        return self.cap * (logits / self.cap).tanh()


class Scale(nn.Module):
    """x times a number: mup's 1 / width before the output layer (Yang et al. 2022, table 8)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x * self.factor


class GPT(nn.Module):
    """A decoder-only transformer (Vaswani et al. 2017; Radford et al. 2019), initialised when built.

    Built on the meta device it has shapes and no weights: after `to_empty`, `initialise` gives it the weights that
    building it elsewhere would have given. Names in the state dict are a contract: token_embedding, position,
    blocks.N.{attention_norm, attention, feedforward_norm, feedforward}, final_norm, head.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = build_position(config)
        self.dropout = nn.Dropout(config.dropout)
        self.windows = config.windows
        self.blocks = nn.ModuleList(build_block(config) for _ in range(config.n_layer))
        # A post-norm block has normalised its sum already.
        self.final_norm: nn.Module = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.token_embedding.weight  # Press and Wolf 2017
        self.readout: nn.Module = Scale(1 / config.width_multiplier) if config.mup_base_width else nn.Identity()
        self.squash = SoftCap(config.logit_softcap) if config.logit_softcap else nn.Identity()
        self.without_cache = _without_cache(self.position, self.blocks, config)
        """Settings whose component does not support a KV cache, as `model.position=my_ideas.Spiral`."""
        if not self.head.weight.is_meta:
            draw_weights(self, config, self.head)

    def initialise(self) -> None:
        """Set all weights and buffers of a model that was built on the meta device, from torch's global generator.

        With the same seed they are those of `GPT(config)`. Raises ConfigError for a component of the user's own that
        cannot be initialised so.
        """
        if self.config.tie_embeddings:
            self.head.weight = self.token_embedding.weight  # `to_empty` has made them two
        initialise(self, self.config, self.head)

    @property
    def max_positions(self) -> int | None:
        """Number of positions that the model can encode: block_size if they are learned; None: no limit."""
        return self.position.max_positions

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) int64 -> logits (B, T, V) of each token's successor.

        With a cache the tokens follow those it holds, see them, and are added to it (any T >= 1). Raises ConfigError
        for more tokens than positions or room in the cache, and for a cache with a component that supports none.
        """
        return self.logits(self.hidden(tokens, cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """Output of `hidden`, (..., C) -> (..., V)."""
        return self.squash(self.head(self.readout(hidden)))

    def learning_rate_scales(self) -> dict[nn.Parameter, float]:
        """Return the factors of the learning rate under Adam that are not 1: those of mup's hidden matrices.

        Adam changes every weight by as much as the rate, and an output is the sum of n products: its change grows as n,
        unless the rate falls as 1 / n (Yang et al. 2022, "Tensor Programs V", table 8).
        """
        if self.config.mup_base_width is None:
            return {}
        matrices = [weight for weight in self.blocks.parameters() if weight.ndim == 2]
        return dict.fromkeys(matrices, 1 / self.config.width_multiplier)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) int64 -> (B, T, C): the residual stream after the last norm, from which `logits` are made."""
        if cache is not None and self.without_cache:
            raise ConfigError(
                f"{self.without_cache[0]} does not support a KV cache: leave the cache out, or mark the component with "
                "@supports_cache where it does"
            )
        T = tokens.shape[1]
        start = 0 if cache is None else cache.start_of(tokens)
        self._check_positions(start, T)

        x = self.token_embedding(tokens)  # (B, T, C)
        x = self.dropout(self.position.embed(x, start))
        everywhere = self.position.signals(x, start)
        signals = {window: within(everywhere, x, window) for window in set(self.windows)}
        for layer, (block, window) in enumerate(zip(self.blocks, self.windows, strict=True)):
            x = block(x, signals[window], None if cache is None else cache.layers[layer])  # (B, T, C)
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x)

    def loss(self, tokens: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        """Cross-entropy in nats per token, in float32 whatever the dtype of the model or of autocast.

        tokens and targets are (B, T) int64, targets[:, t] the successor of tokens[:, t]; targets of -100 are
        ignored. "mean" gives a scalar over the others, "none" gives (B, T) with 0 where ignored.
        """
        hidden = self.hidden(tokens).flatten(0, 1)  # (B T, C)
        weights = list(self.head.parameters())
        loss = next_token_loss(
            self.logits, weights, hidden, targets.flatten(), vocab_size=self.config.vocab_size, reduction=reduction
        )
        return loss if reduction == "mean" else loss.view_as(targets)

    def _check_positions(self, start: Start, T: int) -> None:
        limit, end = self.max_positions, end_of(start, T)
        if limit is not None and end > limit:
            raise ConfigError(
                f"{end} tokens are more than block_size={limit}, the most that "
                f"position={self.config.position} can encode"
            )


def _without_cache(position: nn.Module, blocks: nn.ModuleList, config: GPTConfig) -> list[str]:
    pieces: dict[str, object] = {"model.position": position}
    for block in blocks:
        pieces["model.block"] = block
    for part in blocks.modules():
        if isinstance(part, Attention):
            pieces["model.attention"] = part.attend
    custom = config.custom_names()
    unmarked = [key for key, piece in pieces.items() if not states_cache_support(piece)]
    return [f"{key}={custom[key]}" for key in unmarked if key in custom]


def meta_model(config: GPTConfig) -> GPT:
    """Build a model on the meta device: shapes without memory.

    A component of the user's own that cannot be built there is built on the CPU, and the whole model with it; torch's
    global generator is left as it was.
    """
    try:
        with torch.device("meta"):
            return GPT(config)
    except ConfigError:
        if not config.custom_names():
            raise
    with torch.random.fork_rng(devices=[]):
        return GPT(config)
