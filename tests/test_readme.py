"""The README and the manual are true: files and commands exist, and CI runs the very command that the README shows.

`test_docs.py` runs what can be run; the commands that cannot are checked here.
"""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml
from pages import PAGES, ROOT, blocks_of, commands_of

from minigpt.cli import bench, plan
from minigpt.cli.experiment import read_experiment
from minigpt.cli.main import COMMANDS, module_name
from minigpt.cli.options import OptionParser
from minigpt.cli.sweep_cells import SweepCells
from minigpt.lab.sweep.file import parse_sweep

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMAND_LINES = [line for block in BLOCKS if block.language != "text" for line in commands_of(block)]
NOT_RUN = [line for block in BLOCKS if block.why_not is not None for line in commands_of(block)]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert not re.findall(r"^[A-Z]{4,}$|\bTODO\b|To be written", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_readme_is_short() -> None:
    assert len(README.split()) < 1000, "what is more belongs into docs/"


def test_there_are_commands_of_every_kind() -> None:
    assert {line.split()[1] for line in COMMAND_LINES} == set(COMMANDS)


@pytest.mark.parametrize("line", NOT_RUN)
def test_commands_that_are_not_run_are_valid(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They parse; one that names a file of the reader's own is checked without it."""
    monkeypatch.chdir(ROOT)
    name, *words = shlex.split(re.sub(r"\$\{.*?\}", "", line))[1:]
    if name == "fit":
        read_experiment([word for word in words if not word.startswith("my_ideas")])
    elif name == "bench":
        bench.read(words)
    elif name == "plan":
        read_experiment(plan.read(words)[1])
    else:
        OptionParser(name, None, importlib.import_module(module_name(name)).Options).parse_options(words)


SWEEPS = [block for block in BLOCKS if block.language == "yaml" and "base:" in block.text]


@pytest.mark.parametrize("block", SWEEPS, ids=lambda block: block.place)
def test_sweeps_can_be_run(block, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it stood beside the shipped ones."""
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load(block.text)
    SweepCells(parse_sweep(content, Path("configs/sweeps/manual.yaml"), changes={})).check()


def test_there_is_a_search() -> None:
    assert any("search:" in block.text for block in SWEEPS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """`mkdocs build --strict` checks those within the manual; here are those that GitHub follows."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    assert page.name != "README.md" or len(targets) > 20
    for target in targets:
        if not re.match(r"https?:", target):
            assert (page.parent / target).exists(), target
