"""A tensor of a file that is no weight is told in one line, wherever it comes from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import checkpoint_content, random_gpt, tiny_config, tiny_tokenizer
from interop.foreign import gpt2, nano_checkpoint
from torch import Tensor

from minigpt.cli.main import main
from minigpt.errors import CheckpointError
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.system.weights import REAL, fault_of_weight

ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda weight: weight.to_sparse(), "is a sparse_coo tensor"),
    "rows": (lambda weight: weight.to_sparse_csr(), "is a sparse_csr tensor"),
    "nested": (lambda weight: torch.nested.nested_tensor(list(weight)), "is a nested tensor"),
    "jagged": (lambda weight: torch.nested.nested_tensor(list(weight), layout=torch.jagged), "is a nested tensor"),
    "meta": (lambda weight: weight.to("meta"), "is a meta tensor"),
    "quantised": (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "is torch.qint8: quantised"),
    "whole": (lambda weight: weight.to(torch.int8), "is torch.int8: quantised"),
    "8 bits": (lambda weight: weight.to(torch.float8_e4m3fn), "is torch.float8_e4m3fn: quantised"),
    "4 bits": (lambda weight: weight.to(torch.uint8).view(torch.float4_e2m1fn_x2), "is torch.float4_e2m1fn_x2"),
    "complex": (lambda weight: weight.to(torch.complex64), "is torch.complex64"),
    "repeated": (lambda weight: torch.zeros(1, 1).expand_as(weight), "repeats a few numbers"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore")
def test_each_is_one_line_in_each_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a checkpoint of ours, in pytorch_model.bin, in nanoGPT's: under the name of a matrix, and under any other."""
    monkeypatch.chdir(tmp_path)
    change, message = ODD[kind]
    model = gpt2()
    model.config.save_pretrained("hf")
    theirs = {name: value.detach() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    nano_checkpoint(Path("good.pt"))
    nano = torch.load("good.pt", weights_only=True)
    for name in ("transformer.wte.weight", "lm_head.weight", "transformer.h.0.attn.c_attn.weight"):
        odd = change(nano["model"][name])
        torch.save(nano | {"model": nano["model"] | {name: odd}}, "ckpt.pt")
        torch.save(theirs | {name: odd}, "hf/pytorch_model.bin")
        for source in (["hf", "--source", "hf"], ["nanogpt", "--source", "ckpt.pt", "--tokenizer", "ids"]):
            assert main(["import", "--out", "a.ckpt", "--format", *source]) == 1
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert f"weight '{name}' {message}" in error
            assert not Path("a.ckpt").exists()
    ours = checkpoint_content(random_gpt(tiny_config()), tiny_tokenizer("byte"))
    name = "gpt.blocks.0.attention.qkv.weight"
    ours["state_dict"][name] = change(ours["state_dict"][name])
    torch.save(ours, "ours.ckpt")
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint("ours.ckpt")
    assert "\n" not in str(refusal.value)
    assert message in str(refusal.value)


@pytest.mark.parametrize("dtype", REAL)
def test_real_numbers_are_weights(dtype: torch.dtype) -> None:
    whole = torch.randn(4, 6).to(dtype)
    for weight in (whole, whole.T, whole[1:3], whole[:, 0], torch.nn.Parameter(whole), whole[:0], whole.sum()):
        assert fault_of_weight(weight) is None
