"""A run folder's records: what they say, and what is said of damaged ones."""

import json
import math
import os
import re
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import tiny_config, tiny_tokenizer, write_checkpoint
from lab.folders import write_run

from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import CheckpointError
from minigpt.lab.compare.compare import compare
from minigpt.lab.runs import list_runs
from minigpt.model.sizes import parameter_count
from minigpt.runs.ownership import find_runs, folder_bytes
from minigpt.runs.records import flat_settings, read_run
from minigpt.runs.status import is_locked


def test_finished_run(tmp_path: Path) -> None:
    record = read_run(write_run(tmp_path / "a", [3.0, 2.5, 2.2, 2.0], seed=7))
    assert (record.name, record.state, record.step, record.max_steps, record.steps) == ("a", "finished", 40, 40, [40])
    assert record.metrics[20]["val/loss"] == 2.5
    assert record.started is not None
    assert record.started.isoformat() == "2026-01-02T03:04:05+00:00"
    assert record.data_fingerprint == "text"
    assert record.config["seed_everything"] == 7


def test_vocabulary_is_the_tokenizers_padded_up(tmp_path: Path) -> None:
    tokenizer = CharTokenizer("abcde", end_of_text=False, unknown=False)
    record = read_run(write_run(tmp_path / "a", [3.0], {"data.vocab_multiple": 8}, tokenizer=tokenizer))
    assert record.model.vocab_size == 8
    assert parameter_count(record.model) > 0


def test_states(tmp_path: Path) -> None:
    folders = {
        "stopped": write_run(tmp_path / "stopped", [3.0, 2.5]),
        "failed": write_run(tmp_path / "failed", []),
        "diverged": write_run(tmp_path / "diverged", [3.0, float("nan")]),
        "killed": write_run(tmp_path / "killed", [3.0, 2.0], checkpoints=()),
    }
    states = {name: read_run(folder).state for name, folder in folders.items()}
    assert states == {"stopped": "stopped", "failed": "failed", "diverged": "diverged", "killed": "failed"}


def test_snapshot_after_the_last_step_is_where_a_run_diverged(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0, 2.5])
    (folder / "divergences").mkdir()
    snapshot = folder / "divergences" / "step=00000013.pt"
    snapshot.touch()
    assert read_run(folder).state == "stopped"  # a resume got over step 13
    snapshot.rename(snapshot.with_name("step=00000021.pt"))
    assert read_run(folder).state == "diverged"


def test_locked_run_is_running(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0, 2.5, 2.2, 2.0])
    with FileLock(folder / ".lock"):
        assert is_locked(folder)
        assert read_run(folder).state == "running"
        assert read_run(folder, look_at_lock=False).state == "finished"
    assert read_run(folder).state == "finished"
    (folder / ".lock").unlink()
    assert not is_locked(folder)
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.yaml", "seed: 1\nrun: {", "config.yaml is damaged: line 2 is not YAML: expected "),
        ("config.yaml", "run: {name: a}", "config.yaml is damaged: it has no model"),
        ("config.yaml", "- 1", "config.yaml is damaged: "),
        ("provenance.json", "{", "provenance.json is damaged: "),
        ("provenance.json", '{"sessions": [1]}', "provenance.json is damaged: "),
        ("metrics.csv", "step,a\n1,x\n", "row 1: 'x' under 'a' is not a number"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, name: str, content: str, reason: str) -> None:
    folder = write_run(tmp_path / "a", [3.0])
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        read_run(folder)
    assert str(caught.value).startswith(str(folder))
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", ["null", "many", "-3", "1.5", "true", "[1]", "{a: 1}"])
@pytest.mark.parametrize("key", ["max_steps", "batch_size", "block_size", "eval_batches", "seed_everything"])
def test_number_that_is_none_is_one_line(tmp_path: Path, key: str, value: str) -> None:
    config = write_run(tmp_path / "a", [3.0]) / "config.yaml"
    config.write_text(re.sub(f"{key}: .*", f"{key}: {value}", config.read_text()))
    with pytest.raises(CheckpointError, match=rf"{key} must be a whole number, . or more: "):
        read_run(tmp_path / "a")


def test_tokenizer_that_is_missing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"its model cannot be known: .*tokenizer.json"):
        _ = read_run(folder).model


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("runs/bese", "no run at .*bese, did you mean base?"),
        ("runs", "it has no config.yaml; it holds runs: base"),
        ("runs/base/checkpoints", "it has no config.yaml; its run is .*base"),
        ("runs/base/config.yaml", "is a file, not a run's folder"),
    ],
)
def test_what_is_no_run(tmp_path: Path, path: str, reason: str) -> None:
    write_run(tmp_path / "runs" / "base", [3.0])
    with pytest.raises(CheckpointError, match=reason):
        read_run(tmp_path / path)


