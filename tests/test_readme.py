"""The README's commands are real: they parse, its files exist, and CI runs the very command that it shows."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from minigpt.cli import bench, plan
from minigpt.cli.experiment import read_experiment
from minigpt.cli.main import COMMANDS, module_name
from minigpt.cli.options import OptionParser
from minigpt.cli.sweep_cells import SweepCells
from minigpt.lab.sweep.file import parse_sweep

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```[^\n]*\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMAND_LINES = [part.strip() for line in LINES for part in line.split("&&") if part.strip().startswith("minigpt ")]


def marked(name: str) -> str:
    """The command between the two marks."""
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)\n```\n<!-- end -->", README, flags=re.DOTALL)
    assert found, f"README.md lost its {name}"
    return found[1]


def test_the_two_commands() -> None:
    assert marked("first command") == "pip install -e . && minigpt fit --config configs/base.yaml"
    assert marked("test command") == 'pip install -e ".[dev]" && pytest'


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- test command -->" in script
    assert "pytest" not in script  # it is read from the README, not written a second time


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.findall(r"^[A-Z]{4,}$", README, flags=re.MULTILINE)


def test_there_are_commands_of_every_kind() -> None:
    assert {line.split()[1] for line in COMMAND_LINES} == set(COMMANDS)


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.startswith("minigpt fit")])
def test_fit_commands_are_valid(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)[2:]
    if words[0] == "--resume":  # a run that is not there: its config stands for it
        words[:2] = ["--config", "configs/base.yaml"]
    read_experiment(words)


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.startswith("minigpt bench")])
def test_bench_commands_are_valid(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    bench.read(shlex.split(line)[2:])


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.startswith("minigpt plan")])
def test_plan_commands_are_valid(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, words = plan.read(shlex.split(line)[2:])
    read_experiment(words)


OWN_PARSER = ("minigpt fit", "minigpt bench", "minigpt plan")


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if not line.startswith(OWN_PARSER)])
def test_other_commands_are_valid(line: str) -> None:
    import importlib

    name, *words = shlex.split(line.partition(" > ")[0])[1:]
    OptionParser(name, None, importlib.import_module(module_name(name)).Options).parse_options(words)


SWEEPS = [block for block in re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL) if "base:" in block]


@pytest.mark.parametrize("block", SWEEPS)
def test_sweeps_can_be_run(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it stood beside the shipped ones."""
    monkeypatch.chdir(ROOT)
    content = {"seeds": [1], **yaml.safe_load(block)}
    SweepCells(parse_sweep(content, Path("configs/sweeps/readme.yaml"), changes={})).check()


def test_there_is_a_search() -> None:
    assert any("search:" in block for block in SWEEPS)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 20
    for target in targets:
        assert (ROOT / target).exists(), target


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers import random_gpt, tiny_config, tiny_tokenizer, write_checkpoint

    folder = tmp_path / "runs" / "base" / "checkpoints"
    folder.mkdir(parents=True)
    tokenizer = tiny_tokenizer("byte")
    write_checkpoint(folder / "best.ckpt", random_gpt(tiny_config(tokenizer.vocab_size)), tokenizer)
    monkeypatch.chdir(tmp_path)
    inside, whole = (block for block in BLOCKS if block.startswith("import torch\n"))
    scope: dict[str, object] = {}
    exec(whole, scope)
    assert scope["logits"].shape[-1] == tokenizer.vocab_size  # type: ignore[attr-defined]
    exec(inside, scope)
    assert scope["without"].logits.shape == scope["trace"].logits.shape  # type: ignore[attr-defined]
