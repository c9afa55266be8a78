"""What a precision's name means to torch."""

import pytest
import torch

from minigpt.system.precision import autocast, full_name, product_dtype, product_format, weights_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "full", "weights", "product"),
    [
        (32, "32-true", torch.float32, torch.float32),
        ("bf16", "bf16-mixed", torch.float32, torch.bfloat16),
        ("bf16-true", "bf16-true", torch.bfloat16, torch.bfloat16),
        (16, "16-mixed", torch.float32, torch.float16),
        ("64-true", "64-true", torch.float64, torch.float64),
    ],
)
def test_names(name: str | int, full: str, weights: torch.dtype, product: torch.dtype) -> None:
    assert full_name(name) == full
    assert weights_dtype(full) == weights
    assert product_dtype(full) == product


def test_tf32_is_cudas_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert product_format("32-true", CUDA) == "fp32"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert product_format("32-true", CUDA) == "tf32"
    assert product_format("32-true", CPU) == "fp32"
    assert product_format("bf16-mixed", CUDA) == "bf16"


def test_autocast_is_for_the_mixed_ones() -> None:
    factors = torch.ones(2, 2)
    with autocast("bf16-mixed", CPU):
        assert (factors @ factors).dtype == torch.bfloat16
    with autocast("bf16-true", CPU):
        assert (factors @ factors).dtype == torch.float32
