"""Causal self-attention with many heads, written out (`explicit`) and through torch's kernel (`fused`)."""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.cache import LayerCache
from minigpt.model.config import AttentionName, GPTConfig
from minigpt.model.dropout import dropout
from minigpt.model.linear import Linear
from minigpt.model.norms import RMSNorm
from minigpt.model.positions import PositionSignals, rotate


class Attention(nn.Module):
    """Every token gathers from itself and the tokens before it (Vaswani et al. 2017, section 3.2).

    With fewer key/value heads than query heads, H / Hkv query heads share one (Ainslie et al. 2023). With
    qk_norm each query and key is normalised first, so that no score can explode (Henry et al. 2020).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.kv_heads = config.kv_heads
        self.head_width = config.head_width
        self.dropout = config.dropout
        self.attend = ATTENTIONS[config.attention]
        # One matrix for all three is one matrix product instead of three.
        qkv_width = (config.n_head + 2 * config.kv_heads) * config.head_width
        self.row_parts = {
            "qkv": tuple(heads * config.head_width for heads in (self.n_head, self.kv_heads, self.kv_heads))
        }
        """Rows of the matrices that `qkv` holds, one above the other: an optimizer may treat each by itself."""
        self.qkv = Linear(config.n_embd, qkv_width, bias=config.bias)
        self.output = Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.query_norm = RMSNorm(config.head_width, config) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(config.head_width, config) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, signals: PositionSignals, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C); with a cache the T tokens also see what it holds, and are added to it."""
        B, T, C = x.shape
        q, k, v = self.project(x, signals)  # (B, H, T, D), (B, Hkv, T, D) twice
        if cache is not None:
            k, v = cache.extend(k, v, signals.start)  # (B, Hkv, S, D) each
        y = self.attend(q, k, v, signals.bias, self.dropout if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.output(y)

    def project(self, x: Tensor, signals: PositionSignals) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) -> queries (B, H, T, D), keys and values (B, Hkv, T, D), normalised and turned."""
        B, T, _ = x.shape
        H, Hkv, D = self.n_head, self.kv_heads, self.head_width
        qkv = self.qkv(x).view(B, T, H + 2 * Hkv, D)  # the heads of q, of k and of v side by side
        q, k, v = qkv.split_with_sizes((H, Hkv, Hkv), dim=2)  # (B, T, H, D), (B, T, Hkv, D) twice
        q, k = self.query_norm(q), self.key_norm(k)
        if signals.rotation is not None:
            q, k = rotate(q, signals.rotation), rotate(k, signals.rotation)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class AttentionFunction(Protocol):
    """q (B, H, T, D), k and v (B, Hkv, S, D), bias (1 or B, 1 or H, T, S) or None -> (B, H, T, D).

    Without a bias the T queries are the last T of S positions: query t sees the keys 0 .. S - T + t.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> Tensor: ...


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> Tensor:
    """softmax(q k^T / sqrt(D) + bias) v, step by step: the reference (Vaswani et al. 2017, equation 1)."""
    return weighted_values(attention_weights(q, k, bias), v, dropout_p)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """How much each query takes from each key: (B, H, T, S), every row sums to 1."""
    H, T, D = q.shape[1:]
    S = k.shape[2]
    if bias is None:
        bias = future_bias(T, S, q)  # (T, S)
    q = q / math.sqrt(D)  # cheaper than dividing the scores
    scores = q @ share_heads(k, H).transpose(-2, -1) + bias  # (B, H, T, D) @ (B, H, D, S) -> (B, H, T, S)
    return scores.softmax(dim=-1)


def weighted_values(weights: Tensor, v: Tensor, dropout_p: float) -> Tensor:
    """What the queries gather by weights (B, H, T, S), some of which are dropped: (B, H, T, D)."""
    return dropout(weights, dropout_p) @ share_heads(v, weights.shape[1])  # (B, H, T, S) @ (B, H, S, D)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> Tensor:
    """The same through `scaled_dot_product_attention`, whose kernels never hold all weights at once.

    They are fastest without a mask, so one is built only for several new tokens behind a cache.
    """
    if dropout_p > 0.0 and q.device.type == "cpu":
        # No CPU kernel can drop weights: torch would take the same steps as ours, with its slower dropout.
        return explicit_attention(q, k, v, bias, dropout_p)
    T, S = q.shape[2], k.shape[2]
    is_causal = False
    if bias is None and T == S:  # a statement, as torch.compile makes symbols of lengths that change
        is_causal = True
    elif bias is None and T > 1:
        bias = future_bias(T, S, q)
    if q.device.type == "cuda" and (bias is not None or q.dtype == torch.float32):
        # CUDA's one kernel for a bias or for float32 knows no shared heads; torch would use none at all.
        k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    shared = k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias, dropout_p=dropout_p, is_causal=is_causal, enable_gqa=shared
    )


ATTENTIONS: dict[AttentionName, AttentionFunction] = {
    "fused": fused_attention,
    "explicit": explicit_attention,
}


def future_bias(T: int, S: int, like: Tensor) -> Tensor:
    """(T, S): -inf where key s lies in the future of query t, which stands at position S - T + t; 0 elsewhere."""
    return torch.full((T, S), -math.inf, dtype=like.dtype, device=like.device).triu(S - T + 1)


def share_heads(kv: Tensor, n_head: int) -> Tensor:
    """Repeat each of Hkv key/value heads (B, Hkv, S, D) for the query heads that share it: (B, H, S, D)."""
    shared_by = n_head // kv.shape[1]
    return kv if shared_by == 1 else kv.repeat_interleave(shared_by, dim=1)
