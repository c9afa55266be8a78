"""A run for the notebooks: the reader's own where there is one, else a small one, trained on the spot."""

import functools
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

SETTINGS = (
    # A part of the text that base.yaml reads, and a model that learns something from it within half a minute.
    f"--data.corpus={sysconfig.get_paths()['stdlib']}/*.py",
    "--data.vocab_size=512",
    "--data.batch_size=16",
    "--model.n_layer=2",
    "--model.n_head=4",
    "--model.n_embd=96",
    "--model.dropout=0",
    "--model.position=rotary",
    "--optim.lr=5e-3",
    "--optim.warmup_steps=30",
    "--run.eval_batches=20",
    "--trainer.accelerator=cpu",
)


def find_run(name: str) -> Path | None:
    """The folder `name`, from here or from the repository, if it is a run with a checkpoint; else None."""
    return find_folder(name, lambda folder: any(folder.glob("checkpoints/*.ckpt")))


def find_folder(name: str, is_wanted: Callable[[Path], bool]) -> Path | None:
    """The folder `name`, from here or from the repository, where it is what is wanted; else None."""
    return next((folder for folder in (Path(name), REPOSITORY / name) if is_wanted(folder)), None)


@functools.cache
def small_run(name: str = "small", *settings: str, steps: int = 300) -> Path:
    """Train a small run by `minigpt fit` and give its folder, which is removed when Python ends.

    `settings` go over SETTINGS. The variable MINIGPT_NOTEBOOK_STEPS overrides `steps`: the tests have little time.
    """
    steps = wanted_steps(steps)
    every = max(3, steps // 10)
    cadence = (
        f"--trainer.max_steps={steps}",
        f"--run.log_every={every // 3}",
        f"--run.eval_every={every}",
        f"--run.sample_every={max(1, steps // 2)}",
        f"--run.save_every={steps}",
    )
    root = scratch_folder()
    minigpt(["fit", f"--run.root={root}", f"--run.name={name}", *SETTINGS, *cadence, *settings])
    return root / name


def wanted_steps(steps: int) -> int:
    """`steps`, or what the variable MINIGPT_NOTEBOOK_STEPS says."""
    return int(os.environ.get("MINIGPT_NOTEBOOK_STEPS", steps))


def scratch_folder() -> Path:
    """A new folder, which is removed when Python ends."""
    return Path(tempfile.mkdtemp(dir=_scratch().name))


def minigpt(words: Sequence[str], folder: Path | None = None) -> None:
    """The command `minigpt WORDS` in `folder` (none: here), without its output; raises RuntimeError with its error."""
    # A process of its own: the seeds, signals and terminal of a training are none of the notebook's.
    command = [sys.executable, "-m", "minigpt", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"minigpt {words[0]} ended with {done.returncode}: {done.stderr.strip()}")


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="minigpt-")
