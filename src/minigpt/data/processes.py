"""Worker processes that import nothing of the program that starts them, and never outlive it.

`multiprocessing` either forks (which torch's and the tokenizers' threads do not survive) or imports the caller's main
module again (which then has to be guarded, and loads torch once more). Here a worker is `python -m
minigpt.data.processes`. It reads (function, arguments) from its standard input, answers on its standard output, and
ends when its input does: also when the parent was killed.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from minigpt.errors import DataError, MinigptError
from minigpt.system.limits import usable_cores


class WorkerPool:
    """`n_workers` processes. Leaving the context kills them, whatever they do.

    Each worker belongs to one thread here, which hands it a task and waits for the answer.
    """

    def __init__(self, n_workers: int) -> None:
        self._n_workers = n_workers
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._started: list[subprocess.Popen[bytes]] = []
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="minigpt-worker")

    def map(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """`function(*task)` for each task, in order of the tasks; a few tasks are read ahead, never all.

        `function` is one that a module defines. The first task that fails ends it all with its error, so which error is
        seen does not depend on the number of workers.
        """
        waiting: deque[Future[Any]] = deque()
        coming = iter(tasks)
        while (answer := self._submit_next(function, coming)) is not None:
            waiting.append(answer)
            if len(waiting) > 2 * self._n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _submit_next(self, function: Callable[..., Any], tasks: Iterator[tuple[Any, ...]]) -> "Future[Any] | None":
        """The answer to come of the next task. If reading that task fails, its error is the answer: it has its turn."""
        try:
            return self._threads.submit(self._run, function, next(tasks))
        except StopIteration:
            return None
        except Exception as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def __enter__(self) -> Self:
        try:
            for _ in range(self._n_workers):
                self._started.append(_start_worker(self._n_workers))
                self._idle.put(self._started[-1])
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for worker in self._started:
            worker.kill()
        for worker in self._started:
            worker.wait()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._started:
            for pipe in filter(None, (worker.stdin, worker.stdout)):
                with suppress(OSError):  # what was still to be written to a dead worker
                    pipe.close()

    def _run(self, function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
        worker = self._idle.get()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            pickle.dump((function, task), worker.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            worker.stdin.flush()
            succeeded, answer = pickle.load(worker.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            code = worker.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise DataError(f"a worker process ended unexpectedly ({how}); was there too little memory?") from None
        finally:
            self._idle.put(worker)
        if succeeded:
            return answer
        raise answer


def _start_worker(n_workers: int) -> "subprocess.Popen[bytes]":
    """A worker that finds the same modules as this process and shares the processor's cores with the other workers."""
    threads = max(1, usable_cores() // n_workers)
    defaults = {
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        # glibc keeps freed blocks of some megabytes for later, in ever more pieces: 300 MB where 50 are needed.
        # With a fixed threshold it gives such blocks back to the system at once.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    }
    modules = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    environment = {**defaults, **os.environ, "PYTHONPATH": modules}
    # -P: the current folder comes first only if it does here, so that no file of the user's shadows a module.
    command = [sys.executable, "-P", "-m", "minigpt.data.processes"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _serve() -> None:
    """A worker's life: one task after another until it is killed or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    tasks: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(tasks,), daemon=True).start()
    while True:
        function, task = tasks.get()
        try:
            answer = (True, function(*task))
        except (MinigptError, OSError) as error:
            answer = (False, error)
        except MemoryError:
            answer = (False, DataError("too little memory in a worker process; fewer workers need less"))
        except BaseException as error:
            answer = (False, RuntimeError(f"in a worker process: {error!r}\n{traceback.format_exc()}"))
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _read_tasks(tasks: "queue.SimpleQueue[Any]") -> None:
    """In a thread of its own: the end of the input, which is the end of the parent, then stops even a running task."""
    while True:
        try:
            tasks.put(pickle.load(sys.stdin.buffer))
        except (EOFError, pickle.UnpicklingError):
            os._exit(1)


if __name__ == "__main__":
    _serve()
