"""The folder of a run: free names, the newest of a name, provenance."""

import json
from pathlib import Path

import pytest

from minigpt.errors import CheckpointError, ConfigError
from minigpt.ownership import write_mark
from minigpt.training.provenance import describe
from minigpt.training.runs import newest_run, take_folder, write_run


def test_names_are_taken_in_order(tmp_path: Path) -> None:
    names = [take_folder(tmp_path / "runs", "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]


def test_newest_is_the_highest_number_not_the_last_letter(tmp_path: Path) -> None:
    for name in ("a", "a-2", "a-10", "a-b", "ab", "a-3", "a-11"):
        (tmp_path / name).mkdir()
        if name != "a-3":  # a folder that is no run
            (tmp_path / name / "config.yaml").write_text("run: {name: a}")
        if name != "a-11":  # nor is one with a config of somebody else's
            write_mark(tmp_path / name, "run")
    assert newest_run(tmp_path, "a").name == "a-10"


def test_run_that_is_named_like_a_second_one_is_another(tmp_path: Path) -> None:
    for name in ("exp", "exp-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"run: {{name: {name}}}")
        write_mark(tmp_path / name, "run")
    assert newest_run(tmp_path, "exp").name == "exp"
    assert newest_run(tmp_path, "exp-2").name == "exp-2"


def test_no_run_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"there is no run base in {tmp_path / 'none'}"):
        newest_run(tmp_path / "none", "base")


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match=r"run.root"):
        take_folder(tmp_path / "runs", "a")


def test_provenance_lists_the_sessions(tmp_path: Path) -> None:
    for number in (1, 2):
        write_run(tmp_path, config_yaml=f"n: {number}\n", tokenizer_json="{}", provenance={"session": number})
    assert json.loads((tmp_path / "provenance.json").read_text()) == {"sessions": [{"session": 1}, {"session": 2}]}
    assert (tmp_path / "config.yaml").read_text() == "n: 2\n"


def test_provenance_is_plain_values() -> None:
    facts = describe(["minigpt", "fit", "--run.name", "two words"])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["command"] == "minigpt fit --run.name 'two words'"
    assert facts["machine"]["cores"] >= 1
