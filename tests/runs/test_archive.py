"""Checkpoint files: a checksum over every bit, written whole or not at all."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.errors import CheckpointError
from minigpt.runs.archive import read_archive, write_archive

CONTENT = {"weights": torch.arange(1000.0), "step": 3, "names": ["a", "b"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_archive(CONTENT, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_reads_what_was_written(file: Path) -> None:
    content = read_archive(file)
    assert torch.equal(content.pop("weights"), CONTENT["weights"])
    assert content == {"step": 3, "names": ["a", "b"]}
    assert [path.name for path in file.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("mmap", [False, True])
def test_plain_torch_opens_it(file: Path, mmap: bool) -> None:
    assert torch.equal(torch.load(file, weights_only=True, mmap=mmap)["weights"], CONTENT["weights"])
    with file.open("rb") as opened:  # as Lightning does
        assert torch.load(opened, weights_only=True)["step"] == 3


def test_any_flipped_bit_is_found(file: Path) -> None:
    good = file.read_bytes()
    dice = random.Random(0)
    end = len(good) - 120  # table, comment's length, comment
    bits = dice.sample(range(8 * end), 1500) + list(range(8 * end, 8 * len(good)))
    for bit in bits:
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.ckpt") as caught:
            read_archive(file)
        assert "\n" not in str(caught.value)
    file.write_bytes(good)
    read_archive(file)


def test_file_that_plain_torch_saved_is_held_to_the_sums_of_the_zip(file: Path) -> None:
    torch.save(CONTENT, file)
    read_archive(file)
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(b"data/0") + 200] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"is damaged: .*data/0 does not have the checksum"):
        read_archive(file)


def test_full_disk_leaves_the_old_file(file: Path) -> None:
    """A real refusal of the system: no file of this process may grow beyond 3,000 bytes."""
    before = file.read_bytes()
    code = (
        "import resource, signal, sys, pathlib, torch; from minigpt.runs.archive import write_archive;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        f"write_archive({{'w': torch.ones(9999)}}, pathlib.Path({str(file)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"CheckpointError: cannot write {file}: File too large" in done.stderr
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["a.ckpt"]
