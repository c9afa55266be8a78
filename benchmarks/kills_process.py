"""A small `minigpt fit` as a real process: its settings, how it ended, and the uninterrupted runs to compare with."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kills_child import HARNESS_FAULT, event_of

STEPS = 40
SAVE_EVERY = 4
SEED = 11
BATCH = 4
EVALUATED = 8
"""Windows that a validation reads."""
LONGEST = 180
"""Seconds after which a process is taken to hang."""
CHILD = Path(__file__).with_name("kills_child.py")


@dataclass(frozen=True)
class Setting:
    """What is varied between runs and must be the same in the straight one."""

    tokenizer: str = "byte"
    accumulate: int = 1
    compiled: bool = False
    eval_every: int = 5
    optimizer: str = "adamw"
    regrouped: bool = False
    """Whether each process accumulates another number of batches of another size, their product being the same."""

    def regroup(self, rng: random.Random) -> list[str]:
        """The words of another grouping of a step's windows; they are validated in the same number."""
        sizes = [size for size in (1, 2, 4, 8) if BATCH * self.accumulate % size == 0]
        size = rng.choice(sizes)
        return [
            f"--data.batch_size={size}", f"--trainer.accumulate_grad_batches={BATCH * self.accumulate // size}",
            f"--run.eval_batches={EVALUATED // size}",
        ] if self.regrouped else []  # fmt: skip

    def words(self, root: Path, corpus: Path) -> list[str]:
        """The command line of a small run into `root`, with dropout and all that a run writes."""
        vocabulary = ["--data.vocab_size=280"] if self.tokenizer == "bpe" else []
        return [
            "fit", "--run.name=run", f"--run.root={root}", f"--data.corpus={corpus}", f"--seed_everything={SEED}",
            "--model.block_size=16", "--model.n_layer=1", "--model.n_head=2", "--model.n_embd=16",
            f"--model.dropout={0 if self.regrouped else 0.3}", f"--optim.name={self.optimizer}", "--optim.lr=1e-2",
            "--optim.warmup_steps=3",
            f"--data.batch_size={BATCH}", f"--data.tokenizer={self.tokenizer}", *vocabulary,
            f"--run.compile={str(self.compiled).lower()}",
            "--run.log_every=3", f"--run.eval_every={self.eval_every}", f"--run.eval_batches={EVALUATED // BATCH}",
            f"--run.save_every={SAVE_EVERY}", "--run.sample_every=15", "--run.sample_prompt=line",
            f"--trainer.max_steps={STEPS}", "--trainer.accelerator=cpu", "--trainer.devices=1",
            f"--trainer.accumulate_grad_batches={self.accumulate}",
        ]  # fmt: skip


SETTINGS = [
    Setting("byte", 1, False, 5),
    Setting("bpe", 4, False, 6),
    Setting("byte", 4, True, 5),
    Setting("bpe", 1, True, 6, "muon"),
    Setting("byte", 4, False, 6, "muon"),
    Setting("bpe", 1, False, 5, "muon"),
    Setting("byte", 4, False, 5, regrouped=True),
    Setting("bpe", 3, False, 6, regrouped=True),
]
"""Tokenizers, accumulation, torch.compile, cadences and optimizers, each value with each other one somewhere."""


@dataclass
class Process:
    """How one `minigpt fit` ended."""

    code: int
    pid: int
    stderr: str
    struck: bool
    resume_seconds: float | None
    """Seconds from its start to its first training step; None: it never came there."""


@dataclass(frozen=True)
class Workplace:
    """A folder in which one run lives, with a cache of its own, and the text that it reads."""

    folder: Path
    corpus: Path

    @property
    def root(self) -> Path:
        """Where `minigpt` puts runs."""
        return self.folder / "runs"

    def fit(
        self, setting: Setting, words: list[str], label: str, *, trap: Sequence[str] = (), after: float = 0
    ) -> Process:
        """Run `minigpt fit`. `trap`: options of kills_child.py, or (anytime, WAY) to strike from here `after` s."""
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / f"{label}.note"
        outside = trap[1] if tuple(trap[:1]) == ("anytime",) else None
        options = [*([] if outside else trap), "--note", str(note), *(["--eager"] if setting.compiled else [])]
        command = [sys.executable, str(CHILD), *options, "--", *setting.words(self.root, self.corpus), *words]
        environment = {**os.environ, "MINIGPT_CACHE": str(self.folder / "cache")}
        began, struck = time.time(), False
        # Into files: a worker that outlives its killed parent for a moment would hold a pipe open.
        paths = [self.folder / f"{label}.{name}" for name in ("out", "err")]
        with paths[0].open("w") as out, paths[1].open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
            if outside:
                try:
                    process.wait(after)
                except subprocess.TimeoutExpired:
                    process.send_signal(getattr(signal, outside))
                    struck = True
            try:
                code = process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
                err.write(f"it hung: killed after {LONGEST} s\n")
        stderr = paths[1].read_text()
        if code == HARNESS_FAULT:
            raise RuntimeError(stderr)
        training = event_of(note, "training")
        seconds = training[0]["time"] - began if training else None
        return Process(code, process.pid, stderr, struck or bool(event_of(note, "struck")), seconds)


class Straight:
    """The uninterrupted runs to compare with: one for each setting, made when first asked for."""

    def __init__(self, out: Path, corpus: Path) -> None:
        self.out = out
        self.corpus = corpus
        self.seconds: list[float] = []
        """How long each took."""
        self._locks = {setting: threading.Lock() for setting in SETTINGS}

    def run(self, setting: Setting) -> Path:
        """The folder of the straight run."""
        place = Workplace(self.out / f"straight-{SETTINGS.index(setting)}", self.corpus)
        with self._locks[setting]:
            if not place.folder.exists():
                began = time.perf_counter()
                process = place.fit(setting, [], "straight")
                self.seconds.append(time.perf_counter() - began)
                if process.code:
                    raise RuntimeError(f"the straight run failed, see {place.folder}: {process.stderr}")
        return place.root / "run"


def write_corpus(path: Path) -> Path:
    """A small text that a small model can learn something from."""
    lines = [f"line {n}: {n} and {n + 1} make {2 * n + 1}, and {n} times two is {2 * n}.\n" for n in range(600)]
    path.write_text("".join(lines))
    return path
