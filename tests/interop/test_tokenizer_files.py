"""Our tokenizers as files of the `tokenizers` library: the same ids, the same texts, the same fingerprint again."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from minigpt.data.bpe import train_bpe
from minigpt.data.number_tokenizer import NumberTokenizer
from minigpt.data.protocol import END_OF_TEXT
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.errors import ConfigError, DataError
from minigpt.interop.folder import TOKENIZER
from minigpt.interop.tokenizer_files import (
    _LIBRARY_JSON,
    find_foreign_tokenizer,
    named_tokenizer,
    write_tokenizer,
)

SAMPLE = "def café():\n    return '五'  # naïve 🦊\r\n\t\x00e\u0301 "
TOKENIZERS: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(),
    "char": CharTokenizer(SAMPLE, end_of_text=False, unknown=False),
    "char with all": CharTokenizer(SAMPLE, end_of_text=True, unknown=True),
    "bpe": train_bpe([SAMPLE] * 5, 290),
}
LIBRARY = {name: Library.from_str(_LIBRARY_JSON[each.kind](each)) for name, each in TOKENIZERS.items()}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_library_encodes_and_decodes_alike(name: str, data: st.DataObject) -> None:
    ours, library = TOKENIZERS[name], LIBRARY[name]
    text = data.draw(st.text(alphabet=SAMPLE) if ours.kind == "char" else st.text())
    assume(END_OF_TEXT not in text)  # hypothesis tries the constants of the code it tests; see the next test
    ids = ours.encode(text)
    assert library.encode(text).ids == ids
    assert library.decode(ids) == text
    assert library.get_vocab_size() == ours.vocab_size


@pytest.mark.parametrize("name", ["byte", "char with all", "bpe"])
def test_the_end_of_text_is_special_and_keeps_its_id(name: str) -> None:
    ours, library = TOKENIZERS[name], LIBRARY[name]
    assert library.token_to_id("<|endoftext|>") == ours.end_of_text
    assert library.decode([ours.end_of_text]) == ours.decode([ours.end_of_text]) == ""


def test_the_name_of_the_end_written_out_is_the_end_to_the_library_alone() -> None:
    """As in GPT-2's own tokenizer; to ours a text is a text, so that no document can end another."""
    ours, library = TOKENIZERS["bpe"], LIBRARY["bpe"]
    assert library.encode(END_OF_TEXT).ids == [ours.end_of_text]
    assert ours.decode(ours.encode(END_OF_TEXT)) == END_OF_TEXT


def test_bytes_that_are_no_text_are_written_alike() -> None:
    for ids in ([0xFF], [0xC3, 0x28], [0xF0, 0x9F, 0xA6], [65, 0x80, 66], [0xE4, 0xBD, 0xA0, 256]):
        assert LIBRARY["byte"].decode(ids) == TOKENIZERS["byte"].decode(ids)
    assert [LIBRARY["byte"].decode([byte]) for byte in range(128)] == [chr(byte) for byte in range(128)]


def test_characters_outside_the_vocabulary() -> None:
    unknown = TOKENIZERS["char with all"]
    ids = unknown.encode("aéZ\n")
    assert unknown.unknown in ids  # type: ignore[attr-defined]
    assert LIBRARY["char with all"].encode("aéZ\n").ids == ids
    assert LIBRARY["char with all"].decode(ids) == unknown.decode(ids)
    with pytest.raises(Exception, match="UNK"):  # the library raises bare Exception
        LIBRARY["char"].encode("Z")


def test_no_release_of_transformers_makes_token_type_ids(tmp_path: Path) -> None:
    """Before 5 its tokenizers did unless told otherwise, and GPT-2 adds an embedding for them: other logits."""
    write_tokenizer(TOKENIZERS["byte"], tmp_path, 16)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_export_and_import_give_the_same_tokenizer(name: str, tmp_path: Path) -> None:
    assert write_tokenizer(TOKENIZERS[name], tmp_path, 16) == []
    found, notes = find_foreign_tokenizer(tmp_path, 1000)
    assert (found.fingerprint, notes) == (TOKENIZERS[name].fingerprint, [])


def test_numbers_have_no_form_for_the_library(tmp_path: Path) -> None:
    notes = write_tokenizer(NumberTokenizer(9), tmp_path, 16)
    assert "only minigpt_tokenizer.json is written" in notes[0]
    assert [path.name for path in tmp_path.iterdir()] == [TOKENIZER]
    assert find_foreign_tokenizer(tmp_path, 9)[0].fingerprint == NumberTokenizer(9).fingerprint


def test_ours_that_is_out_of_date_is_passed_over(tmp_path: Path) -> None:
    write_tokenizer(TOKENIZERS["bpe"], tmp_path, 16)
    (tmp_path / TOKENIZER).write_text(ByteTokenizer().to_json())
    found, notes = find_foreign_tokenizer(tmp_path, 1000)
    assert found.fingerprint == TOKENIZERS["bpe"].fingerprint
    assert "has 257 tokens, tokenizer.json beside it 290" in notes[0]


def test_what_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(LIBRARY["char"].to_str())  # its tokens are no fixed bytes to us
    found, notes = find_foreign_tokenizer(tmp_path, 77)
    assert (found.kind, found.vocab_size) == ("ids", 77)
    assert "each token must stand for fixed bytes" in notes[0]


def test_names(tmp_path: Path) -> None:
    write_tokenizer(TOKENIZERS["bpe"], tmp_path, 16)
    assert named_tokenizer("byte", 300).kind == "byte"
    assert named_tokenizer("ids", 300).vocab_size == 300
    for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / TOKENIZER):
        assert named_tokenizer(str(path), 300).fingerprint == TOKENIZERS["bpe"].fingerprint
    with pytest.raises(ConfigError, match="tokenizer=char is made from a corpus"):
        named_tokenizer("char", 300)
    with pytest.raises(DataError, match="no such tokenizer file"):
        named_tokenizer(str(tmp_path / "gone.json"), 300)
