import gzip
import json
from pathlib import Path

import pytest

from minigpt.data import pieces
from minigpt.data.sources import Fragment, document_key, inner_suffix, kind_of, read_span, spans_of_file
from minigpt.errors import DataError


def fragments(path: Path, field: str = "text") -> list[Fragment]:
    return [fragment for span in spans_of_file(path, field) for fragment in read_span(span)]


def texts(path: Path, field: str = "text") -> list[str]:
    return [fragment.text for fragment in fragments(path, field)]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture(params=["", ".gz"])
def packed(request: pytest.FixtureRequest) -> str:
    """Every kind of file behaves the same when it is compressed."""
    return str(request.param)


def test_the_kind_is_in_the_name() -> None:
    assert [kind_of(Path(name)) for name in ("a.txt", "a", "a.JSONL", "a.ndjson.zst", "a.parquet", "a.gz")] == [
        *("text", "text", "lines", "lines", "rows", "text")
    ]
    assert inner_suffix(Path("x.tar.TXT.gz")) == ".txt"


def test_a_text_is_one_document_with_its_own_line_ends(tmp_path: Path, packed: str) -> None:
    text = "one\r\ntwo\rthree\n\n\u2028 é\x0c"
    found = fragments(write(tmp_path / f"a.txt{packed}", text))
    assert found == [Fragment(text, True, True, document_key(text.encode()), len(text.encode()))]


def test_a_byte_order_mark_is_dropped_at_the_beginning_of_a_file_only(tmp_path: Path, packed: str) -> None:
    marked, plain = (fragments(write(tmp_path / f"a.txt{packed}", text)) for text in ("\ufeffa\ufeffb", "a\ufeffb"))
    assert marked == plain
    assert marked[0].text == "a\ufeffb"
    assert texts(write(tmp_path / f"a.jsonl{packed}", '\ufeff{"text": "\ufeffone"}\n')) == ["\ufeffone"]


def test_files_without_text_have_no_documents(tmp_path: Path, packed: str) -> None:
    for content in ("", "\ufeff"):
        assert fragments(write(tmp_path / f"a.txt{packed}", content)) == []
    assert fragments(write(tmp_path / f"a.jsonl{packed}", '\n  \n{"text": ""}\n')) == []


def test_a_long_text_comes_in_fragments_with_one_key(
    tmp_path: Path, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\ufeff" + "".join(f"line {i} é\n" for i in range(30_000))
    whole = fragments(write(tmp_path / f"a.txt{packed}", text))
    monkeypatch.setattr(pieces, "PIECE_BYTES", 80_000)
    found = fragments(tmp_path / f"a.txt{packed}")
    assert "".join(fragment.text for fragment in found) == text[1:]
    assert len(found) > 3
    assert [fragment.begins for fragment in found] == [True] + [False] * (len(found) - 1)
    assert [fragment.ends for fragment in found] == [False] * (len(found) - 1) + [True]
    assert {fragment.key for fragment in found} == {whole[0].key}


def test_jsonl_has_a_document_a_line(tmp_path: Path, packed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [f"document {i}\r\n\u2028é\\" for i in range(3000)]
    lines = [json.dumps({"text": text, "id": i}, ensure_ascii=i % 2 == 0) for i, text in enumerate(wanted)]
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10_000)
    path = write(tmp_path / f"a.jsonl{packed}", "\r\n\n".join(lines))
    assert texts(path) == wanted
    assert len(list(spans_of_file(path))) > 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', r":3001: not a line of JSON: Expecting ',' delimiter at column 13"),
        (b'{"body": "a", "id": 1}', r":3001: no field 'text'; the fields there: 'body', 'id' \(text_field chooses"),
        (b"{}", r":3001: no field 'text'; the fields there: none"),
        (b'{"text": 3}', r":3001: field 'text' must be text, not a number"),
        (b'{"text": null}', r":3001: field 'text' must be text, not null"),
        (b'["a"]', r":3001: must be a JSON object with a field 'text', not a list"),
        (b'{"text": "\xff"}', r":3001: not UTF-8: byte 0xff at column 11"),
        (b'{"text": "\\ud800"}', r":3001: the text holds U\+D800, half a surrogate pair"),
        (b"[" * 100_000, r":3001: JSON that cannot be read"),
    ],
)
def test_a_broken_line_is_named(
    tmp_path: Path, packed: str, line: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 5_000)
    path = write(tmp_path / f"a.jsonl{packed}", b'{"text": "fine"}\n' * 3000 + line + b'\n{"text": "fine"}\n')
    with pytest.raises(DataError, match=message) as caught:
        fragments(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 99_998 + b"\n\xe9t\xe9", "not UTF-8 text: byte 0xe9 at offset 99999"),
        (b"x" * 99_998 + b"\n\xc3", "not UTF-8 text: byte 0xc3 at offset 99999"),
        (b"x\n" * 50_000 + b"a\0b", "binary, not text: a NUL byte at offset 100001"),
        ("text".encode("utf-16"), r"not UTF-8 text: byte 0xff at offset 0 \(is it UTF-16\?\)"),
    ],
)
def test_what_is_no_text_is_named_with_its_place(
    tmp_path: Path, packed: str, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10_000)
    path = write(tmp_path / f"a.txt{packed}", content)
    with pytest.raises(DataError, match=message):
        fragments(path)


def test_a_file_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "some text")
    [span] = spans_of_file(path)
    path.write_text("some")
    with pytest.raises(DataError, match="changed while it was read"):
        list(read_span(span))


def test_parquet_rows_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    wanted = [f"document {i}" for i in range(500)]
    parquet.write_table(pyarrow.table({"body": ["", *wanted, ""]}), tmp_path / "a.parquet")
    monkeypatch.setattr("minigpt.data.sources.PIECE_BYTES", 1_000)
    assert texts(tmp_path / "a.parquet", "body") == wanted
    assert len(list(spans_of_file(tmp_path / "a.parquet", "body"))) > 4


def test_keys_are_even_and_depend_on_the_first_64_kib() -> None:
    keys = [document_key(str(i).encode()) for i in range(2000)]
    assert 0.45 < sum(keys) / len(keys) / 2**64 < 0.55
    assert max(keys) < 2**64
    head = b"x" * (1 << 16)
    assert document_key(head + b"a") == document_key(head + b"b") != document_key(head[:-1])
