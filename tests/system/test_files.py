"""A folder is written whole or not at all."""

import os
from pathlib import Path

import pytest

from minigpt.system.files import atomic_folder, home_path, restore_folder


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic_folder(tmp_path / "model") as folder:
            (folder / name).write_text(name)
            assert not (tmp_path / "model" / name).exists()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("there", [True, False])
def test_a_block_that_raises_changes_nothing(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "model").mkdir()
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "model") as folder:
        [(folder / name).touch() for name in ("half", "no/such/folder")]
    assert [path.name for path in tmp_path.rglob("*")] == ["model"] * there


def test_a_rename_that_fails_gives_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    rename = Path.rename

    def fail_once(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError), atomic_folder(tmp_path / "model") as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def test_a_folder_that_cannot_be_made_is_named_itself(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, atomic_folder(tmp_path / "no" / "model"):
        pass
    assert error.value.filename == str(tmp_path / "no" / "model")


def test_only_leftovers_of_the_dead_are_touched(tmp_path: Path) -> None:
    """Those of this process and of one that still runs, and whatever else is called alike, stay."""
    gone = 2**22 + 1  # one more than the largest number of a process
    kept = [
        f".model.old-{os.getppid()}",
        f".model.new-{os.getpid()}",
        ".model.old-x",
        ".model.note-1",
        f".m.old-{gone}",
    ]
    for name in [*kept, f".model.old-{gone}", f".model.new-{gone}"]:
        (tmp_path / name).mkdir()
    (tmp_path / f".model.old-{gone}" / "weights").touch()
    restore_folder(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "model"])
    assert (tmp_path / "model" / "weights").exists()


def test_a_home_of_nobody_is_a_path_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert home_path("~/a") == Path("/somewhere/a")
    assert home_path("~nobody-of-that-name/a") == Path("~nobody-of-that-name/a")
