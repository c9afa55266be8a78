"""Model FLOPs utilisation: the arithmetic, and which peak it is told of."""

import pytest
import torch

from minigpt.system import utilisation as module
from minigpt.system.utilisation import Peak, find_peak, utilisation

CPU = torch.device("cpu")


def test_share_of_a_made_up_device() -> None:
    """1,000 FLOPs for a token, 50 tokens a second, a device of 100,000 FLOP/s: half of it."""
    assert utilisation(1_000, 50, 100_000) == 0.5


def test_gpt2_on_an_h100() -> None:
    """6 N + 12 L C T of GPT-2 124M are 0.85 GFLOP a token; half a million of them a second are 43 % of 989 TFLOP/s."""
    from minigpt.model.config import GPTConfig
    from minigpt.model.sizes import flops_per_token

    config = GPTConfig(vocab_size=50304, block_size=1024, n_layer=12, n_head=12, n_embd=768, dropout=0.0)
    assert flops_per_token(config) == pytest.approx(6 * 123.5e6 + 12 * 12 * 768 * 1024, rel=0.01)
    assert utilisation(flops_per_token(config), 500_000, 989.4e12) == pytest.approx(0.43, abs=0.005)


def test_the_data_sheet_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    monkeypatch.setattr(module, "measured_peak", lambda device, dtype: pytest.fail("nothing to measure"))
    assert find_peak(CPU, "bf16-mixed") == Peak(312e12, "data sheet")
    assert find_peak(CPU, "32-true") == Peak(19.5e12, "data sheet")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-true", torch.float16)]
)
def test_a_device_without_a_row_is_measured_in_the_format_of_the_run(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(module, "measured_peak", lambda device, kind: asked.append(kind) or 7.0)
    assert find_peak(CPU, precision) == Peak(7.0, "measured")
    assert asked == [dtype]
