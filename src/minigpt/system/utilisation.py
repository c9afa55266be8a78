"""Model FLOPs utilisation: the share of a device's matrix-product peak that the training of a model makes use of.

Chowdhery et al. 2022, "PaLM", appendix B: only the FLOPs that the model needs are counted, not those that an
implementation does besides.

Peaks are measured, or those of data sheets, for dense products in FLOP/s. Since 2020 NVIDIA prints the rate "with
sparsity" first: twice what a product of ordinary matrices can reach. All rates here are the dense ones, with sums in
float32: GeForce cards add in float16 twice as fast, which no training does.
"""

import re
from dataclasses import dataclass
from typing import Literal

import torch

from minigpt.system.devices import device_name
from minigpt.system.matmul import measured_peak
from minigpt.system.precision import Format, product_dtype, product_format


@dataclass(frozen=True)
class Peak:
    """The peak that a utilisation refers to."""

    flops: float
    """FLOP/s of one device."""
    source: Literal["data sheet", "measured"]


def find_peak(device: torch.device, precision: str) -> Peak:
    """The dense peak of `device` by its data sheet or, if the table lacks it, measured (0.2 s, once).

    `precision` is the full name of `trainer.precision`. No random state is touched.
    """
    listed = sheet_peak(device_name(device), product_format(precision, device))
    if listed is not None:
        return Peak(listed, "data sheet")
    return Peak(measured_peak(device, product_dtype(precision)), "measured")


def utilisation(flops_per_token: float, tokens_per_second: float, peak_flops: float) -> float:
    """The share, 0 to 1: FLOPs of training on one token x tokens in a second / FLOP/s of all devices together."""
    return flops_per_token * tokens_per_second / peak_flops


@dataclass(frozen=True)
class DataSheet:
    """A row of the table: pattern of the device name, and TFLOP/s by the format of the factors."""

    pattern: str
    """Regular expression that the device's name must contain, case ignored."""
    tflops: dict[Format, float]
    gigabytes: float | None = None
    """Memory; the smaller size of a device that comes in two. None for chips that share the computer's memory."""


def _tensor_cores(bf16: float, tf32: float, fp32: float) -> dict[Format, float]:
    """Rates of a device with tensor cores: bf16 and fp16 are equal; fp32 is that of the CUDA cores."""
    return {"bf16": bf16, "fp16": bf16, "tf32": tf32, "fp32": fp32}


def _apple(tflops: float) -> dict[Format, float]:
    """Rates of an Apple GPU, whose float16 is no faster than its float32."""
    return {"fp32": tflops, "fp16": tflops, "bf16": tflops}


