"""GPT: tokens in, logits of the next token out."""

from torch import Tensor, nn

from minigpt.errors import ConfigError
from minigpt.model.block import BLOCKS
from minigpt.model.cache import Cache
from minigpt.model.config import GPTConfig
from minigpt.model.dropout import Dropout
from minigpt.model.init import initialise
from minigpt.model.linear import Linear
from minigpt.model.loss import Reduction, next_token_loss
from minigpt.model.norms import NORMS
from minigpt.model.positions import POSITIONS, Start, end_of
from minigpt.model.windows import within


class SoftCap(nn.Module):
    """cap * tanh(logits / cap): no logit leaves (-cap, cap), so none can run away (Gemma Team 2024, section 2)."""

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

    Names in the state dict are a contract: token_embedding, position, blocks.N.{attention_norm, attention,
    feedforward_norm, feedforward}, final_norm, head.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = POSITIONS[config.position](config)
        self.dropout = Dropout(config.dropout)
        self.windows = config.windows
        self.blocks = nn.ModuleList(BLOCKS[config.norm_placement](config) for _ in range(config.n_layer))
        # A post-norm block has normalised its sum already.
        pre_norm = config.norm_placement == "pre"
        self.final_norm: nn.Module = NORMS[config.norm](config.n_embd, config) if pre_norm else nn.Identity()
        self.head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.token_embedding.weight  # Press and Wolf 2017
        self.readout: nn.Module = Scale(1 / config.width_multiplier) if config.mup_base_width else nn.Identity()
        self.squash = SoftCap(config.logit_softcap) if config.logit_softcap else nn.Identity()
        initialise(self, config, self.head)

    @property
    def max_positions(self) -> int | None:
        """How many positions the model can express: block_size for learned ones, None is without limit."""
        return self.position.max_positions

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) int64 -> logits (B, T, V) of each token's successor.

        With a cache the tokens stand behind those it holds, see them, and are added to it (any T >= 1).
        Raises ConfigError where the positions or the cache end before the tokens do.
        """
        return self.logits(self.hidden(tokens, cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """What `hidden` gave, (..., C) -> (..., V)."""
        return self.squash(self.head(self.readout(hidden)))

    def learning_rate_scales(self) -> dict[nn.Parameter, float]:
        """By what a weight's learning rate under Adam is to be multiplied, where that is not 1: mup's hidden matrices.

        The gradients of a matrix of n columns add up in n products each, while Adam's update of every weight is as
        large as the rate: the change of what the layer gives grows as n, unless the rate falls as 1 / n (Yang et al.
        2022, "Tensor Programs V", table 8).
        """
        if self.config.mup_base_width is None:
            return {}
        matrices = [weight for weight in self.blocks.parameters() if weight.ndim == 2]
        return dict.fromkeys(matrices, 1 / self.config.width_multiplier)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (B, T) int64 -> (B, T, C): the stream after the last norm, from which `logits` are made."""
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
                f"position={self.config.position} can tell apart"
            )
