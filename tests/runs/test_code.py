"""The copies of the user's files in a run: kept, trusted only when the user says so."""

import sys
from pathlib import Path

import pytest
from training.tiny import tiny_experiment

from minigpt.cli.main import main
from minigpt.errors import CheckpointError
from minigpt.runs.code import changed_files, keep_code, note_changed_files, run_code
from minigpt.runs.ownership import strangers
from minigpt.system.components import file_hashes, import_component
from minigpt.training.fit import fit


def forget(name: str) -> None:
    """What another process would not have: the module that this one imported."""
    sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if "own" not in Path(path).name]


def test_the_runs_copy_is_imported_only_when_it_is_trusted(own_folder: Path, tmp_path: Path) -> None:
    source = own_folder / "my_ideas.py"
    source.write_text("number = 1\n")
    keep_code(tmp_path / "run", {"my_ideas.py": source})
    source.unlink()
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    for path in (checkpoint, tmp_path / "run"):
        with (
            pytest.raises(CheckpointError, match=r"no module my_ideas in .*; the run keeps .*run/code: --trust"),
            run_code(path, trust=False),
        ):
            import_component("model.position", "my_ideas.number")
        with run_code(path, trust=True):
            assert import_component("model.position", "my_ideas.number") == 1
        assert "my_ideas" not in sys.modules


def test_a_run_without_copies_says_what_is_missing(own_folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"put its file into the working folder$"),
        run_code(tmp_path, trust=False),
    ):
        import_component("model.position", "my_ideas.number")
    with run_code(tmp_path, trust=True):  # nothing to trust
        pass


def test_another_file_than_that_of_the_run_is_noted(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = own_folder / "my_ideas.py"
    source.write_text("number = 1\n")
    recorded = file_hashes({"my_ideas.py": source})
    import_component("model.position", "my_ideas.number")
    note_changed_files(Path("runs/base"), ["rotary", "my_ideas.number", 3], recorded)
    assert capsys.readouterr().err == ""
    source.write_text("number = 2\n")
    note_changed_files(Path("runs/base"), ["rotary", "my_ideas.number", 3], recorded)
    assert "my_ideas.py is another file than runs/base was trained with: --trust_code runs" in capsys.readouterr().err
    assert list(changed_files(recorded, {"my_ideas.py": "0", "new.py": "1"})) == ["my_ideas.py"]
    assert changed_files(None, recorded) == {}


def test_strange_files_among_the_copies_are_seen(tmp_path: Path) -> None:
    for name in ("mine/ideas.py", "mine/__pycache__/ideas.pyc", "mine/notes.txt", "ideas.py"):
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert strangers(tmp_path) == ["code/mine/notes.txt"]


def test_commands_run_the_copies_with_trust_code(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "my_ideas.py").write_text(
        "def documents():\n    yield from (f'a rose is a rose number {n}' for n in range(40))\n"
    )
    experiment = tiny_experiment(tmp_path, Path("my_ideas.documents"), trainer__max_steps=4)
    assert fit(experiment) == 0
    run = str(tmp_path / "tiny")
    assert main(["validate", run]) == 0
    monkeypatch.chdir(tmp_path)
    forget("my_ideas")
    capsys.readouterr()
    assert main(["validate", run]) == 1
    error = capsys.readouterr().err
    assert "nor a module my_ideas to import; the run keeps its own copy in" in error
    assert len(error.splitlines()) == 1
    assert main(["validate", run, "--trust_code"]) == 0
    assert main(["fit", "--trust_code", "--config", "base"]) == 2
    assert "--trust_code runs the copies" in capsys.readouterr().err