# The first row that matches counts, so the special names stand before the general one.
TABLE = (
    # NVIDIA Blackwell (data sheet 2025), a GPU of the GB200 NVL72: 5 PFLOP/s bf16 and 2.5 PFLOP/s tf32, sparse, 80 fp32
    DataSheet(r"\bGB200\b", _tensor_cores(2500, 1250, 80), 186),
    # NVIDIA HGX B200 (data sheet 2024), an eighth of 36 PFLOP/s bf16 and 18 PFLOP/s tf32, both sparse, and of 600 fp32
    DataSheet(r"\bB200\b", _tensor_cores(2250, 1125, 75), 180),
    # NVIDIA H200 (data sheet 2024): NVL 1,671 and 835 sparse, 60; SXM 1,979 and 989 sparse, 67
    DataSheet(r"\bH200 NVL\b", _tensor_cores(835.5, 417.5, 60), 141),
    DataSheet(r"\bG?H200\b", _tensor_cores(989.4, 494.7, 66.9), 141),
    # NVIDIA H100 (data sheet 2023): PCIe 1,513 and 756 sparse, 51; NVL 1,671 and 835 sparse, 60
    DataSheet(r"\bH100 PCIe\b", _tensor_cores(756.5, 378, 51.2), 80),
    DataSheet(r"\bH100 NVL\b", _tensor_cores(835.5, 417.5, 60), 94),
    # NVIDIA H100 (architecture white paper 2022, table 2): SXM5, dense in the table itself; H800 is the same chip
    DataSheet(r"\bH[18]00\b", _tensor_cores(989.4, 494.7, 66.9), 80),
    # NVIDIA A100 (data sheet 2021), SXM and PCIe alike; A800 is the same chip
    DataSheet(r"\bA[18]00\b", _tensor_cores(312, 156, 19.5), 40),
    # NVIDIA L40S (data sheet 2023), L4 (data sheet 2023)
    DataSheet(r"\bL40S\b", _tensor_cores(362, 183, 91.6), 48),
    DataSheet(r"\bL4\b", _tensor_cores(121, 60, 30.3), 24),
    # NVIDIA V100 (data sheet 2020) and T4 (data sheet 2019): tensor cores for fp16 alone, no sparsity yet
    DataSheet(r"\bV100-PCIE", {"fp16": 112, "fp32": 14}, 16),
    DataSheet(r"\bV100", {"fp16": 125, "fp32": 15.7}, 16),
    DataSheet(r"\bT4\b", {"fp16": 65, "fp32": 8.1}, 16),
    # NVIDIA's white papers of RTX Blackwell (2025), Ada (2022) and Ampere GA102 (2020), in the table of peak rates the
    # lines "with FP32 accumulate"; the laptop chips of the same number are others
    DataSheet(r"\bRTX 5090(?! (D|Laptop))", _tensor_cores(209.5, 104.8, 104.8), 32),
    DataSheet(r"\bRTX 4090(?! (D|Laptop))", _tensor_cores(165.2, 82.6, 82.6), 24),
    DataSheet(r"\bRTX 3090(?! Ti)", _tensor_cores(71, 35.6, 35.6), 24),
    # Apple's press releases of the M1 (2020), M1 Pro and Max (2021), M1 Ultra (2022), M2 (2022), M2 Pro, Max and Ultra
    # (2023): the GPU with the most cores
    DataSheet(r"\bM1 Ultra\b", _apple(21)),
    DataSheet(r"\bM1 Max\b", _apple(10.4)),
    DataSheet(r"\bM1 Pro\b", _apple(5.2)),
    DataSheet(r"\bM1\b", _apple(2.6)),
    DataSheet(r"\bM2 Ultra\b", _apple(27.2)),
    DataSheet(r"\bM2 Max\b", _apple(13.6)),
    DataSheet(r"\bM2 Pro\b", _apple(6.8)),
    DataSheet(r"\bM2\b", _apple(3.6)),
    # Apple names no rate of the M3 and M4. Computed: 256 FLOP a cycle and core, as the M1's 2.6 TFLOP/s are, with 10,
    # 18, 40 and 80 cores at 1.398 GHz (M3), 10 and 20 cores at 1.47 GHz (M4), 40 at 1.678 GHz; the clocks are those
    # that databases of chips give
    DataSheet(r"\bM3 Ultra\b", _apple(28.6)),
    DataSheet(r"\bM3 Max\b", _apple(14.3)),
    DataSheet(r"\bM3 Pro\b", _apple(6.4)),
    DataSheet(r"\bM3\b", _apple(3.6)),
    DataSheet(r"\bM4 Max\b", _apple(17.2)),
    DataSheet(r"\bM4 Pro\b", _apple(7.5)),
    DataSheet(r"\bM4\b", _apple(3.8)),
)


DEVICES = (
    *("GB200", "B200", "H200 NVL", "H200", "H100 PCIe", "H100 NVL", "H100", "A100", "L40S", "L4"),
    *("V100-PCIE", "V100", "T4", "RTX 5090", "RTX 4090", "RTX 3090", "M1", "M2", "M3", "M4"),
)
"""Names that find a row, for messages; Apple's also with Pro, Max and Ultra."""


def data_sheet(device_name: str) -> DataSheet | None:
    """The row of a device by its driver's name (`NVIDIA H100 80GB HBM3`), or None."""
    return next((row for row in TABLE if re.search(row.pattern, device_name, re.IGNORECASE)), None)


def sheet_peak(device_name: str, product: Format) -> float | None:
    """FLOP/s of dense matrix products with factors in the format `product`; None if the table has none."""
    row = data_sheet(device_name)
    tflops = row.tflops.get(product) if row else None
    return None if tflops is None else tflops * 1e12
