"""The measured peak: plausible, looked for once, and nobody's random numbers are touched."""

from collections.abc import Callable

import pytest
import torch

from minigpt.system import matmul
from minigpt.system.cpu_kernels.onednn import HAS_ONEDNN
from minigpt.system.matmul import fastest_product, measured_peak

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16, 32)})
    monkeypatch.setattr(matmul, "SECONDS", 0.001)
    monkeypatch.setattr(matmul, "_measured", {})


def test_the_fastest_product_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 N^3 operations; the best size and the best try win, and no first call."""
    took = iter([0.1, 4.0, 0.1, 64.0])
    monkeypatch.setattr(matmul, "_ways", lambda factors: [torch.matmul])
    monkeypatch.setattr(matmul, "_product_seconds", lambda factors, way, count: next(took))
    assert fastest_product(CPU, torch.float32, seconds=0.0) == 2 * 16**3 / 4.0  # no time: each size once
    monkeypatch.setattr(matmul, "_product_seconds", lambda factors, way, count: 1.0)
    assert fastest_product(CPU, torch.float32, seconds=0.0) == 2 * 32**3


def test_a_device_that_must_be_waited_for_is_given_many_products_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the way to the device and back would be measured with them."""
    asked = []

    def seconds(factors: torch.Tensor, way: object, count: int) -> float:
        asked.append(count)
        return 0.0004

    monkeypatch.setattr(matmul, "_product_seconds", seconds)
    far = torch.empty(2, 16, 16, device="meta")
    assert matmul._enough(far, torch.matmul) == 25  # in LONG = 0.01 s
    assert matmul._enough(torch.empty(2, 16, 16), torch.matmul) == 1
    assert asked == [1, 1, 1]


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN")
def test_the_faster_of_two_libraries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model multiplies by either: a peak of one alone would be too low to be a share of."""
    used = []

    def seconds(factors: torch.Tensor, way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], count: int) -> float:
        used.append(way(*factors).shape)
        return 1.0 if way is torch.matmul else 0.5

    monkeypatch.setattr(matmul, "_product_seconds", seconds)
    assert fastest_product(CPU, torch.float32, seconds=0.0) == 2 * 32**3 / 0.5
    assert used == [(16, 16)] * 4 + [(32, 32)] * 4
    assert fastest_product(CPU, torch.float64, seconds=0.0) == 2 * 32**3  # oneDNN has no such product


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
