"""The measured peak: plausible, looked for once, and nobody's random numbers are touched."""

from collections.abc import Callable

import pytest
import torch

from minigpt.hardware import matmul
from minigpt.hardware.matmul import fastest_product, measured_peak
from minigpt.onednn import HAS_ONEDNN

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16, 32)})
    monkeypatch.setattr(matmul, "SECONDS", 0.001)
    monkeypatch.setattr(matmul, "_measured", {})


def test_the_fastest_product_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 N^3 operations; the best size and the best try win."""
    took = iter([9.0, 4.0, 9.0, 1.0])
    monkeypatch.setattr(matmul, "_ways", lambda factors: [torch.matmul])
    monkeypatch.setattr(matmul, "_product_seconds", lambda factors, way: next(took))
    assert fastest_product(CPU, torch.float32, seconds=0.0) == 2 * 16**3 / 4.0  # the time is over: one size, one try


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN")
def test_the_faster_of_two_libraries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model multiplies by either: a peak of one alone would be too low to be a share of."""
    used = []

    def seconds(factors: torch.Tensor, way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        used.append(way(*factors).shape)
        return 1.0 if way is torch.matmul else 0.5

    monkeypatch.setattr(matmul, "_product_seconds", seconds)
    assert fastest_product(CPU, torch.float32, seconds=0.0) == 2 * 16**3 / 0.5
    assert used == [(16, 16)] * 4
    assert fastest_product(CPU, torch.float64, seconds=0.0) == 2 * 16**3  # oneDNN has no such product


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
