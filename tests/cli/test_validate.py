"""`minigpt validate`: exact, over a whole split, of the training's corpus or another."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TEXT, random_gpt, tiny_config, tiny_tokenizer, write_checkpoint

from minigpt.api import load
from minigpt.cli.main import main
from minigpt.data.prepare import PrepareOptions, prepare, prepare_cached
from minigpt.evaluate.loss import evaluate

WORDS = "".join(f"{i} bottles of beer, {i * 7919 % 1000} on the wall\n" for i in range(200))


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """runs/base, trained (not really) on text.txt; the cache is this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
    Path("text.txt").write_text(WORDS)
    write_run("byte")
    return Path("runs/base")


def write_run(kind: str, corpus: str = "text.txt", **settings) -> None:
    """The run with a tokenizer of `kind`, and the data fields as `fit` writes them."""
    options = PrepareOptions(corpus=corpus, tokenizer=kind, vocab_size=290 if kind == "bpe" else 1024)
    prepared = prepare_cached(options)
    data = {"corpus": corpus, "tokenizer": kind, "vocab_size": options.vocab_size, "val_fraction": 0.1, "split": "auto"}
    data |= {"text_field": "text", "unknown": False, "batch_size": 32, "num_workers": 0, "vocab_multiple": 1}
    write_checkpoint(
        Path("runs/base/checkpoints/best.ckpt"),
        random_gpt(tiny_config(prepared.tokenizer.vocab_size + 2, **settings)),
        prepared.tokenizer,
        step=300,
        data=data,
        data_fingerprint=prepared.fingerprint,
    )


