"""metrics.csv: each step once, complete before a checkpoint, continued by a resume."""

from pathlib import Path

import pytest

from minigpt.errors import CheckpointError
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit
from minigpt.training.loggers.metrics_file import MetricsFile
from training.tiny import tiny_experiment


def test_rows_columns_and_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    file.log_metrics({"a": 0.1}, 1)
    file.log_metrics({"a": 1 / 3}, 2)
    file.log_metrics({"b": 2.0}, 2)
    file.log_metrics({"a": 1e-300}, 4)
    file.finalize("success")
    assert path.read_text() == "step,a,b\n1,0.1,\n2,0.3333333333333333,2.0\n4,1e-300,\n"
    assert read_metrics(path) == {1: {"a": 0.1}, 2: {"a": 1 / 3, "b": 2.0}, 4: {"a": 1e-300}}


def test_appending_does_not_write_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    file.log_metrics({"a": 1.0}, 1)
    file.save()
    inode = path.stat().st_ino
    for step in range(2, 5):
        file.log_metrics({"a": 1.0}, step)
    file.save()
    assert path.stat().st_ino == inode
    assert list(read_metrics(path)) == [1, 2, 3, 4]


def test_a_row_that_grows_after_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    file.log_metrics({"a": 1.0, "b": 1.0}, 1)
    file.save()
    file.log_metrics({"b": 2.0}, 1)
    file.save()
    assert read_metrics(path) == {1: {"a": 1.0, "b": 2.0}}


def test_resume_forgets_the_steps_that_will_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    for step in (1, 2, 3):
        file.log_metrics({"a": float(step)}, step)
    file.finalize("success")
    with path.open("a") as leftover:
        leftover.write("4,4.")  # cut short by a kill
    resumed = MetricsFile(path, resume_step=2)
    assert list(read_metrics(path)) == [1, 2, 3]  # another process may still be at work: nothing is touched yet
    resumed.log_metrics({"a": 30.0}, 3)
    assert list(read_metrics(path)) == [1, 2]
    resumed.finalize("success")
    assert read_metrics(path) == {1: {"a": 1.0}, 2: {"a": 2.0}, 3: {"a": 30.0}}


def test_new_run_does_not_touch_what_is_there_before_its_first_row(tmp_path: Path) -> None:
    assert not (tmp_path / "metrics.csv").exists()
    MetricsFile(tmp_path / "metrics.csv").finalize("success")
    assert not (tmp_path / "metrics.csv").exists()


SAVED = "step,a,b\n1,0.5,\n2,0.25,-1e-07\n3,2.0,nan\n"
ROWS = {1: {"a": 0.5}, 2: {"a": 0.25, "b": -1e-07}, 3: {"a": 2.0, "b": pytest.approx(float("nan"), nan_ok=True)}}


def with_lines(text: str, end: str) -> bytes:
    return text.replace("\n", end).encode()


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (with_lines(SAVED, "\r\n"), {}),
        (with_lines(SAVED, "\r"), {}),
        (b"\xef\xbb\xbf" + SAVED.encode(), {}),
        (SAVED.rstrip().encode(), {}),
        (b"b,step,a\n,1,0.5\n-1e-07,2,0.25\nnan,3,2.0\n", {}),
        (b'"step","a","b"\n"1","0.5",""\n"2.0","0.25","-1E-07"\n3,2,nan\n\n,,\n', {}),
        (b"step,mine,a,b\n1,7,0.5,\n2,,0.25,-1e-07\n3,9,2.0,nan\n", {1: {"mine": 7.0}, 3: {"mine": 9.0}}),
    ],
)
def test_resume_of_a_file_that_a_spreadsheet_saved(tmp_path: Path, content: bytes, more: dict) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    file = MetricsFile(path, resume_step=3)
    file.log_metrics({"b": 4.0}, 4)
    file.finalize("success")
    expected = {step: row | more.get(step, {}) for step, row in ROWS.items()} | {4: {"b": 4.0}}
    assert read_metrics(path) == expected
    assert b"\r" not in path.read_bytes()
    assert path.read_bytes().startswith((b"step,a,b\n", b"step,b,a\n", b"step,mine,a,b\n"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"step,a,note\n1,0.5,good\n2,0.25,\n", "row 1: 'good' under 'note' is not a number"),
        (b"step,a\n1,0.5,0.75\n", "row 1: 3 cells under 2 columns"),
        (b"step,a\n1.5,0.5\n", "row 1: its step must be a whole number"),
        (b"step,a\n,0.5\n", "row 1: its step must be a whole number"),
        (b"step,a\nnan,0.5\n", "row 1: its step must be a whole number"),
        (b"step,a\ninf,0.5\n", "row 1: its step must be a whole number"),
        (b"step,a\n-1,0.5\n", "row 1: its step must be a whole number"),
        (b"step,a\n1,0.5\n1,0.6\n", "row 2: step 1 has a row already"),
        (b"step,a,a\n1,0.5,0.6\n", "must name step and each column once"),
        (b"a,b\n1,2\n", "must name step and each column once"),
        ("step,a\n1,2\n".encode("utf-16"), "is no table of comma-separated values"),
        (SAVED.replace(",", ";").encode(), "must name step and each column once, with commas: ['step;a;b']"),
        (SAVED.replace(",", "\t").encode(), "must name step and each column once, with commas"),
    ],
)
def test_what_cannot_be_kept_is_one_line_and_stays(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        MetricsFile(path, resume_step=3)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == content


def test_line_cut_short_by_a_kill_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for cut in ("12", "12,", "12,0.", "12,0.5,", "1", ""):
        path.write_text("step,a,b\n1,0.5,\n" + cut)
        MetricsFile(path, resume_step=8).log_metrics({"a": 1.0}, 9)
        assert read_metrics(path) == {1: {"a": 0.5}}


def test_resume_with_a_file_that_cannot_be_kept_is_one_line(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    path = tmp_path / "tiny" / "metrics.csv"
    header, first, *others = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},note", f"{first},low", *(f"{line}," for line in others), ""]))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"row 1: 'low' under 'note' is not a number"):
        fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last")
    assert path.read_bytes() == before


@pytest.mark.parametrize("written", [0, 5, None])
def test_interrupt_amid_the_lines_leaves_each_step_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    """Nothing of them, a part or all is in the file: the save at the run's end puts it right."""
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path)
    file.log_metrics({"a": 1.0}, 1)
    file.save()
    file.log_metrics({"a": 2.0}, 2)
    real_line = file._line

    def line(step: int, row: dict) -> str:
        with path.open("a") as half:
            half.write(real_line(step, row)[:written])
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "_line", line)
    with pytest.raises(KeyboardInterrupt):
        file.save()
    monkeypatch.undo()
    file.finalize("failed")
    assert path.read_text() == "step,a\n1,1.0\n2,2.0\n"
