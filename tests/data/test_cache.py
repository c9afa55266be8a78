import os
from pathlib import Path

import pytest

from minigpt.data.cache import cache_root, recall, remember


def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "x"))
    assert cache_root() == tmp_path / "x"
    monkeypatch.delenv("MINIGPT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "minigpt"


def test_an_answer_is_for_one_question_and_one_state_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert recall("sha", file) is None
    remember("sha", file, "answer")
    assert recall("sha", file) == "answer"
    assert recall("other", file) is None
    os.utime(file, ns=(1, 1))
    assert recall("sha", file) is None


def test_a_change_of_size_alone_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    remember("sha", file, "answer")
    file.write_bytes(b"longer")
    os.utime(file, ns=(1, 1))
    assert recall("sha", file) is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    monkeypatch.setenv("MINIGPT_CACHE", str(file / "not a folder"))
    remember("sha", file, "answer")
    assert recall("sha", file) is None
