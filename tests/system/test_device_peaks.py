"""The table of dense peaks: each device finds its own row, and no row holds a sparse rate."""

import pytest

from minigpt.system.utilisation import TABLE, data_sheet, sheet_peak

NAMES = [  # as the drivers spell them, with the dense rate in TFLOP/s of the format that one trains in
    ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
    ("NVIDIA H100 PCIe", "bf16", 756.5),
    ("NVIDIA H100 NVL", "bf16", 835.5),
    ("NVIDIA H200", "bf16", 989.4),
    ("NVIDIA H200 NVL", "bf16", 835.5),
    ("NVIDIA GH200 480GB", "bf16", 989.4),
    ("NVIDIA B200", "bf16", 2250),
    ("NVIDIA GB200", "bf16", 2500),
    ("NVIDIA A100-SXM4-40GB", "bf16", 312),
    ("NVIDIA A100 80GB PCIe", "bf16", 312),
    ("NVIDIA L4", "bf16", 121),
    ("NVIDIA L40S", "bf16", 362),
    ("Tesla V100-SXM2-16GB", "fp16", 125),
    ("Tesla V100-PCIE-32GB", "fp16", 112),
    ("Tesla T4", "fp16", 65),
    ("NVIDIA GeForce RTX 3090", "bf16", 71),
    ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
    ("NVIDIA GeForce RTX 5090", "bf16", 209.5),
    ("Apple M1", "fp32", 2.6),
    ("Apple M1 Ultra", "fp32", 21),
    ("Apple M2 Max", "fp32", 13.6),
    ("Apple M3 Pro", "fp32", 6.4),
    ("Apple M4", "fp32", 3.8),
]


@pytest.mark.parametrize(("name", "product", "tflops"), NAMES)
def test_name_finds_its_row(name: str, product: str, tflops: float) -> None:
    assert sheet_peak(name, product) == tflops * 1e12  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "x86_64",
        "NVIDIA L40",
        "NVIDIA T400 4GB",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A10",
        "Apple M5",
        "",
    ],
)
def test_neighbours_have_none(name: str) -> None:
    assert data_sheet(name) is None


def test_what_a_card_cannot_multiply_has_no_peak() -> None:
    assert sheet_peak("Tesla T4", "bf16") is None
    assert sheet_peak("NVIDIA H100 80GB HBM3", "fp64") is None


@pytest.mark.parametrize(
    ("name", "sparse"),
    [
        ("NVIDIA GB200", 5000),
        ("NVIDIA B200", 4500),
        ("NVIDIA H100 80GB HBM3", 1979),
        ("NVIDIA H100 PCIe", 1513),
        ("NVIDIA H200 NVL", 1671),
        ("NVIDIA A100-SXM4-80GB", 624),
        ("NVIDIA L40S", 733),
        ("NVIDIA L4", 242),
        ("NVIDIA GeForce RTX 3090", 142),
        ("NVIDIA GeForce RTX 4090", 330.4),
        ("NVIDIA GeForce RTX 5090", 419),
    ],
)
def test_dense_is_half_of_what_is_advertised(name: str, sparse: float) -> None:
    assert sheet_peak(name, "bf16") == pytest.approx(sparse / 2 * 1e12, rel=0.015)


def test_every_row_is_reached_and_its_rates_are_in_order() -> None:
    reached = {id(data_sheet(name)) for name, _, _ in NAMES}
    nvidia = [row for row in TABLE if not row.pattern.startswith(r"\bM")]
    assert all(id(row) in reached for row in nvidia)
    for row in nvidia:
        assert row.tflops["fp16"] > row.tflops["fp32"], row.pattern
        assert row.tflops.get("tf32", row.tflops["fp32"]) >= row.tflops["fp32"], row.pattern
