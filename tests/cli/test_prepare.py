import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli.main import main
from minigpt.data.prepare import open_prepared, prepare_cached
from minigpt.training.config import DataConfig


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i}\n" for i in range(2000)))
    return path


def test_it_prepares_and_says_what_there_is_now(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["prepare", "--corpus", str(corpus), "--out", str(out), "--tokenizer", "byte"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    rows = [line.split() for line in printed.out.splitlines()]
    assert rows[0] == ["split", "documents", "tokens", "bytes", "bytes", "per", "token", "shards"]
    assert rows[1] == ["train", "1", "17,001", "17,001", "1.000", "1"]
    assert rows[2] == ["val", "1", "1,889", "1,889", "1.000", "1"]
    assert ["folder", str(out)] in rows
    assert ["tokenizer", "byte,", "257", "tokens"] in rows
    assert open_prepared(out).val.n_tokens == 1889


@pytest.mark.parametrize(
    "chosen",
    [
        [],
        ["--tokenizer", "bpe", "--vocab_size", "300"],
        ["--tokenizer", "char", "--unknown", "--val_fraction", "0.2"],
        ["--tokenizer", "byte", "--split", "position", "--workers", "2"],
    ],
)
def test_the_command_it_ends_with_opens_the_folder(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: list[str]
) -> None:
    out = tmp_path / "my out"
    assert main(["prepare", "--corpus", str(corpus), "--out", str(out), *chosen]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:4] == ["minigpt", "fit", "--config", "base"]
    given = dict(zip(words[4::2], words[5::2], strict=True))
    settings = {name.removeprefix("--data."): value for name, value in given.items()}
    values: dict[str, Any] = dict(settings)
    converters: dict[str, Callable[[str], Any]] = {"vocab_size": int, "val_fraction": float, "unknown": "true".__eq__}
    for name, convert in converters.items():
        if name in values:
            values[name] = convert(values[name])
    config = DataConfig(**values)
    assert prepare_cached(config.prepare_options()).folder == out


@pytest.mark.parametrize(
    ("chosen", "code", "message"),
    [
        (
            ["--tokenizer", "byte", "--vocab_size", "300"],
            2,
            "vocab_size=300 has no effect with tokenizer=byte: leave it at 1024, or choose bpe",
        ),
        (["--vocab_size", "3"], 2, "vocab_size=3 must be at least 257 for bpe"),
        (["--val_fraction", "2"], 2, "val_fraction=2.0 must lie between 0 and 1"),
        (["--workers", "0"], 2, "workers=0 must be at least 1"),
        (["--tokeniser", "byte"], 2, "unknown option --tokeniser, did you mean --tokenizer?"),
        (["--split", "document"], 2, "invalid choice: 'document'"),
        (["--corpus", "pyton"], 1, "no such file or folder, nor a named corpus"),
        (["--out", "/dev/null/x"], 1, "Not a directory"),
    ],
)
def test_a_mistake_is_one_line(
    corpus: Path, capsys: pytest.CaptureFixture[str], chosen: list[str], code: int, message: str
) -> None:
    words = ["prepare", "--corpus", str(corpus), "--out", str(corpus.parent / "out"), *chosen]
    assert main(words) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("minigpt: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_corpus_and_folder_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare"]) == 2
    assert capsys.readouterr().err == "minigpt: error: the following arguments are required: --corpus, --out\n"


def test_help_tells_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    text = capsys.readouterr().out
    for option in ("corpus", "out", "tokenizer", "vocab_size", "workers", "val_fraction", "split", "text_field"):
        assert f"--{option}" in text
    assert "(default: None)" not in text


def test_another_text_in_the_folder_is_replaced_only_if_asked(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["prepare", "--corpus", str(corpus), "--out", str(out), "--tokenizer"]
    assert main([*words, "byte"]) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    (out / "notes.bin").write_text("mine")
    assert main([*words, "byte"]) == 0
    assert "holds this text in these tokens already: nothing was written" in capsys.readouterr().out
    assert main([*words, "char"]) == 1
    said = capsys.readouterr().err
    assert f"error: {out}: holds another prepared text (corpus={corpus}, tokenizer=byte, vocab_size=257); " in said
    assert "--overwrite replaces it" in said
    assert {path: path.read_bytes() for path in before} == before
    assert main([*words, "char", "--overwrite"]) == 0
    assert open_prepared(out).tokenizer.kind == "char"
    assert (out / "notes.bin").read_text() == "mine"


@pytest.mark.parametrize("files", [{"index.json": "{}", "a.bin": "mine"}, {".work/mine.txt": "mine"}])
def test_a_folder_that_only_looks_like_ours_is_left_alone(
    files: dict[str, str], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    words = ["prepare", "--corpus", str(corpus), "--out", str(out), "--tokenizer", "byte", "--overwrite"]
    assert main(words) == 1
    assert "holds other files" in capsys.readouterr().err
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(files)
