"""The sessions of a run, and the tokens that its steps learnt from."""

import json
from pathlib import Path
from typing import Any

import pytest
from lab.folders import write_run

from minigpt.lab.compare.compare import compare
from minigpt.runs.records import read_run

BATCH = "data.batch_size"
ACCUMULATE = "trainer.accumulate_grad_batches"


def write_sessions(run: Path, *more: dict[str, Any]) -> Path:
    """`more` sessions after the first one, which `write_run` has recorded."""
    path = run / "provenance.json"
    (first,) = json.loads(path.read_text())["sessions"]
    path.write_text(json.dumps({"sessions": [first | {"from_step": 0}, *({**first, **each} for each in more)]}))
    return run


@pytest.mark.parametrize(
    ("sessions", "tokens"),
    [
        ([], {10: 640, 40: 2560}),
        ([{"from_step": 20, "changes": {}}], {40: 2560}),
        ([{"from_step": 20, "changes": {BATCH: [8, 4]}}], {10: 1280, 20: 2560, 30: 3200}),
        # the same tokens, the other way round
        ([{"from_step": 20, "changes": {BATCH: [2, 4], ACCUMULATE: [2, 1]}}], {10: 640, 30: 1920}),
        ([{"from_step": 10, "changes": {BATCH: [8, 2]}}, {"from_step": 30, "changes": {BATCH: [2, 4]}}], {40: 2560}),
        # killed before its first checkpoint, so that the third does its steps again
        ([{"from_step": 20, "changes": {BATCH: [4, 16]}}, {"from_step": 20, "changes": {}}], {40: 2560}),
        ([{"from_step": 30, "changes": {BATCH: [2, 16]}}, {"from_step": 20, "changes": {BATCH: [2, 4]}}], {40: 1920}),
        # begun anew: the folder had another config
        ([{"from_step": 0, "changes": {BATCH: [8, 4]}}], {40: 2560}),
        ([{"from_step": "x", "changes": {BATCH: "x"}}, {"changes": 3}], {40: 2560}),
    ],
)
def test_tokens_are_those_of_each_session(tmp_path: Path, sessions: list[dict], tokens: dict[int, int]) -> None:
    run = read_run(write_sessions(write_run(tmp_path / "run", [3.0, 2.5, 2.2, 2.0]), *sessions))
    assert {step: run.tokens_at(step) for step in tokens} == tokens


def test_a_branch_counts_its_parents_steps_by_the_parents_settings(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [3.0, 2.5, 2.2, 2.0])
    session = {"from_step": 20, "parent": "runs/a", "changes": {BATCH: [8, 4]}}
    (run / "provenance.json").write_text(json.dumps({"sessions": [session]}))
    assert read_run(run).tokens_at(40) == 20 * 128 + 20 * 64


def test_compare_counts_and_tells_what_a_resume_changed(tmp_path: Path) -> None:
    """Half the run with a batch twice as large: at equal tokens the two are not at the same step."""
    straight = write_run(tmp_path / "a", [3.0, 2.5, 2.2, 2.0])
    changes = {BATCH: [8, 4], "optim.lr": [0.01, 0.001], "run.keep": [3, 5], "trainer.max_time": [None, "00:01:00:00"]}
    resumed = write_run(tmp_path / "b", [3.0, 2.5, 2.2, 2.0])
    write_sessions(resumed, {"from_step": 20, "changes": changes})
    found = compare([straight, resumed], by="tokens")
    assert [run.tokens for run in found.runs] == [40 * 64, 20 * 128 + 20 * 64]
    assert found.curves[str(resumed)].tokens == [1280, 2560, 3200, 3840]
    assert [run.at_equal_tokens for run in found.runs] == pytest.approx([2.0, 2.5])
    told = "b was resumed with other settings: data.batch_size 8 before step 20, 4 from there"
    assert f"{told}, optim.lr 0.01 before step 20, 0.001 from there." in found.notes
