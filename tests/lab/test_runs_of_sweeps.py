"""Runs of sweeps that have just begun, were stopped at once, or were deleted: what the list and compare say."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from minigpt.errors import CheckpointError
from minigpt.lab.clean import remove_run
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.sources import disambiguate, find_sources
from minigpt.lab.runs import list_runs

from .folders import write_run, write_sweep


def sweep_of(folder: Path, states: dict[str, str], reason: str | None = None) -> Path:
    """A sweep whose runs left nothing yet, not even a tokenizer."""
    for name in states:
        (write_run(folder / name, []) / "tokenizer.json").unlink()
    return write_sweep(
        folder, [{"name": name, "group": name, "state": state, "reason": reason} for name, state in states.items()]
    )


def listed(root: Path) -> dict[str, str]:
    return {run.name: run.state for run in list_runs(root)}


def record(sweep: Path) -> dict[str, tuple[str, str | None]]:
    cells = json.loads((sweep / "sweep.json").read_text())["cells"]
    return {cell["name"]: (cell["state"], cell["reason"]) for cell in cells}


def test_the_first_seconds(tmp_path: Path) -> None:
    """A cell's process has yet to take its lock; another has it, and no tokenizer."""
    sweep = sweep_of(tmp_path / "k", {"starting": "running", "begun": "running", "later": "waiting"})
    with FileLock(sweep / ".lock"), FileLock(sweep / "begun" / ".lock"):
        assert listed(sweep) == {"starting": "running", "begun": "running", "later": "waiting"}
        assert listed(tmp_path)["k/starting"] == "running"
        told = {source.folder.name: (source.state, source.reason) for source in find_sources([sweep])}
        with pytest.raises(CheckpointError, match=r"begun holds no curves: it has just begun.* \(it is running\)$"):
            compare([sweep / "begun"])
    just = ("running", "it has just begun, no curves yet")
    assert told == {"starting": just, "begun": just, "later": ("waiting", "it has not begun")}


def test_cells_that_were_stopped_at_once_wait(tmp_path: Path) -> None:
    """By Ctrl-C, or by a kill, after which the record still says running."""
    sweep = sweep_of(tmp_path / "k", {"stopped": "waiting", "killed": "running", "wrong": "failed"})
    write_run(sweep / "stranger", [])
    assert listed(sweep) == {"stopped": "waiting", "killed": "waiting", "wrong": "failed", "stranger": "failed"}
    (sweep / "sweep.json").write_text("{")
    assert set(listed(sweep).values()) == {"failed"}


def test_half_done_cell_that_goes_on_is_running(tmp_path: Path) -> None:
    """It must not be offered for deletion while its process starts up."""
    sweep = tmp_path / "k"
    write_run(sweep / "half", [3.0])
    write_sweep(sweep, [{"name": "half", "group": "half", "state": "running"}])
    assert listed(sweep) == {"half": "stopped"}
    before = list_runs(sweep)[0]
    with FileLock(sweep / ".lock"):
        assert listed(sweep) == {"half": "running"}
        assert remove_run(before) == "it is running now"


def test_the_sweep_learns_of_deleted_runs(tmp_path: Path) -> None:
    sweep = tmp_path / "k"
    write_run(sweep / "done", [3.0, 2.5, 2.2, 2.0])
    write_run(sweep / "kept", [3.0, 2.5, 2.2, 2.1])
    write_run(sweep / "nan", [3.0, float("nan")])
    states = {"done": "finished", "kept": "finished", "nan": "diverged"}
    look = "the loss is nan; minigpt replay runs/k/nan/divergences/step=1.pt shows the step"
    write_sweep(
        sweep, [{"name": name, "group": name, "state": state, "reason": look} for name, state in states.items()]
    )
    for run in list_runs(sweep):
        if run.name != "kept":
            assert remove_run(run) is None
    assert record(sweep) == {
        "done": ("waiting", None), "kept": ("finished", look), "nan": ("diverged", "its folder was deleted"),
    }  # fmt: skip
    told = {each.name: each.reason for each in compare([sweep]).left_out}
    assert told == {"done": "it has not begun", "nan": "its folder was deleted"}


def test_a_search_does_not_train_a_deleted_trial_again(tmp_path: Path) -> None:
    sweep = tmp_path / "k"
    write_run(sweep / "done", [3.0, 2.5, 2.2, 2.0])
    write_sweep(sweep, [{"name": "done", "group": "done", "state": "finished"}])
    content = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps(content | {"search": {"trials": 1}}))
    assert remove_run(list_runs(sweep)[0]) is None
    assert record(sweep) == {"done": ("finished", "its folder was deleted")}


def test_finished_cell_whose_folder_somebody_removed(tmp_path: Path) -> None:
    write_run(tmp_path / "there", [3.0, 2.5, 2.2, 2.0])
    cells = [{"name": name, "group": name, "state": "finished"} for name in ("there", "gone")]
    (left_out,) = compare([write_sweep(tmp_path, cells)]).left_out
    assert (left_out.name, left_out.reason) == ("gone", "its folder was deleted")


def test_runs_below_a_folder_belong_to_their_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare .` says of two sweeps what `compare k m` does; no name stands bare where another folder has it too."""
    for sweep, seeds, lr in (("k", (1, 1337, 4), 0.001), ("m", (1, 2, 3), 0.002)):
        cells = []
        for seed in seeds:
            name = f"base,seed={seed}"
            write_run(tmp_path / sweep / name, [3.0, 2.5, 2.2, 2.0], {"optim.lr": lr}, seed=seed)
            cells.append({"name": name, "group": "base", "seed": seed, "state": "finished"})
        lost = {"name": "base,seed=9", "group": "base", "seed": 9, "state": "failed", "reason": "killed"}
        write_run(tmp_path / sweep / "base,seed=9", [])
        write_sweep(tmp_path / sweep, [*cells, lost])
    monkeypatch.chdir(tmp_path)
    for paths in (["."], ["k", "m"]):
        found = compare(paths)
        assert [group.name for group in found.groups] == ["k/base", "m/base"]
        assert found.groups[0].runs == [f"k/base,seed={seed}" for seed in (1, 1337, 4)]
        assert [(each.name, each.group) for each in found.left_out] == [
            ("k/base,seed=9", "k/base"), ("m/base,seed=9", "m/base"),
        ]  # fmt: skip


def test_names_beside_each_other_have_the_same_parts() -> None:
    folders = [Path("/r/k/a"), Path("/r/k/b"), Path("/r/m/a"), Path("/r/lone")]
    assert disambiguate(folders) == ["k/a", "k/b", "m/a", "lone"]
