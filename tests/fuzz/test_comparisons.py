"""`compare` and `runs` on folders with damage anywhere: a table, or one line."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.folders import write_run, write_sweep

from .configs import spoilt_bytes
from .outcome import check_ending, more, run

FILES = ("one/config.yaml", "one/metrics.csv", "one/provenance.json", "one/tokenizer.json", "sweep.json")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells; the files of the first are those that are spoilt."""
    folder = tmp_path_factory.mktemp("fuzz") / "sweep"
    write_run(folder / "one", [3.0, 2.5, 2.2, 2.0], {"model.position": "rotary"})
    write_run(folder / "two", [3.0, 2.5, 2.2, 2.1])
    cells = [
        {"name": name, "group": group, "state": "finished"} for name, group in (("one", "rotary"), ("two", "base"))
    ]
    return write_sweep(folder, cells)


@settings(max_examples=more(0.5))
@given(name=st.sampled_from(FILES), data=st.data())
def test_any_damage(inside: Path, sweep: Path, name: str, data: st.DataObject) -> None:
    shutil.rmtree("runs", ignore_errors=True)
    shutil.copytree(sweep, "runs")
    Path("runs", name).write_bytes(data.draw(spoilt_bytes((sweep / name).read_bytes())))
    for words in (["compare", "runs", "--json", "--out", "report"], ["compare", "runs/one"], ["runs"]):
        outcome = run(words)
        check_ending(outcome)
        if "--json" in words and outcome.code == 0:
            json.loads(outcome.out, parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")
