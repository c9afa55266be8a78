"""The entry: help without torch, errors in one line, exit codes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli import main as entry
from minigpt.cli.main import COMMANDS, main


def minigpt(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        [sys.executable, "-m", "minigpt", *words], capture_output=True, text=True, timeout=120, **settings
    )


def raising(error: Exception, file: str = "<minigpt>") -> Callable[[list[str]], int]:
    """Return a command that fails in `file`: a test's own file counts as one of the user's."""
    names: dict[str, Any] = {"error": error}
    exec(compile("def fail(words):\n    raise error\n", file, "exec"), names)
    return names["fail"]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_a_command_reads_well_and_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from minigpt.cli.main import main\n"
        "try: code = main([sys.argv[1], '--help'])\n"
        "except SystemExit as error: code = error.code\n"
        "heavy = {'torch', 'lightning', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy; sys.exit(code)"
    )
    shown = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert f"minigpt {command}" in shown.stdout
    assert not shown.stderr


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["fti"], "unknown command fti, did you mean fit?", 2),
        *(
            (["train"], "unknown command train, did you mean fit?", 2),
            (["sample"], "sample, did you mean generate?", 2),
        ),
        *((["chat"], "did you mean generate?", 2), (["eval"], "did you mean validate?", 2)),
        *((["evaluate"], "did you mean validate?", 2), (["resume", "runs/base"], "did you mean fit --resume RUN?", 2)),
        (["xyzzy"], "unknown command xyzzy: plan, fit, validate, generate, verify", 2),
        (["fit", "--model.n_heads", "4"], "unknown key model.n_heads, did you mean model.n_head?", 2),
        (["fit", "--model.n_embd=65"], "model.n_embd=65 must be divisible by model.n_head=8", 2),
        (["generate", "no/such/run"], "no/such/run", 1),
        (["generate", "x", "--promt", "a"], "unknown option --promt, did you mean --prompt?", 2),
        (["validate", "no/such/run"], "no/such/run", 1),
    ],
)
def test_error_is_one_line(words: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("minigpt: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not captured.out


def test_installed_command_and_module_are_the_same() -> None:
    shown = minigpt("--version")
    assert shown.returncode == 0
    assert shown.stdout.startswith("minigpt ")


def test_traceback_on_request() -> None:
    shown = minigpt("fit", "--model.n_heads", "4", env={**os.environ, "MINIGPT_TRACEBACK": "1"})
    assert "Traceback" in shown.stderr


def test_ctrl_c_while_starting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_dispatch", interrupted)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "minigpt: interrupted\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.\nat x"),
        RuntimeError("Storage size calculation overflowed with sizes=[1, 9]"),
    ],
)
def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    monkeypatch.setattr(entry, "_dispatch", raising(error))
    assert main(["fit"]) == 1
    line = f"minigpt: error: too little memory for what is asked: {str(error).splitlines()[0]}\n"
    assert capsys.readouterr().err == line


def test_a_bug_is_not_told_as_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_dispatch", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["fit"])


def test_a_message_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "no\r\nsuch\x1b[31m\u202e\ud800run"]) == 1
    assert capsys.readouterr().err == "minigpt: error: no run or checkpoint at no such\\x1b[31m\\u202e\\ud800run\n"


def test_errors_of_the_system_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(28, "No space left on device", "runs/base/metrics.csv")
    monkeypatch.setattr(entry, "_dispatch", raising(full))
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == "minigpt: error: runs/base/metrics.csv: No space left on device\n"


@pytest.mark.parametrize("error", [ValueError("no\nluck"), OSError(2, "No such file", "x.txt"), KeyError("x")])
def test_an_error_in_a_file_of_the_users_own_shows_its_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my_ideas.py"
    file.write_text("\n    raise error  # my line\n", encoding="utf-8")
    monkeypatch.setattr(entry, "_dispatch", raising(error, str(file)))
    assert main(["fit"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"minigpt: error: {file}, line 2: raise error # my line: {type(error).__name__}: ")
    assert err.endswith("(MINIGPT_TRACEBACK=1 shows the traceback)\n")
    assert err.count("\n") == 1
    monkeypatch.setenv("MINIGPT_TRACEBACK", "1")
    with pytest.raises(type(error)):
        main(["fit"])


def test_a_callback_of_the_users_own_that_fails_ends_the_run_in_one_line(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_failing_callback.py").write_text(
        "from lightning.pytorch import Callback\n\n"
        "class Fails(Callback):\n    def on_train_batch_end(self, *_):\n        [][0]\n",
        encoding="utf-8",
    )
    words = ["fit", "--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2", "--data.tokenizer=byte"]
    words += [f"--data.corpus={corpus_file}", "--run.sample_every=0", "--trainer.accelerator=cpu"]
    assert main([*words, "--trainer.max_steps=2", "--trainer.callbacks+=my_failing_callback.Fails"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"minigpt: error: {tmp_path}/my_failing_callback.py, line 5: [][0]: IndexError: list index")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_real_process_stops_saves_and_goes_on(tmp_path: Path, corpus_file: Path, number: int, code: int) -> None:
    """A real fit in its own process: the signal ends it with its code, and `last` goes on."""
    words = [sys.executable, "-m", "minigpt", "fit", "--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2",
             "--data.tokenizer=byte", f"--data.corpus={corpus_file}", f"--run.root={tmp_path}", "--run.sample_every=0",
             "--trainer.accelerator=cpu"]  # fmt: skip
    process = subprocess.Popen(
        [*words, "--trainer.max_steps=1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("base/checkpoints/step=*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (out, err)
    assert "minigpt fit --resume " in out
    assert "Traceback" not in err
    newest = max(tmp_path.glob("base/checkpoints/step=*.ckpt"))
    step = int(newest.stem.removeprefix("step="))
    assert f"after step {step}" in out
    resumed = subprocess.run(
        [*words, f"--trainer.max_steps={step + 3}", "--ckpt_path=last"], capture_output=True, text=True, timeout=100
    )
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "base" / "checkpoints" / f"step={step + 3:08d}.ckpt").exists()


def test_ctrl_c_while_python_takes_itself_down_changes_nothing() -> None:
    """At the end of a command that is done, sent as late as a program can send it to itself."""
    code = (
        "import atexit, os, signal, sys\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT): kill(pid, number)\n"
        "sys.late = Late()\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['minigpt', *sys.argv[1:]]\n"
        "from minigpt.cli.main import script\n"
        "script()\n"
    )
    for words, expected in ([["--version"], 0], [["nonsense"], 2]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == expected
        assert "KeyboardInterrupt" not in done.stderr


def test_interrupt_while_an_object_is_deleted_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from minigpt.cli import main as module

    class Deleted:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def delete() -> None:
        Deleted()
        for _ in range(1000):  # until it comes
            time.sleep(0.01)

    monkeypatch.setattr(sys, "unraisablehook", module._interrupt_again)
    with pytest.raises(KeyboardInterrupt):
        delete()


@pytest.mark.parametrize(("value", "after"), [("", None), ("abc", None), ("-1", None), ("1", "1")])
def test_a_rank_that_is_no_number_means_nothing(value: str, after: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning reads it as a number when it is imported, and would end in a traceback."""
    monkeypatch.setenv("RANK", value)
    monkeypatch.setenv("SLURM_PROCID", value)
    assert main(["fit", "--trainer.max_stepz", "3"]) == 2
    assert (os.environ.get("RANK"), os.environ.get("SLURM_PROCID")) == (after, after)
