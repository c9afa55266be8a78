"""A pickle of plain values is read; everything else is one line, and nothing of it is run."""

import contextlib
import os
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt.errors import DataError
from minigpt.interop import plain_pickle
from minigpt.interop.plain_pickle import read_plain_pickle

PLAIN = {"vocab_size": 65, "itos": {0: "\n", 1: "é", 70000: "🦊"}, "list": [1, -(2**40), None, True, [1, "a", 0.5]]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert read_plain_pickle(path) == PLAIN


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"a": print}), "could run code"),
        (pickle.dumps(print, protocol=0), "could run code"),
        (b"cos\nsystem\n(S'true'\ntR.", "could run code"),
        (pickle.dumps(b"bytes"), "could run code"),
        (pickle.dumps({1, 2}), "could run code"),
        (pickle.dumps({(1, 2): 3}), r"\(TUPLE2\)"),
        (pickle.dumps(()), r"\(EMPTY_TUPLE\)"),
        (b"", "is not a pickle of plain values"),
        (b"rubbish", "it asks for place"),
        (b"no pickle", "is not a pickle|could run code"),
        (pickle.dumps(PLAIN)[:-7], "is not a pickle of plain values"),
        (b"\x80\x04" + b"0" * 3 + b".", "could run code"),
        (b"]r" + struct.pack("<I", 2**31 - 2) + b".", "it asks for place 2147483646"),
        (b"X" + struct.pack("<I", 2**31 - 2) + b"a.", "is not a pickle of plain values"),
    ],
)
def test_anything_else_is_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        read_plain_pickle(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


@given(st.binary(max_size=60))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_at_all_lead_anywhere_else(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        read_plain_pickle(path)


def test_each_of_the_two_locks_holds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(pickle.dumps(print))
    monkeypatch.setattr(plain_pickle, "_HARMLESS", {*plain_pickle._HARMLESS, "STACK_GLOBAL"})
    with pytest.raises(DataError, match=r"it names builtins\.print"):
        read_plain_pickle(path)


def test_absurd_sizes_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_plain_pickle(path)
    with path.open("wb") as file:
        file.truncate(plain_pickle.MOST_BYTES + 1)
    with pytest.raises(DataError, match="4,194,305 bytes are too many"):
        read_plain_pickle(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meta.pkl")
    with pytest.raises(DataError, match="is no file"):
        read_plain_pickle(tmp_path / "meta.pkl")
