"""metrics.csv: each step once, complete before a checkpoint, continued by a resume."""

from pathlib import Path

from minigpt.training.metrics_file import MetricsFile, read_metrics


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