def results(capsys, *words: str) -> dict:
    """What `validate --json` writes."""
    assert main(["validate", "base", "--json", *words]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def refusal(capsys, *words: str) -> tuple[int, str]:
    code = main(["validate", *words])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("minigpt: error: ")
    return code, captured.err


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_it_is_exact_over_the_whole_split(run, capsys, kind):
    write_run(kind)
    held_out = WORDS[int(len(WORDS) * 0.9) :]
    loaded = load("base")
    ids = np.array(loaded.encode(held_out))
    expected = evaluate(loaded.model, [ids], loaded.tokenizer.token_bytes())
    found = results(capsys)
    assert found["n_tokens"] == len(ids) - 1
    assert found["n_bytes"] == len(held_out) - len(loaded.decode(ids[:1]))
    for name in ("loss", "perplexity", "bits_per_byte"):
        assert found[name] == pytest.approx(getattr(expected, name), rel=1e-6)
    assert (found["step"], found["split"], found["corpus"]) == (300, "val", "text.txt")


def test_the_table_says_what_was_measured(run, capsys):
    expected = results(capsys)
    assert main(["validate", str(run)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    table = captured.out
    assert "best.ckpt (step 300)" in table
    assert "val split of text.txt" in table
    assert f"{expected['n_tokens']:,} tokens, {expected['n_bytes']:,} bytes" in table
    assert f"{expected['loss']:.4f} nats per token" in table
    assert f"{expected['bits_per_byte']:.4f}" in table
    assert f"{expected['perplexity']:.4f}" in table


def test_the_training_split_is_the_rest(run, capsys):
    both = results(capsys)["n_tokens"] + results(capsys, "--split", "train")["n_tokens"]
    assert both == len(WORDS) - 2, "each token once, but for the first of each split"


def test_the_batch_size_changes_nothing(run, capsys):
    losses = [results(capsys, "--batch_size", size)["loss"] for size in ("1", "5", "64")]
    assert losses[1:] == pytest.approx(losses[:1] * 2, abs=1e-6)


def test_another_corpus_is_cut_by_the_checkpoints_tokenizer(run, capsys):
    write_run("bpe")
    Path("other.txt").write_text(TEXT * 30)
    found = results(capsys, "--data.corpus", "other.txt", "--split", "val")
    tokenizer = load("base").tokenizer
    assert found["corpus"] == "other.txt"
    assert found["n_bytes"] == pytest.approx(0.1 * len((TEXT * 30).encode()), rel=0.05)
    assert found["n_tokens"] < len(tokenizer.encode(TEXT * 30)) / 5
    Path("lines.jsonl").write_text("".join(json.dumps({"body": f"{TEXT} {i}"}) + "\n" for i in range(30)))
    assert results(capsys, "--data.corpus", "lines.jsonl", "--data.text_field", "body")["n_tokens"] > 0


def test_a_prepared_folder_is_a_corpus_with_a_split_of_its_own(run, capsys):
    options = PrepareOptions(corpus="text.txt", tokenizer="byte", val_fraction=0.5)
    prepared = prepare(options, Path("prepared"))
    assert results(capsys, "--data.corpus", "prepared", "--split", "val")["n_tokens"] == prepared.val.n_tokens - 1
    found = results(capsys, "--data.corpus", "prepared")
    assert found["n_tokens"] == prepared.val.n_tokens + prepared.train.n_tokens - 2
    assert (found["split"], found["share"]) == ("all", 1.0)


@pytest.mark.parametrize("name", ["test.txt", "test.jsonl", "texts", "texts/*.txt"])
def test_another_text_is_scored_whole_unless_a_split_is_asked_for(run, capsys, name):
    documents = [f"document {number}: {WORDS[number * 40 :][:200]}" for number in range(20)]
    Path("test.txt").write_text(WORDS)
    Path("test.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    Path("texts").mkdir()
    for number, document in enumerate(documents):
        Path("texts", f"{number:02}.txt").write_text(document)
    texts = [WORDS] if name == "test.txt" else documents
    ends = len(texts) if len(texts) > 1 else 0
    found = results(capsys, "--data.corpus", name)
    assert found["n_tokens"] == len("".join(texts)) + ends - 1
    assert found["n_bytes"] == len("".join(texts)) - 1
    assert (found["split"], found["share"]) == ("all", 1.0)
    parts = [results(capsys, "--data.corpus", name, "--split", split) for split in ("train", "val")]
    assert sum(part["n_tokens"] for part in parts) == found["n_tokens"] - 1
    assert sum(part["share"] for part in parts) == pytest.approx(1)
    assert main(["validate", "base", "--data.corpus", name]) == 0
    out = capsys.readouterr().out
    assert f"all of {name}" in out
    assert f"{found['n_tokens']:,} tokens, {found['n_bytes']:,} bytes: 100.0% of the text" in out


def test_the_runs_own_text_keeps_its_validation_split(run, capsys):
    found = results(capsys)
    assert found["split"] == "val"
    assert found["share"] == pytest.approx(0.1, abs=1e-3)
    whole = results(capsys, "--split", "all")
    assert whole["n_tokens"] == len(WORDS) - 2
    assert whole["share"] == 1.0


def test_a_text_shorter_than_a_window_is_scored_and_one_token_is_told(run, capsys):
    Path("short.txt").write_text("abc")
    assert results(capsys, "--data.corpus", "short.txt")["n_tokens"] == 2
    Path("short.txt").write_text("a")
    code, message = refusal(capsys, "base", "--data.corpus", "short.txt")
    assert code == 1
    assert "short.txt: too short: 1 token(s), not 2" in message
    Path("short.txt").write_text("abc")
    code, message = refusal(capsys, "base", "--data.corpus", "short.txt", "--split", "val")
    assert "too short: 1 token(s) for the val split" in message


def test_a_prepared_folder_of_another_tokenizer_is_refused(run, capsys):
    prepare(PrepareOptions(corpus="text.txt", tokenizer="char"), Path("prepared"))
    code, message = refusal(capsys, "base", "--data.corpus", "prepared")
    assert code == 1
    assert "another tokenizer (char" in message
    assert "(byte, 257 tokens)" in message


def test_an_edited_corpus_is_noted(run, capsys):
    Path("text.txt").write_text(WORDS + "one more line\n")
    assert main(["validate", "base", "--json"]) == 0
    captured = capsys.readouterr()
    assert "corpus text.txt has changed" in captured.err
    assert json.loads(captured.out)["n_tokens"] > 0
    assert main(["validate", "base", "--data.corpus", "text.txt"]) == 0
    assert capsys.readouterr().err == "", "a corpus of the user's own choice is no surprise"


def test_numbers_that_json_cannot_hold_are_null(run, capsys):
    model = random_gpt(tiny_config())
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
    write_checkpoint(Path("nan.ckpt"), model, tiny_tokenizer("byte"), data={"corpus": "text.txt"})
    assert main(["validate", "nan.ckpt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert found["loss"] is found["perplexity"] is found["bits_per_byte"] is None
    assert main(["validate", "nan.ckpt"]) == 0
    assert "not a finite number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["bsae"], 1, "did you mean base?"),
        (["base", "--data.corpus", "txet.txt"], 1, "text.txt"),
        (["base", "--data.corpora", "text.txt"], 2, "--data.corpus"),
        (["base", "--split", "test"], 2, "val"),
        (["base", "--batch_size", "0"], 2, "batch_size=0"),
        (["base", "--device", "gpu"], 2, "device='gpu'"),
    ],
)
def test_what_is_wrong_ends_in_one_line(run, capsys, words, code, expected):
    found, message = refusal(capsys, *words)
    assert found == code
    assert expected in message


def test_a_checkpoint_without_a_corpus_asks_for_one(run, capsys):
    write_checkpoint(Path("bare.ckpt"), tiny_config(), tiny_tokenizer("byte"))
    code, message = refusal(capsys, "bare.ckpt")
    assert code == 2
    assert "--data.corpus" in message
    assert main(["validate", "bare.ckpt", "--data.corpus", "text.txt"]) == 0


def test_characters_that_the_tokenizer_lacks_are_told(run, capsys):
    write_run("char")
    Path("other.txt").write_text("Ω" * 500)
    code, message = refusal(capsys, "base", "--data.corpus", "other.txt")
    assert code == 1
    assert "'Ω'" in message


def test_help_needs_no_torch():
    code = (
        "import sys; from minigpt.cli.main import main\n"
        "try: main(['validate', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--data.corpus" in done.stdout
