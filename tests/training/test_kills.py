"""Real processes, killed and resumed, give the straight run: the short version of benchmarks/kills.py."""

import importlib
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from minigpt.errors import CheckpointError
from minigpt.runs.metrics_csv import read_metrics

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module kills_trial, found as the scripts find it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("kills_trial")


def test_killed_in_four_ways_at_four_places(kills: ModuleType, tmp_path: Path) -> None:
    """Then the comparison itself is put to the test: it must see a single changed bit."""
    processes = importlib.import_module("kills_process")
    setting = processes.SETTINGS[0]
    straight = processes.Straight(tmp_path, processes.write_corpus(tmp_path / "text.txt"))
    planned = [
        kills.Kill("ENOSPC", "prepare", 7),  # in a shard
        kills.Kill("SIGTERM", "step", 22),  # after step 11
        kills.Kill("SIGKILL", "save", 150),  # in the checkpoint of step 12
        kills.Kill("SIGKILL", "link", 3),  # of step 40, which is the best and the last one; the first was step 20
    ]
    trial = kills.run_trial(kills.Trial(0, setting, planned, "0", keep=1), tmp_path, straight)
    assert trial.problems == []
    assert [kill.happened for kill in trial.kills] == [True] * 4

    run = straight.run(setting)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    compare = importlib.import_module("kills_compare")
    assert compare.differences(run, other, processes.STEPS) == []
    last = other / "checkpoints" / "step=00000040.ckpt"
    content = compare.torch.load(last, weights_only=True)
    bits = content["state_dict"]["gpt.head.weight"].view(compare.torch.int32)
    bits[0, 0] ^= 1
    compare.torch.save(content, last)
    metrics = other / "metrics.csv"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(CheckpointError, match="step 40 has a row already"):
        read_metrics(metrics)
    found = "\n".join(compare.differences(run, other, processes.STEPS))
    assert "step=00000040.ckpt: state_dict.gpt.head.weight" in found
    assert "steps ['40'] stand in" in found
    next(other.glob("events.*")).unlink()
    assert any("TensorBoard" in line for line in compare.differences(run, other, processes.STEPS))


def test_place_that_is_no_longer_there(kills: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness that no longer finds what it wraps must say so: it would kill nobody, and all would look well."""
    child = importlib.import_module("kills_child")

    def fail(message: str) -> None:
        raise LookupError(message)

    monkeypatch.setattr(child, "fail", fail)  # as it is, it ends the process
    harm = child.Harm("SIGKILL", 1, child.Note(tmp_path / "note"))
    for place in kills.WAYS.keys() - {"startup", "anytime"}:
        for name, patch in child.patches_of(place, harm).items():
            if name:
                with pytest.raises(LookupError, match="must be found anew"):
                    patch(ModuleType(name))  # of that name, but nothing is in it
