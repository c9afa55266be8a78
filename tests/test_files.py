"""A folder is written whole or not at all."""

from pathlib import Path

import pytest

from minigpt.files import atomic_folder


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
