"""Attention: both kernels against sums written out, shared heads, and what is handed to torch's kernel."""

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigpt.model import attention as module
from minigpt.model.attention import ATTENTIONS, Attention, attention_weights, explicit_attention, fused_attention
from minigpt.model.config import AttentionName
from minigpt.model.positions import AlibiPosition, PositionSignals, RotaryPosition, rotate

from .variants import randomise, small_config

NO_DROPOUT = nn.Dropout(0.0)


def random_heads(H: int = 4, Hkv: int = 4, T: int = 6, S: int = 6, D: int = 8) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, H, T, D), (2, Hkv, S, D), (2, Hkv, S, D))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def attention_in_loops(q, k, v, bias=None):
    """The definition, one query at a time."""
    B, H, T, D = q.shape
    Hkv, S = k.shape[1:3]
    y = torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            shared = h // (H // Hkv)
            for t in range(T):
                last = S - T + t
                scores = [q[b, h, t] @ k[b, shared, s] / math.sqrt(D) for s in range(last + 1)]
                if bias is not None:
                    scores = [score + bias[0, h, t, s] for s, score in enumerate(scores)]
                exponentials = torch.stack(scores).exp()
                y[b, h, t] = exponentials / exponentials.sum() @ v[b, shared, : last + 1]
    return y


def test_the_table_holds_every_name():
    assert tuple(ATTENTIONS) == get_args(AttentionName)


@pytest.mark.parametrize("attend", [explicit_attention, fused_attention])
@pytest.mark.parametrize("Hkv", [4, 2, 1])
@pytest.mark.parametrize(("T", "S"), [(6, 6), (1, 6), (3, 6), (1, 1)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_definition(attend, Hkv, T, S, with_bias):
    q, k, v = random_heads(Hkv=Hkv, T=T, S=S)
    bias = None
    if with_bias:
        bias = AlibiPosition(small_config(position="alibi")).bias(torch.empty(1, T, 16, dtype=torch.float64), S - T)
    torch.testing.assert_close(attend(q, k, v, bias, NO_DROPOUT), attention_in_loops(q, k, v, bias))


def test_weights_are_a_distribution_over_the_past():
    q, k, _ = random_heads(T=3)
    weights = attention_weights(q, k, None)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 3, dtype=torch.float64))
    assert (weights[:, :, 0, 4:] == 0).all()
    assert (weights[:, :, 0, :4] > 0).all()


def test_equal_heads_see_what_shared_heads_see():
    q, k, v = random_heads(Hkv=2)
    copied = [heads[:, [0, 0, 1, 1]] for heads in (k, v)]
    torch.testing.assert_close(
        fused_attention(q, k, v, None, NO_DROPOUT), fused_attention(q, *copied, None, NO_DROPOUT)
    )


@pytest.mark.parametrize(
    ("T", "S", "is_causal", "masked"), [(6, 6, True, False), (1, 6, False, False), (3, 6, False, True)]
)
def test_the_kernel_gets_a_mask_only_where_it_needs_one(monkeypatch, T, S, is_causal, masked):
    calls = []
    kernel = F.scaled_dot_product_attention

    def record(q, k, v, **settings):
        calls.append((settings, k.shape[1]))
        return kernel(q, k, v, **settings)

    monkeypatch.setattr(module.F, "scaled_dot_product_attention", record)
    fused_attention(*random_heads(Hkv=2, T=T, S=S), None, NO_DROPOUT)
    [(settings, kv_heads)] = calls
    assert settings["is_causal"] is is_causal
    assert (settings["attn_mask"] is not None) is masked
    assert (settings["enable_gqa"], kv_heads) == (True, 2)  # shared, not copied


def test_projection_is_ordered_queries_keys_values():
    attention = Attention(small_config(n_kv_head=2)).double()
    randomise(attention)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    q, k, v = attention.project(x, PositionSignals(0, None, None))
    assert (q.shape, k.shape, v.shape) == ((2, 4, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4))
    W, b = attention.qkv.weight, attention.qkv.bias
    torch.testing.assert_close(q[:, 1], x @ W[4:8].T + b[4:8])  # head 1 of 4, each 4 wide
    torch.testing.assert_close(k[:, 1], x @ W[20:24].T + b[20:24])
    torch.testing.assert_close(v[:, 0], x @ W[24:28].T + b[24:28])


def test_qk_norm_normalises_each_head_before_the_rotation():
    attention = Attention(small_config(qk_norm=True, n_kv_head=2, position="rotary")).double()
    randomise(attention)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    rotation = RotaryPosition(small_config(position="rotary")).rotation(x, 0)
    q, k, v = attention.project(x, PositionSignals(0, rotation, None))
    raw = attention.qkv(x).view(2, 5, 8, 4)  # 4 + 2 + 2 heads, each 4 wide
    raw_q, raw_k, raw_v = raw[:, :, :4], raw[:, :, 4:6], raw[:, :, 6:]
    for heads, before, norm in ((q, raw_q, attention.query_norm), (k, raw_k, attention.key_norm)):
        normalised = before / (before.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * norm.weight
        torch.testing.assert_close(heads.transpose(1, 2), rotate(normalised, rotation))
    torch.testing.assert_close(v.transpose(1, 2), raw_v)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_heads_run_in_a_fused_kernel_on_cuda(dtype, with_bias):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (heads.to("cuda", dtype) for heads in random_heads(Hkv=2, T=64, S=64, D=16))
    bias = AlibiPosition(small_config(position="alibi")).bias(q[:, 0], 0) if with_bias else None
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):  # an error where neither can
        fused = fused_attention(q, k, v, bias, NO_DROPOUT)
    torch.testing.assert_close(fused, explicit_attention(q, k, v, bias, NO_DROPOUT), rtol=0.02, atol=0.02)
