"""The measures of a language model over many batches, reduced over all processes."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from minigpt.data.round_trip import ByteCorrection
from minigpt.model.loss import IGNORE_INDEX


class LanguageModelMetrics(Metric):
    """Loss in nats per token, perplexity, and bits per byte.

    Bits per byte = (sum of nats) / (ln 2 x bytes of the target text): unlike the loss it does not depend on how the
    text is cut into tokens, so it compares tokenizers. The end-of-text token stands for no bytes, but its cost counts.

    The bytes are those of the windows that were read, exactly, where the tokenizer gives its text back; how those of
    others are estimated, `ByteCorrection` says.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    bytes: Tensor
    token_bytes: Tensor
    prefix_bytes: Tensor

    def __init__(self, token_bytes: Tensor, correction: ByteCorrection | None = None) -> None:
        """`token_bytes` (V,): the bytes that each token stands for; `correction`: what their sum lacks to be exact."""
        super().__init__()
        # MPS has no float64; its float32 sums carry seven digits.
        wide = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.register_buffer("token_bytes", token_bytes.to(wide), persistent=False)
        self.correction = correction
        prefix_bytes = torch.zeros(0) if correction is None else torch.from_numpy(correction.prefix_bytes)
        self.register_buffer("prefix_bytes", prefix_bytes.to(wide), persistent=False)
        for name in ("nats", "tokens", "bytes"):
            self.add_state(name, torch.zeros((), dtype=wide), dist_reduce_fx="sum")

    def update(self, losses: Tensor, targets: Tensor, tokens: Tensor | None = None) -> None:
        """Count `losses` (B, T), nats, of the tokens `targets` (B, T), each of which follows that of `tokens` (B, T).

        A target of IGNORE_INDEX costs 0, and is no token. Without `tokens` no document's beginning is seen.
        """
        counted = targets != IGNORE_INDEX
        targets = targets.masked_fill(~counted, 0)
        self.nats += losses.sum(dtype=self.nats.dtype)
        self.tokens += counted.sum()
        n_bytes = (self.token_bytes[targets] * counted).sum()
        if self.correction is not None:
            if tokens is not None and self.correction.end_of_text is not None:
                begins = counted & (tokens == self.correction.end_of_text)
                n_bytes -= self.prefix_bytes[targets[begins]].sum()
            n_bytes = n_bytes * self.correction.scale
        self.bytes += n_bytes

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `perplexity` and `bits_per_byte` of all that was counted."""
        loss = self.nats / self.tokens
        return {
            "loss": loss,
            "perplexity": loss.exp(),
            "bits_per_byte": self.nats / (math.log(2) * self.bytes),
        }
