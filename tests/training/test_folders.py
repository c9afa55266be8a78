"""The folder of a run: free names, the newest of a name, provenance."""

import json
from pathlib import Path

import pytest

from minigpt.errors import ConfigError
from minigpt.runs.ownership import strangers
from minigpt.runs.provenance import describe
from minigpt.system.marks import write_mark
from minigpt.training.folders import set_aside, take_folder, write_run
from minigpt.training.last import find_family


def test_names_are_taken_in_order(tmp_path: Path) -> None:
    names = [take_folder(tmp_path / "runs", "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]


def test_the_family_of_a_name_is_the_highest_number_first(tmp_path: Path) -> None:
    for name in ("a", "a-2", "a-10", "a-b", "ab", "a-3", "a-11", "a-4"):
        (tmp_path / name).mkdir()
        if name != "a-3":  # a folder that is no run
            (tmp_path / name / "config.yaml").write_text(f"run: {{name: {'a-4' if name == 'a-4' else 'a'}}}")
        if name != "a-11":  # nor is one with a config of somebody else's
            write_mark(tmp_path / name, "run")
    assert [folder.name for folder in find_family(tmp_path, "a")] == ["a-10", "a-2", "a"]
    assert [folder.name for folder in find_family(tmp_path, "a-4")] == ["a-4"]
    assert [folder.name for folder in find_family(tmp_path, "a-2")] == ["a-2"]


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match=r"run.root"):
        take_folder(tmp_path / "runs", "a")


def test_provenance_lists_the_sessions(tmp_path: Path) -> None:
    for number in (1, 2):
        write_run(tmp_path, config_yaml=f"n: {number}\n", tokenizer_json="{}", provenance={"session": number}, files={})
    assert json.loads((tmp_path / "provenance.json").read_text()) == {"sessions": [{"session": 1}, {"session": 2}]}
    assert (tmp_path / "config.yaml").read_text() == "n: 2\n"


def test_provenance_is_plain_values() -> None:
    facts = describe(["minigpt", "fit", "--run.name", "two words"])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["command"] == "minigpt fit --run.name 'two words'"
    assert facts["machine"]["cores"] >= 1


def test_nothing_is_lost_where_a_run_begins_anew(tmp_path: Path) -> None:
    assert set_aside(tmp_path) is None
    for number in (1, 2):
        write_run(tmp_path, config_yaml=f"n: {number}\n", tokenizer_json="{}", provenance={}, files={})
        (tmp_path / "metrics.csv").write_text(f"step,val/loss\n{number},2.0\n")
        (tmp_path / f"events.out.tfevents.{number}").write_text("events")
        (tmp_path / "line1").mkdir()
        (tmp_path / "line1" / f"events.out.tfevents.{number}").write_text("events")
        earlier = set_aside(tmp_path)
        assert earlier == tmp_path / f"earlier-{number}"
        assert [path.name for path in (earlier / "line1").iterdir()] == [f"events.out.tfevents.{number}"]
        kept = {path.name: path.read_text() for path in earlier.iterdir() if path.is_file()}
        assert kept["config.yaml"] == f"n: {number}\n"
        assert kept["metrics.csv"] == f"step,val/loss\n{number},2.0\n"
        assert f"events.out.tfevents.{number}" in kept
    assert strangers(tmp_path) == []
