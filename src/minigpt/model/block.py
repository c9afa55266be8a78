"""The residual block: attention, then feed-forward, each added to the stream it read from."""

from torch import Tensor, nn

from minigpt.model.attention import Attention
from minigpt.model.cache import LayerCache
from minigpt.model.config import GPTConfig, NormPlacement
from minigpt.model.dropout import Dropout
from minigpt.model.feedforward import feed_forward
from minigpt.model.norms import NORMS
from minigpt.model.positions import PositionSignals


class PreNormBlock(nn.Module):
    """x + f(norm(x)): a clear path from top to bottom (Radford et al. 2019, 2.3; Xiong et al. 2020, figure 1)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        norm = NORMS[config.norm]
        self.attention_norm = norm(config.n_embd, config)
        self.attention = Attention(config)
        self.feedforward_norm = norm(config.n_embd, config)
        self.feedforward = feed_forward(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, signals: PositionSignals, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), signals, cache))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class PostNormBlock(PreNormBlock):
    """norm(x + f(x)): the arrangement of the paper (Vaswani et al. 2017, section 3.1; dropout as in 5.4)."""

    def forward(self, x: Tensor, signals: PositionSignals, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, signals, cache)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


BLOCKS: dict[NormPlacement, type[PreNormBlock]] = {"pre": PreNormBlock, "post": PostNormBlock}
