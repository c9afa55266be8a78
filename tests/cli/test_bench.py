"""`minigpt bench`: each of its three measurements at toy size, and what is refused before torch is loaded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigpt.cli.bench import read
from minigpt.cli.main import main
from minigpt.errors import ConfigError
from minigpt.system import matmul

BASE = Path(__file__).parent.parent.parent / "configs" / "base.yaml"
TINY = ["--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2", "--model.block_size=16", "--data.tokenizer=byte",
        "--data.batch_size=2", "--trainer.accelerator=cpu"]  # fmt: skip


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16,)})


def bench(corpus: object, *words: str) -> int:
    return main(["bench", "--config", str(BASE), *TINY, f"--data.corpus={corpus}", *words])


@pytest.mark.parametrize(
    ("words", "said", "n_rows"),
    [
        (["--steps=4", "--rounds=2"], "the Trainer's step takes", 2),
        (["--steps", "2", "--rounds", "1", "--against", "transformers"], "of the time of transformers; the", 3),
        (["--generate", "--rounds", "1", "--batch_sizes", "1", "2", "--contexts", "3"], "times as fast as without", 2),
        (["--profile", "--steps", "2"], "these 5 take", 5),
    ],
)
def test_a_table_and_a_last_line(
    words: list[str], said: str, n_rows: int, *, corpus_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(corpus_file, *words, "--out", str(tmp_path / "table.md")) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert said in lines[-1]
    assert not any(line.startswith("|") for line in lines)  # a table of text: Markdown is for the file
    written = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert written.startswith("`minigpt bench --config ")
    assert sum(line.startswith("| ") for line in written.splitlines()) == n_rows + 2
    assert written.endswith(f"\n\n{lines[-1]}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_a_missing_corpus_is_noted_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path / "none.txt", "--profile", "--steps=1") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("minigpt: note: ")]
    assert len(told) == 1
    assert told[0].startswith("minigpt: note: random tokens of a vocabulary of 257 stand in for the text: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "bench needs --config FILE"),
        (["--config", "nope.yaml"], "nope.yaml: there is no such file"),
        (["--config", BASE, "--agianst", "x"], "unknown key agianst, did you mean against?"),
        (["--config", BASE, "--against", "transfomers"], "--against transfomers must be one of transformers, did you"),
        (["--config", BASE, "--steps", "0"], "--steps 0 must be a whole number, 1 or more"),
        (["--config", BASE, "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["--config", BASE, "--rounds", "-1"], "--rounds -1 must be a whole number, 1 or more"),
        (["--config", BASE, "--rounds", "20", "--steps", "4"], "--rounds 20 must be at most --steps 4"),
        (["--config", BASE, "--generate", "--batch_sizes", "0"], "--batch_sizes 0 must be"),
        (["--config", BASE, "--generate", "--profile"], "not allowed with argument"),
        (["--config", BASE, "--out", BASE], "is there, and minigpt bench did not write it: name another file"),
        (["--config", BASE, "--out", "no/such/x.md"], "--out no/such/x.md: there is no folder no/such"),
        (["--config", BASE, "--ckpt_path", "last"], "--ckpt_path is for minigpt fit"),
        (["--config", BASE, "--model.n_heads", "4"], "unknown key model.n_heads, did you mean model.n_head?"),
        (["--config", BASE, "--model.n_embd=65"], "model.n_embd=65 must be divisible by model.n_head=8"),
    ],
)
def test_bad_input_is_one_line(words: list[object], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minigpt: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_without_transformers(
    corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert bench(corpus_file, "--against", "transformers", "--steps=1") == 2
    assert '--against transformers needs transformers: pip install "transformers"' in capsys.readouterr().err


def test_several_configs_and_their_order(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("model: {n_layer: 2}\n")
    request = read(["--config", str(BASE), "--config", str(tmp_path / "more.yaml"), "--optim.lr", "1e-3"])
    files = [str(BASE), "--config", str(tmp_path / "more.yaml")]
    assert request.config_words == ["--config", *files, "--optim.lr", "1e-3"]
    with pytest.raises(ConfigError, match="--batch_sizes"):
        read(["--config", str(BASE), "--batch_sizes", "0"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_code(number: int, code: int, corpus_file: Path, tmp_path: Path) -> None:
    words = ["bench", "--config", str(BASE), *TINY, f"--data.corpus={corpus_file}", "--steps=1000000", "--rounds=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "minigpt", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in err
    assert not list(tmp_path.glob("minigpt-bench-*"))
