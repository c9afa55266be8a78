"""The measures of a language model over many batches, reduced over all processes."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class LanguageModelMetrics(Metric):
    """Loss in nats per token, perplexity, and bits per byte.

    Bits per byte = (sum of nats) / (ln 2 x bytes of the target text): unlike the loss it does not depend on how the
    text is cut into tokens, so it compares tokenizers. The end-of-text token stands for no bytes, but its cost counts.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    bytes: Tensor
    token_bytes: Tensor

    def __init__(self, token_bytes: Tensor) -> None:
        """`token_bytes` (V,): the bytes that each token stands for."""
        super().__init__()
        # MPS has no float64; its float32 sums carry seven digits.
        wide = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.register_buffer("token_bytes", token_bytes.to(wide), persistent=False)
        for name in ("nats", "tokens", "bytes"):
            self.add_state(name, torch.zeros((), dtype=wide), dist_reduce_fx="sum")

    def update(self, losses: Tensor, targets: Tensor) -> None:
        """Count `losses` (B, T), nats, of the tokens `targets` (B, T)."""
        self.nats += losses.sum(dtype=self.nats.dtype)
        self.tokens += targets.numel()
        self.bytes += self.token_bytes[targets].sum()

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `perplexity` and `bits_per_byte` of all that was counted."""
        loss = self.nats / self.tokens
        return {
            "loss": loss,
            "perplexity": loss.exp(),
            "bits_per_byte": self.nats / (math.log(2) * self.bytes),
        }
