"""All that is to be measured on a machine with one GPU, in one command.

    python benchmarks/gpu.py [--corpus FILE] [--text FOLDER] [--recipes CONFIG ...] [--minutes N] [--only PART ...]
    python benchmarks/gpu.py --toy

A table a part goes to benchmarks/results/gpu_PART.md, with the card's name. A part that fails is written down as
such, and the next one begins. --corpus is a local copy of tiny Shakespeare, for a machine without a network; --text is
what the configs that name no corpus train on. --toy goes through every part on the CPU in about a minute, at a size
that means nothing, and writes to a temporary folder.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch
from loss_memory import loss_memory
from muon import muon
from report import machine

from minigpt.cli.yaml_files import load_yaml
from minigpt.errors import ConfigError
from minigpt.system.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("shakespeare.yaml", "shakespeare_fast.yaml", "gpt2_fast.yaml")
STEPS = ("gpt2.yaml",)
DECODES = ("shakespeare.yaml", "gpt2.yaml")
TOY_SETTINGS = (
    "--model.n_layer=1", "--model.n_head=2", "--model.n_embd=16", "--model.block_size=16", "--data.batch_size=2",
    "--data.tokenizer=byte", "--data.num_workers=0", "--trainer.max_steps=3", "--trainer.accumulate_grad_batches=1",
    "--trainer.precision=32-true", "--trainer.accelerator=cpu", "--run.compile=false", "--run.eval_batches=1",
    "--model.sliding_window=null",
)  # fmt: skip


class PartError(Exception):
    """A part that could not be measured, and why, in one line."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the command line asks for."""

    recipes: tuple[str, ...]
    minutes: int
    """A recipe that takes longer is ended there."""
    corpora: dict[str, str]
    """What stands for a config's own corpus: by its name, `other` for all that have no entry."""
    scratch: Path
    toy: bool

    def settings(self, config: str) -> list[str]:
        """The words that choose a config, its text and, for a toy, its size."""
        path = Path("configs") / config
        try:
            own = str(load_yaml(path).get("data", {}).get("corpus", "other"))
        except ConfigError as error:
            raise PartError(str(error)) from error
        corpus = self.corpora.get(own)
        words = ["--config", str(path), *([f"--data.corpus={corpus}"] if corpus else [])]
        return [*words, *(TOY_SETTINGS if self.toy else ())]