def test_runs_are_found_below_but_not_in_each_other(tmp_path: Path) -> None:
    for name in ("b", "sweep/c", "sweep/a", "a"):
        write_run(tmp_path / name, [3.0])
    write_run(tmp_path / "a" / "inside", [3.0])
    write_run(tmp_path / ".a.gone-1", [3.0])
    (tmp_path / "sweep" / "round").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)]
    assert found == ["a", "b", "sweep/a", "sweep/c"]


def test_size_counts_a_file_of_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    before = folder_bytes(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert before == folder_bytes(tmp_path) == 10_000


def test_flat_settings() -> None:
    nested = {"seed": 1, "model": {"n_head": 4, "deeper": {"x": [1, 2]}, "empty": {}}}
    assert flat_settings(nested) == {"seed": 1, "model.n_head": 4, "model.deeper.x": [1, 2], "model.empty": {}}


def test_records_need_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = write_run(tmp_path / "a", [3.0, 2.0])
    code = (
        "import sys; from pathlib import Path; from minigpt.runs.records import read_run;"
        "from minigpt.lab.compare.compare import compare;"
        f"record = read_run(Path({str(folder)!r})); record.model; compare([record.folder]);"
        "heavy = {'torch', 'lightning', 'matplotlib', 'tensorboard'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_provenance_without_a_time(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0])
    (folder / "provenance.json").write_text(json.dumps({"sessions": [{"started": "yesterday"}]}))
    assert read_run(folder).started is None
    (folder / "provenance.json").unlink()
    assert (read_run(folder).started, read_run(folder).data_fingerprint) == (None, "")


@pytest.mark.parametrize(("text", "told"), [("", "it is empty"), ("# nothing", "it is empty"), ("[1]", "it holds no")])
def test_a_config_without_groups_is_damaged(text: str, told: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "base", [3.0])
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"config.yaml is damaged: {told}"):
        read_run(folder)


def cut_run(folder: Path, lost_bytes: int, *, header: float | None = 2.0, whole: bool = True) -> Path:
    """A finished run whose metrics.csv lost its end; its checkpoint of step 40 says what the loss was."""
    write_run(folder, [3.0, 2.5, 2.2, 2.0])
    metrics = folder / "metrics.csv"
    metrics.write_bytes(metrics.read_bytes()[:-lost_bytes])
    last = folder / "checkpoints" / "step=00000040.ckpt"
    if whole:
        tokenizer = tiny_tokenizer("byte")
        write_checkpoint(last, tiny_config(tokenizer.vocab_size), tokenizer, step=40, val_loss=header)
    return folder


@pytest.mark.parametrize("lost", [1, 9, 60, 100])
def test_the_last_row_is_not_the_last_step(tmp_path: Path, lost: int) -> None:
    """A cut row, and lost rows: the loss of the last step is the one that its checkpoint has."""
    record = read_run(cut_run(tmp_path / "a", lost))
    assert record.state == "finished"
    assert record.metrics[40]["val/loss"] == 2.0
    assert record.metrics[40]["val/bits_per_byte"] == pytest.approx(2.0 / math.log(2))
    assert record.note == "metrics.csv ends before the validation of step 40, which is taken from step=00000040.ckpt"
    listed = next(run for run in list_runs(tmp_path) if run.name == "a")
    assert (listed.loss, listed.note) == (2.0, record.note)


def test_a_last_loss_that_nobody_has_is_unknown(tmp_path: Path) -> None:
    record = read_run(cut_run(tmp_path / "a", 9, whole=False))
    assert not record.knows_end
    assert record.note == "metrics.csv ends before the validation of step 40, and step=00000040.ckpt does not have it"
    write_run(tmp_path / "b", [3.0, 2.5, 2.2, 2.1])
    write_run(tmp_path / "c", [3.0, 2.5, 2.2, 2.3], {"optim.lr": 0.1})
    assert next(run for run in list_runs(tmp_path) if run.name == "a").loss is None
    comparison = compare([tmp_path])
    assert [(left.name, left.reason) for left in comparison.left_out] == [("a", record.note)]
    cut_run(tmp_path / "d", 9)
    comparison = compare([tmp_path / "b", tmp_path / "d"])
    assert next(run for run in comparison.runs if run.name == "d").final_loss == 2.0
    assert any(note.startswith("d: metrics.csv ends before") for note in comparison.notes)


def test_a_step_without_a_validation_misses_none(tmp_path: Path) -> None:
    """A run that was stopped between two validations, and one that had fewer of them before."""
    stopped = read_run(write_run(tmp_path / "a", [3.0, 2.5], checkpoints=[20, 25]))
    assert (stopped.note, stopped.knows_end) == ("", True)
    folder = cut_run(tmp_path / "b", 60, header=None)
    assert read_run(folder).note == ""
