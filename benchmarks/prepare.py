"""Megabytes per second and memory of `minigpt prepare`, beside what the `tokenizers` library does alone.

    python benchmarks/prepare.py [--megabytes 200] [--vocab_size 4096] [--folder DIR]

The text, one file, is made of lines of Python's standard library drawn at random. Each row is a process of its own with
an empty cache, so that its time holds everything: hashing, reading, learning the vocabulary, tokenising, syncing.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from minigpt.data.corpus import open_corpus
from minigpt.data.pieces import cut_text
from minigpt.data.prepare import PrepareOptions, prepare

TOKENIZERS = ("byte", "char", "bpe")
PROCESSES = (1, 2)
LIBRARY_MEGABYTES = 50
"""Of the text that the library alone is given: more takes longer and says the same."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where text and shards go for a while (default: /tmp)"
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, processes = args.measure
        measure(what, int(processes), args.folder, args.megabytes, args.vocab_size)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report(Path(folder), args.megabytes, args.vocab_size)


def report(folder: Path, megabytes: int, vocab_size: int) -> None:
    """Write the text, measure every row, print them all."""

    def run(what: str, processes: int) -> dict[str, float]:
        print(f"{what}, {processes} ...", file=sys.stderr)
        command = [sys.executable, __file__, "--measure", what, str(processes), "--folder", str(folder)]
        command += ["--megabytes", str(megabytes), "--vocab_size", str(vocab_size)]
        environment = {**os.environ, "MINIGPT_CACHE": str(folder / f"cache-{what}-{processes}")}
        return dict(json.loads(subprocess.check_output(command, env=environment)))

    n_bytes = run("text", 1)["bytes"]
    rows = [row(what, n, run(what, n)) for what in (*TOKENIZERS, "library") for n in PROCESSES]
    from report import machine  # only now: it imports torch, and a new process inherits the peak of its parent

    print(f"{machine()}\n")
    print(f"One text of {n_bytes / 1e6:,.0f} MB; bpe learns {vocab_size} tokens. Memory: the command + its workers.\n")
    print(
        "| tokenizer | processes | seconds | MB/s | of that learning, s | MB/s without it | processor s | memory, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


def row(what: str, processes: int, found: dict[str, float]) -> str:
    """One line of the table."""
    size, seconds, learning = found["megabytes"], found["seconds"], found["learning"]
    cells = [what, str(processes), f"{seconds:.1f}", f"{size / seconds:.1f}"]
    cells += [f"{learning:.1f}", f"{size / (seconds - learning):.1f}"] if learning else ["", ""]
    cells += [f"{found['cpu']:.1f}", f"{found['own_mb']:.0f} + {processes} × {found['worker_mb']:.0f}"]
    if what == "library":
        cells[0:2] = [f"`tokenizers` alone, {size:.0f} MB", f"{processes} (threads)"]
        cells[-1] = f"{found['own_mb']:.0f}"
    return f"| {' | '.join(cells)} |"


def write_text(path: Path, n_bytes: int) -> float:
    """A text of about `n_bytes` whose words are as frequent as in real code; gives its size."""
    lines = "".join(open_corpus("python").documents()).splitlines(keepends=True)
    draw = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        while file.tell() < n_bytes:
            file.write("".join(draw.choices(lines, k=20_000)))
    return path.stat().st_size


def measure(what: str, processes: int, folder: Path, megabytes: int, vocab_size: int) -> None:
    """In a process of its own: do it once, print what it took as JSON."""
    began, cpu_before = time.perf_counter(), cpu_seconds()
    if what == "text":
        found = {"bytes": write_text(folder / "text.txt", megabytes * 1_000_000)}
    elif what == "library":
        found = encode_with_library(processes, folder)
    else:
        found = run_prepare(what, processes, folder, vocab_size)
    found["seconds"] = time.perf_counter() - began
    found["cpu"] = cpu_seconds() - cpu_before
    found["own_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["worker_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps(found))


def run_prepare(tokenizer: str, processes: int, folder: Path, vocab_size: int) -> dict[str, float]:
    """What `minigpt prepare` does. The tokenizer is kept for the library's rows."""
    began: dict[str, float] = {}

    def progress(stage: str, _done: int, _total: int) -> None:
        began.setdefault(stage, time.perf_counter())

    text, out = folder / "text.txt", folder / f"{tokenizer}-{processes}"
    options = PrepareOptions(corpus=str(text), tokenizer=tokenizer, vocab_size=vocab_size, workers=processes)
    prepared = prepare(options, out, progress=progress)
    (folder / f"{tokenizer}.json").write_text(prepared.tokenizer.to_json(), encoding="utf-8")
    learning = began["tokenising"] - began["learning the vocabulary"] if tokenizer == "bpe" else 0.0
    shutil.rmtree(out)
    return {"megabytes": text.stat().st_size / 1e6, "learning": learning}


def encode_with_library(threads: int, folder: Path) -> dict[str, float]:
    """`encode_batch_fast` on a text in memory, some megabytes at a time: its results weigh fifty times their text."""
    os.environ |= {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
    library = Tokenizer.from_file(str(folder / "bpe.json"))
    with (folder / "text.txt").open("rb") as file:
        text = file.read(LIBRARY_MEGABYTES * 1_000_000).decode("utf-8", errors="ignore")
    stretches = list(cut_text(text, 1 << 15))
    for first in range(0, len(stretches), 64):
        for encoding in library.encode_batch_fast(stretches[first : first + 64]):
            np.array(encoding.ids, dtype=np.uint16)
    return {"megabytes": len(text.encode("utf-8")) / 1e6, "learning": 0.0}


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
