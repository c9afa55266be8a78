"""benchmarks/gpu.py goes through all its parts at toy size, and one that fails does not take the others along.

Without a GPU it begins nothing.
"""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def test_every_part_of_the_gpu_benchmark(tmp_path: Path) -> None:
    words = ["--toy", "--recipes", "shakespeare_cpu.yaml", "no_such.yaml", "--out", "tables"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 1, done.stderr
    outcomes = dict(line.strip("| ").split(" | ")[:2] for line in done.stdout.splitlines()[2:])
    parts = {"tests", "step", "profile", "loss", "optimizer", "foretold", "decode", "train"}
    assert outcomes == {**dict.fromkeys(parts, "done"), "train": "failed in part"}
    tables = {part: (tmp_path / "tables" / f"gpu_{part}.md").read_text(encoding="utf-8") for part in parts}
    assert all("these numbers mean nothing" in table for table in tables.values())
    assert "of the time of transformers" in tables["step"]
    assert "| best | 3 |" in tables["train"]
    assert "FAILED: --config configs/no_such.yaml: there is no such file" in tables["train"]
    assert "| GPT.loss |" in tables["loss"]
    assert "| shakespeare_cpu_fast | 24 |" in tables["optimizer"]
    assert "tokens/s" in tables["foretold"]


def test_the_gpu_benchmark_says_at_once_that_there_is_no_gpu(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--only", "decode", "--out", "tables"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert "--toy" in done.stderr
    assert not any(tmp_path.iterdir())
