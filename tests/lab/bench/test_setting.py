"""What is measured: the config's corpus, or random tokens of its kind of vocabulary."""

from pathlib import Path

import pytest
from helpers import tiny_tokenizer

from minigpt.data.token_estimate import CHARACTERS, GPT2_TOKENS
from minigpt.errors import ConfigError
from minigpt.lab.bench.setting import make_setting

from .conftest import experiment_of


def test_the_vocabulary_is_the_tokenizers(corpus_file: Path) -> None:
    setting = make_setting(experiment_of(corpus_file, data__tokenizer="char", data__vocab_multiple=64))
    assert setting.note is None
    assert setting.prepared.tokenizer.kind == "char"
    assert setting.config.vocab_size == 64
    assert setting.prepared.tokenizer.vocab_size < 64


@pytest.mark.parametrize(
    ("data", "vocab_size"),
    [
        ({"tokenizer": "byte"}, 257),
        ({"tokenizer": "char"}, CHARACTERS),
        ({"tokenizer": "bpe", "vocab_size": 300}, 300),
        ({"tokenizer": "gpt2"}, GPT2_TOKENS),
        ({"tokenizer": "gpt2", "vocab_multiple": 64}, 50304),
    ],
)
def test_random_tokens_stand_in_for_a_missing_corpus(
    data: dict[str, object], vocab_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    changes = {f"data__{name}": value for name, value in data.items()}
    setting = make_setting(experiment_of(tmp_path / "missing.txt", **changes))
    assert setting.note is not None
    assert setting.note.count("\n") == 0
    assert "missing.txt" in setting.note
    assert setting.config.vocab_size == vocab_size
    tokens = setting.prepared.train.shards[0]
    assert 0 <= tokens.min() < tokens.max() < setting.prepared.tokenizer.vocab_size


def test_a_tokenizer_file_is_read_for_its_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tiny_tokenizer("bpe").to_json(), encoding="utf-8")
    experiment = experiment_of(tmp_path / "missing.txt", data__tokenizer=str(tmp_path / "tokenizer.json"))
    assert make_setting(experiment).config.vocab_size == 290


def test_accelerator_is_told_in_one_line(corpus_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=tpu must be one of auto, gpu, cuda, mps, cpu"):
        make_setting(experiment_of(corpus_file, trainer__accelerator="tpu"))
