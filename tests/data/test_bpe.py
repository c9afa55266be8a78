import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt.data.bpe import LibraryTokenizer, train_bpe
from minigpt.data.tokenizer_folder import gpt2_tokenizer, tokenizer_from_folder
from minigpt.data.tokenizers import find_tokenizer
from minigpt.errors import ConfigError, DataError

TEXT = "".join(f"def add(a, b):\n    return a + {word}  # naïve été 五\n" for word in dir(str)) * 2


def foreign(decoder: object, vocabulary: dict[str, int], **fields: object) -> str:
    """A tokenizer.json as other programs write it."""
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": True, "unk_token": None}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model, "decoder": decoder, **fields})


def test_training_is_deterministic_and_exact_in_size() -> None:
    first, second = train_bpe([TEXT], 300), train_bpe([TEXT], 300)
    assert first.fingerprint == second.fingerprint
    assert first.vocab_size == 300
    assert first.end_of_text == 0


def test_merges_make_the_text_shorter() -> None:
    assert len(train_bpe([TEXT], 320).encode(TEXT)) < len(train_bpe([TEXT], 257).encode(TEXT)) == len(TEXT.encode())


def test_a_small_text_has_fewer_merges_than_asked_for() -> None:
    assert train_bpe(["ab"], 1000).vocab_size == 258


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size=256 must be at least 257"):
        train_bpe([TEXT], 256)


def test_every_byte_can_be_decoded() -> None:
    tokenizer = train_bpe([TEXT], 300)
    singles = {tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= singles


def test_training_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    train_bpe([TEXT], 300)
    assert capfd.readouterr() == ("", "")


def test_transformers_opens_it_and_agrees(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = train_bpe([TEXT], 300)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert theirs.encode(TEXT) == tokenizer.encode(TEXT)
    assert theirs.decode(tokenizer.encode(TEXT)) == TEXT


def test_nothing_is_added_cut_off_or_padded() -> None:
    fields = json.loads(train_bpe([TEXT], 300).to_json())
    fields["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    fields["padding"] = {
        "strategy": {"Fixed": 4096},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    fields["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    tokenizer = LibraryTokenizer(json.dumps(fields))
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.encode_batch([TEXT, "a"])[0].tolist() == tokenizer.encode(TEXT)
    assert len(tokenizer.encode_batch([TEXT, "a"])[1]) == 1


@pytest.mark.parametrize("change", ["prefix space", "added token", "normalizer"])
def test_words_are_not_cut_where_the_library_may_join_them(change: str) -> None:
    fields = json.loads(train_bpe([TEXT], 300).to_json())
    if change == "prefix space":
        fields["pre_tokenizer"]["add_prefix_space"] = True
    elif change == "normalizer":
        fields["normalizer"] = {"type": "Replace", "pattern": {"String": "add (a"}, "content": "add(a"}
    else:
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        fields["added_tokens"].append({"id": 300, "content": "add(a, b)", **plain})
    tokenizer = LibraryTokenizer(json.dumps(fields))
    texts = ["x add (a", TEXT, "", TEXT[:70]]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]
    if change == "added token":
        assert 300 in tokenizer.encode(TEXT)
        assert tokenizer.token_bytes()[300] == len("add(a, b)")


def test_a_sentencepiece_file_is_read_by_its_spaces_and_byte_tokens() -> None:
    vocabulary = {"\u2581": 0, "a": 1, "b": 2, "\u2581a": 3, "<0xC3>": 4, "<0xA9>": 5, "</s>": 7}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    text = foreign(
        decoder,
        vocabulary,
        added_tokens=[{"id": 7, "content": "</s>", **special}],
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    )
    tokenizer = LibraryTokenizer(text)
    assert tokenizer.decode(tokenizer.encode("ab ab é")) == "ab ab é"
    assert tokenizer.end_of_text == 7
    assert tokenizer.vocab_size == 8
    assert tokenizer.token_bytes().tolist() == [1, 1, 1, 2, 1, 1, 0, 0]  # 6 is a hole, 7 is special


def test_a_tokenizer_that_forgets_bytes_is_refused() -> None:
    text = foreign({"type": "WordPiece", "prefix": "##", "cleanup": True}, {"a": 0})
    with pytest.raises(DataError, match=r"x.json: each token must stand for fixed bytes.* decoder is WordPiece"):
        LibraryTokenizer(text, "x.json")
    with pytest.raises(DataError, match="decoder is missing"):
        LibraryTokenizer(foreign(None, {"a": 0}))
    with pytest.raises(DataError, match="vocabulary is empty"):
        LibraryTokenizer(foreign({"type": "ByteFallback"}, {}))


@pytest.fixture
def gpt2_files(tmp_path: Path) -> Path:
    """vocab.json and merges.txt, as the published GPT-2 has them, of a small vocabulary."""
    fields = json.loads(train_bpe([TEXT], 300).to_json())
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(fields["model"]["vocab"]), encoding="utf-8")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in fields["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return folder


def test_a_folder_with_gpt2s_two_files(gpt2_files: Path) -> None:
    tokenizer = tokenizer_from_folder(gpt2_files)
    assert tokenizer.encode(TEXT) == train_bpe([TEXT], 300).encode(TEXT)
    assert tokenizer.end_of_text == 0
    (gpt2_files / "vocab.json").rename(gpt2_files / "encoder.json")
    (gpt2_files / "merges.txt").rename(gpt2_files / "vocab.bpe")
    assert find_tokenizer(str(gpt2_files)).fingerprint == tokenizer.fingerprint


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither tokenizer.json nor vocab.json with merges.txt"):
        tokenizer_from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("x")
    with pytest.raises(DataError, match=r"vocab.json: cannot be read as a tokenizer"):
        tokenizer_from_folder(tmp_path)


def test_gpt2_from_the_hugging_face_cache(gpt2_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DataError, match="tokenizer=gpt2 is not in this machine's Hugging Face cache: fetch it with"):
        gpt2_tokenizer()
    snapshot = tmp_path / "hub" / "models--openai-community--gpt2" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    gpt2_files.rename(snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert find_tokenizer("gpt2").vocab_size == 300


def test_a_fork_after_encoding_gives_no_warning() -> None:
    program = (
        "import os\n"
        "from minigpt.data.tokenizers import train_tokenizer\n"
        "tokenizer = train_tokenizer('bpe', [], 257, False)\n"
        "tokenizer.encode('a text'), tokenizer.decode([1])\n"
        "if os.fork() == 0: os._exit(0)\n"
        "os.wait()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