def run_tests(plan: Plan) -> str:
    """The tests that need a GPU; on a machine without one they are skipped, which is told."""
    path = plan.scratch / "tests.xml"
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", "tests", f"--junitxml={path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if not path.exists():
        raise PartError(_last_line(done.stdout + done.stderr))
    suite = next(ElementTree.parse(path).iter("testsuite"))
    bad = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    skipped, total = int(suite.attrib["skipped"]), int(suite.attrib["tests"])
    rows = [f"| {total - bad - skipped} | {bad} | {skipped} | {float(suite.attrib['time']):.0f} s |"]
    failed = [case.attrib["name"] for case in suite.iter("testcase") if case.find("failure") is not None]
    return "\n".join(["| passed | failed | skipped | time |", "|---|---|---|---|", *rows, *(f"\n{x}" for x in failed)])


def step(plan: Plan) -> str:
    """Time, memory and utilisation of a training step."""
    words = ["--against", "transformers", *(["--steps=2", "--rounds=1"] if plan.toy else ["--steps=20", "--rounds=5"])]
    return _each(STEPS, lambda config: _bench(plan, config, words))


def profile(plan: Plan) -> str:
    """The five largest costs of a training step."""
    return _each(STEPS, lambda config: _bench(plan, config, ["--profile", f"--steps={2 if plan.toy else 10}"]))


def decode(plan: Plan) -> str:
    """Prefill and decode."""
    words = ["--rounds=1", "--batch_sizes", "1"] if plan.toy else ["--batch_sizes", "1", "8", "64"]
    return _each(DECODES, lambda config: _bench(plan, config, ["--generate", *words]))


def train(plan: Plan) -> str:
    """Each recipe from its start to its end, and its exact loss over the whole validation split."""
    return _each(plan.recipes, lambda config: _recipe(plan, config))


def loss(plan: Plan) -> str:
    """Memory of the loss with a large vocabulary."""
    size = {"vocab_size": 300, "block_size": 16, "batch_size": 2, "n_embd": 16} if plan.toy else {}
    return loss_memory(device="cpu" if plan.toy else "cuda", **size)


def optimizer(plan: Plan) -> str:
    """Our Muon against torch's."""
    configs, rounds = (["shakespeare_cpu_fast"], 1) if plan.toy else (["shakespeare_fast", "gpt2_fast"], 20)
    return muon(configs, rounds, "cpu" if plan.toy else "cuda")


def foretold(plan: Plan) -> str:
    """What `minigpt plan` foretells of memory and speed; `step` says what came."""
    return _each(STEPS, lambda config: f"```\n{_minigpt('plan', *plan.settings(config)[1:]).rstrip()}\n```")


PARTS: dict[str, Callable[[Plan], str]] = {
    "tests": run_tests,
    "step": step,
    "profile": profile,
    "loss": loss,
    "optimizer": optimizer,
    "foretold": foretold,
    "decode": decode,
    "train": train,
}


def main() -> int:
    """Do all parts; gives 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", metavar="FILE", help="a local copy of tiny Shakespeare")
    parser.add_argument("--text", metavar="FOLDER", help="a corpus, or a prepared one, for the GPT-2 recipes")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, metavar="CONFIG", help="of configs/, to train")
    parser.add_argument("--minutes", type=int, default=60, help="that a recipe may take")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts to do")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    parser.add_argument("--toy", action="store_true", help="every part on the CPU, at a size that means nothing")
    arguments = parser.parse_args()
    if not arguments.toy and not torch.cuda.is_available():
        print("gpu.py: error: torch sees no GPU here; --toy goes through every part on the CPU", file=sys.stderr)
        return 2
    for name in ("corpus", "text", "out"):
        if getattr(arguments, name):
            setattr(arguments, name, Path(getattr(arguments, name)).resolve())
    with tempfile.TemporaryDirectory(prefix="minigpt-gpu-") as scratch, contextlib.chdir(ROOT):
        plan = make_plan(arguments, Path(scratch))
        default = Path(tempfile.mkdtemp(prefix="minigpt-toy-")) if plan.toy else ROOT / "benchmarks" / "results"
        out = arguments.out or default
        out.mkdir(parents=True, exist_ok=True)
        outcomes = {name: _do(name, plan, out / f"gpu_{name}.md") for name in arguments.only}
    print("| part | outcome | time | table |\n|---|---|---|---|")
    for name, (outcome, seconds) in outcomes.items():
        print(f"| {name} | {outcome} | {seconds:.0f} s | {out / f'gpu_{name}.md'} |")
    return int(any(outcome != "done" for outcome, _ in outcomes.values()))


def make_plan(arguments: argparse.Namespace, scratch: Path) -> Plan:
    """The plan; a toy has a text of its own."""
    corpora = {"shakespeare": arguments.corpus, "other": arguments.text}
    if arguments.toy:
        text = scratch / "text.txt"
        text.write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
        corpora = {name: corpus or text for name, corpus in corpora.items()}
    return Plan(
        recipes=tuple(arguments.recipes),
        minutes=arguments.minutes,
        corpora={name: str(corpus) for name, corpus in corpora.items() if corpus},
        scratch=scratch,
        toy=arguments.toy,
    )


def _do(name: str, plan: Plan, path: Path) -> tuple[str, float]:
    """Do one part and write its file; its outcome and its seconds."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    try:
        content = PARTS[name](plan)
        outcome = "failed in part" if "FAILED: " in content else "done"
    except Exception as error:  # whatever it is, the other parts shall be measured
        content = _failure(error)
        outcome = "failed"
    seconds = time.perf_counter() - began
    toy = "A toy on the CPU: these numbers mean nothing.\n\n" if plan.toy else ""
    title = (PARTS[name].__doc__ or name).splitlines()[0]
    place = machine()
    for corpus in plan.corpora.values():  # where it lies is nobody's business
        place = place.replace(corpus, Path(corpus).name)
    atomic_write(path, f"# {title}\n\n{place}\n\n{toy}{content}\n")
    return outcome, seconds


def _each(configs: tuple[str, ...], measure: Callable[[str], str]) -> str:
    """What `measure` says of each config; one that fails does not take the others along."""
    sections = []
    for config in configs:
        try:
            content = measure(config)
        except PartError as error:
            content = _failure(error)
        sections.append(f"## {config}\n\n{content}")
    return "\n\n".join(sections)


def _failure(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return f"FAILED: {text.splitlines()[0]}"


def _bench(plan: Plan, config: str, words: list[str]) -> str:
    path = plan.scratch / "table.md"
    _minigpt("bench", *plan.settings(config), *words, f"--out={path}")
    _command, _blank, machine_line, *report = path.read_text(encoding="utf-8").splitlines()
    del machine_line  # it stands above already
    return "\n".join(report).strip()


def _recipe(plan: Plan, config: str) -> str:
    root = plan.scratch / "runs" / Path(config).stem
    limit = f"--trainer.max_time=00:{plan.minutes // 60:02}:{plan.minutes % 60:02}:00"
    began = time.perf_counter()
    _minigpt("fit", *plan.settings(config), f"--run.root={root}", "--run.name=run", limit)
    seconds = time.perf_counter() - began
    rows = ["| checkpoint | step | exact loss, nats per token | fit, start to end |", "|---|---|---|---|"]
    for which in ("last", "best"):
        said = json.loads(_minigpt("validate", str(root / "run"), "--prefer", which, "--json").splitlines()[-1])
        rows.append(f"| {which} | {said['step']:,} | {said['loss']:.4f} | {seconds:.0f} s |")
    return "\n".join(rows)


def _minigpt(*words: str) -> str:
    """What the command wrote to stdout; PartError with its last line if it failed."""
    done = subprocess.run([sys.executable, "-m", "minigpt", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PartError(f"minigpt {words[0]} ended with {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return done.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
