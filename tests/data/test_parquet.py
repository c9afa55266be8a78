import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt.data.parquet import read_column
from minigpt.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def write(path: Path, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=100)
    return path


def test_rows_come_in_order_and_large_or_dictionary_strings_are_text(tmp_path: Path) -> None:
    texts = [f"text {i} é" for i in range(250)]
    for name, column in {
        "plain": pyarrow.array(texts),
        "large": pyarrow.array(texts, type=pyarrow.large_string()),
        "dictionary": pyarrow.array(texts).dictionary_encode(),
    }.items():
        assert list(read_column(write(tmp_path / name, text=column), "text")) == texts


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", content=["x"], id=[1])
    with pytest.raises(
        DataError, match=r"a.parquet: no column 'text'; the columns there: 'content', 'id' \(text_field"
    ):
        list(read_column(path, "text"))


def test_a_column_of_numbers_is_refused_with_its_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'text' must be text, not int64"):
        list(read_column(write(tmp_path / "a.parquet", text=[1, 2]), "text"))


def test_a_null_is_refused_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", text=["x"] * 70 + [None])
    with pytest.raises(DataError, match=r"a.parquet: row 70: column 'text' must be text, not null"):
        list(read_column(path, "text"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a.parquet: cannot be read as Parquet") as caught:
        list(read_column(tmp_path / "a.parquet", "text"))
    assert "\n" not in str(caught.value)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", text=["x" * 50] * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a.parquet: cannot be read as Parquet"):
        list(read_column(path, "text"))


def test_bytes_that_claim_to_be_text(tmp_path: Path) -> None:
    wrong = pyarrow.array([b"fine", b"\xff"]).view(pyarrow.string())
    path = write(tmp_path / "a.parquet", text=wrong)
    with pytest.raises(DataError, match=r"a.parquet: .*UTF-?8"):
        list(read_column(path, "text"))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r'reading Parquet needs pyarrow: pip install "minigpt\[data\]"'):
        list(read_column(tmp_path / "a.parquet", "text"))


def test_a_large_row_group_is_never_in_memory_whole(tmp_path: Path) -> None:
    texts = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() * 100 for i in range(9000)]
    table = pyarrow.table({"text": texts})
    parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    size = (tmp_path / "a.parquet").stat().st_size
    assert size > 50 << 20
    program = (
        "import pyarrow, sys; from pathlib import Path; from minigpt.data.parquet import read_column\n"
        "print(sum(map(len, read_column(Path(sys.argv[1]), 'text'))), pyarrow.default_memory_pool().max_memory())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.parquet")]
    n_characters, most = map(int, subprocess.check_output(command, text=True).split())
    assert n_characters == sum(map(len, texts))
    assert most < size / 2
