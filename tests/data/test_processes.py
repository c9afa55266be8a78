import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.data.processes import WorkerPool
from minigpt.errors import DataError

# The functions that the workers call are this module's: they import it as the parent does.


def square(number: int) -> int:
    return number * number


def slow_if_even(number: int) -> int:
    time.sleep(0.2 if number % 2 == 0 else 0)
    return number


def fail(kind: str) -> None:
    if kind == "data":
        raise DataError("a.txt: not a text")
    if kind == "os":
        raise OSError(28, "No space left on device", "/full/disk")
    if kind == "memory":
        raise MemoryError
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ZeroDivisionError("a bug")


def chatter(number: int) -> int:
    print("this must not get between the answers")
    os.system("echo nor this")
    return number


def interrupt_myself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


def environment(number: int) -> dict[str, str]:
    return {name: os.environ[name] for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM")}


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_answers_come_in_the_order_of_the_tasks(n_workers: int) -> None:
    with WorkerPool(n_workers) as pool:
        assert list(pool.map(slow_if_even, ((n,) for n in range(6)))) == list(range(6))
        assert list(pool.map(square, ((n,) for n in range(20)))) == [n * n for n in range(20)]
        assert list(pool.map(square, [])) == []


def test_a_few_tasks_are_read_ahead_and_never_all() -> None:
    read = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal read
        for read in range(1000):
            yield (read,)

    with WorkerPool(2) as pool:
        answers = pool.map(square, tasks())
        for n in range(10):
            assert next(answers) == n * n
            assert read <= n + 5


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("data", DataError, r"^a.txt: not a text$"),
        ("os", OSError, r"No space left on device: '/full/disk'"),
        ("memory", DataError, "too little memory in a worker process"),
        ("killed", DataError, r"a worker process ended unexpectedly \(signal 9\); was there too little memory\?"),
        ("bug", RuntimeError, r"in a worker process: ZeroDivisionError\('a bug'\)"),
    ],
)
def test_a_failure_in_a_worker_is_one_here(kind: str, error: type[Exception], message: str) -> None:
    with WorkerPool(2) as pool, pytest.raises(error, match=message):
        list(pool.map(fail, [(kind,)]))


@pytest.mark.parametrize("n_workers", [1, 3])
def test_the_first_failure_in_order_is_the_one_that_is_told(n_workers: int) -> None:
    def tasks() -> Iterator[tuple[str]]:
        yield ("data",)
        raise DataError("b.gz: damaged, but it is behind a.txt")

    with WorkerPool(n_workers) as pool, pytest.raises(DataError, match=r"^a.txt"):
        list(pool.map(fail, tasks()))
    with WorkerPool(n_workers) as pool, pytest.raises(DataError, match=r"^b.gz"):
        list(pool.map(fail, iter(tasks_that_fail())))


def tasks_that_fail() -> Iterator[tuple[str]]:
    raise DataError("b.gz: damaged")
    yield ("data",)


def test_what_a_worker_prints_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerPool(1) as pool:
        assert list(pool.map(chatter, [(3,)])) == [3]
    out, err = capfd.readouterr()
    assert out == ""
    assert "nor this" in err


def test_an_interrupt_is_for_the_parent_to_judge() -> None:
    with WorkerPool(1) as pool:
        assert list(pool.map(interrupt_myself, [()])) == ["still here"]


def test_workers_share_the_cores_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("minigpt.data.processes.usable_cores", lambda: 8)
    for n_workers, threads, parallel in ((2, "4", "true"), (8, "1", "false")):
        with WorkerPool(n_workers) as pool:
            [found] = pool.map(environment, [(1,)])
        assert found == {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": parallel}
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "0")
    with WorkerPool(2) as pool:
        [found] = pool.map(environment, [(1,)])
    assert found["TOKENIZERS_PARALLELISM"] == "0"


def test_a_worker_does_not_import_what_the_program_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a file of the current folder that is named like a module."""
    (tmp_path / "pickle.py").write_text("raise SystemExit('shadowed')")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; sys.modules['torch'] = sys\n"
        "from minigpt.data.processes import WorkerPool\n"
        "from minigpt.data.sources import document_key\n"
        "with WorkerPool(1) as pool: print(*pool.map(document_key, [(b'x',)]))\n"
    )
    monkeypatch.chdir(tmp_path)
    # no `if __name__ == '__main__'`, no main module that could be imported again
    done = subprocess.run(
        [sys.executable, "-P", "-"], stdin=program.open(), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert int(done.stdout) > 0


PARENT = """
import os, sys, time
from minigpt.data.processes import WorkerPool
with WorkerPool(2) as pool:
    print(*[worker.pid for worker in pool._started], flush=True)
    list(pool.map(time.sleep, [(100,), (100,)]))
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("whole_group", [True, False])
def test_no_worker_outlives_its_parent(end: signal.Signals, whole_group: bool) -> None:
    """Ctrl-C reaches the whole group; `kill` reaches the parent alone."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.5)  # let them begin with their task
    (os.killpg if whole_group else os.kill)(parent.pid, end)
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == -end
    if end == signal.SIGINT:
        assert errors.strip().endswith("KeyboardInterrupt")
        assert errors.count("Traceback") == 1  # the parent's own; the workers have nothing to say
    for _ in range(100):
        if not any(map(is_running, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_running, workers))
