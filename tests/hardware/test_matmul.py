"""The measured peak: plausible, looked for once, and nobody's random numbers are touched."""

import pytest
import torch

from minigpt.hardware import matmul
from minigpt.hardware.matmul import fastest_product, measured_peak

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16, 32)})
    monkeypatch.setattr(matmul, "SECONDS", 0.001)
    monkeypatch.setattr(matmul, "_measured", {})


def test_the_fastest_product_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 N^3 operations; the best size and the best try win."""
    took = iter([9.0, 4.0, 9.0, 1.0])
    monkeypatch.setattr(matmul, "_product_seconds", lambda factors: next(took))
    assert fastest_product(CPU, torch.float32, seconds=0.0) == 2 * 16**3 / 4.0  # the time is over: one size, one try


def test_it_is_measured_once_for_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
        asked.append(dtype)
        return 1.0

    monkeypatch.setattr(matmul, "fastest_product", counted)
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        assert measured_peak(CPU, dtype) == 1.0
    assert asked == [torch.float32, torch.bfloat16]


def test_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    assert measured_peak(CPU, torch.float32) > 0
    assert torch.equal(torch.get_rng_state(), before)
