"""Causal self-attention with many heads: written out (`explicit`), by torch's kernel (`fused`), or the user's own."""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.cache import LayerCache
from minigpt.model.config import AttentionName, GPTConfig
from minigpt.model.custom import call, find_variant, supports_cache, try_once
from minigpt.model.norms import RMSNorm
from minigpt.model.positions import PositionSignals, distances, end_of, rotate


class Attention(nn.Module):
    """Let every token gather from itself and the tokens before it (Vaswani et al. 2017, section 3.2).

    With fewer key/value heads than query heads, H / Hkv query heads share one (Ainslie et al. 2023). With
    qk_norm each query and key is normalised first, so that no score can explode (Henry et al. 2020).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.kv_heads = config.kv_heads
        self.head_width = config.head_width
        self.dropout = nn.Dropout(config.dropout)
        self.attend = build_attention_function(config)
        # One matrix for all three is one matrix product instead of three.
        qkv_width = (config.n_head + 2 * config.kv_heads) * config.head_width
        self.row_parts = {
            "qkv": tuple(heads * config.head_width for heads in (self.n_head, self.kv_heads, self.kv_heads))
        }
        """Numbers of rows of the matrices stacked in `qkv`: an optimizer may treat each matrix by itself."""
        self.qkv = nn.Linear(config.n_embd, qkv_width, bias=config.bias)
        self.output = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.query_norm = RMSNorm(config.head_width, config) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(config.head_width, config) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, signals: PositionSignals, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C); with a cache the T tokens also see what it holds, and are added to it."""
        B, T, C = x.shape
        q, k, v = self.project(x, signals)  # (B, H, T, D), (B, Hkv, T, D) twice
        if cache is not None:
            k, v = cache.extend(k, v, signals.start)  # (B, Hkv, S, D) each
        y = self.attend(q, k, v, signals.bias, self.dropout)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.output(y)

    def project(self, x: Tensor, signals: PositionSignals) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) -> queries (B, H, T, D), keys and values (B, Hkv, T, D), normalised and rotated."""
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

    Without a bias the T queries are the last T of S positions: query t sees the keys 0 .. S - T + t. A bias is added to
    the scores and is -inf at every key that a query does not see. `dropout` is applied to the attention weights.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: nn.Dropout) -> Tensor: ...


@supports_cache
def explicit_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: nn.Dropout) -> Tensor:
    """Compute softmax(q k^T / sqrt(D) + bias) v step by step: the reference (Vaswani et al. 2017, equation 1)."""
    weights = dropout(attention_weights(q, k, bias))
    return weights @ share_heads(v, q.shape[1])  # (B, H, T, S) @ (B, H, S, D) -> (B, H, T, D)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Return how much each query takes from each key: (B, H, T, S), every row sums to 1."""
    H, T, D = q.shape[1:]
    S = k.shape[2]
    if bias is None:
        bias = future_bias(T, S, q)  # (T, S)
    q = q / math.sqrt(D)  # cheaper than dividing the scores
    scores = q @ share_heads(k, H).transpose(-2, -1) + bias  # (B, H, T, D) @ (B, H, D, S) -> (B, H, T, S)
    return scores.softmax(dim=-1)


@supports_cache
def fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: nn.Dropout) -> Tensor:
    """Compute the same by `scaled_dot_product_attention`, whose kernels never hold all weights at once.

    They are fastest without a mask, so one is built only for several new tokens behind a cache.
    """
    dropout_p = dropout.p if dropout.training else 0.0
    if dropout_p > 0.0 and q.device.type == "cpu":
        # No CPU kernel drops weights: torch would take the steps of `explicit_attention`.
        return explicit_attention(q, k, v, bias, dropout)
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
"""Attention functions by `model.attention`, which also takes the dotted name of one of the same protocol:

    def cosine(q, k, v, bias, dropout): ...        an AttentionFunction
    class Sinks(nn.Module):                        or a class that builds one, one per layer, as it has parameters
        def __init__(self, config): ...            config: GPTConfig
        def forward(self, q, k, v, bias, dropout): ...

`future_bias` and `share_heads` below help to write one. It is responsible for causality: no query may see a later key.
A function or class that takes T queries and more keys S > T, as behind a KV cache, is marked `@supports_cache`
(minigpt.model.custom); without the mark, T and S are always the same.
"""


def build_attention_function(config: GPTConfig) -> Any:
    """Return the attention function that `config.attention` names; ConfigError for one of the user's that fails."""
    name = config.attention
    attend = find_variant("attention", name, ATTENTIONS)
    if isinstance(attend, type):
        attend = call("attention", name, attend, config)
    B, H, T, D = 2, config.n_head, min(3, config.block_size), config.head_width
    q, kv = torch.zeros(B, H, T, D), torch.zeros(B, config.kv_heads, T, D)
    try_once("attention", name, lambda: attend(q, kv, kv, None, nn.Dropout(config.dropout)), (B, H, T, D))
    return attend


def future_bias(T: int, S: int, like: Tensor) -> Tensor:
    """Return the causal mask (T, S): -inf where key s > S - T + t, the position of query t; 0 elsewhere."""
    return torch.full((T, S), -math.inf, dtype=like.dtype, device=like.device).triu(S - T + 1)


def share_heads(kv: Tensor, n_head: int) -> Tensor:
    """Repeat each of Hkv key/value heads (B, Hkv, S, D) for the query heads that share it: (B, H, S, D)."""
    shared_by = n_head // kv.shape[1]
    return kv if shared_by == 1 else kv.repeat_interleave(shared_by, dim=1)


def within(signals: PositionSignals, x: Tensor, window: int | None) -> PositionSignals:
    """Let each token of x (B, T, C) see only the last `window` tokens, itself included, in a layer; None: all.

    Several such layers together see further, as the window of one reads what the layer below has gathered (Beltagy et
    al. 2020, "Longformer", section 3.1; Child et al. 2019 for alternating local and full layers).
    """
    if window is None or end_of(signals.start, x.shape[1]) <= window:
        return signals
    distance = distances(x, signals.start)  # (1 or B, 1, T, S)
    bias = torch.zeros_like(distance) if signals.bias is None else signals.bias
    return signals._replace(bias=bias.masked_fill((distance > 0) | (distance <= -window), -math.inf))
