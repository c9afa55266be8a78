"""Every command and program of the README and the manual runs, page by page, top to bottom; so do the examples.

They run as they stand, in a folder with a finished `runs/base` and the examples. The config `base` is cheap there: a
small model, four steps, a small text. Lengths of thousands of steps are cut to six.
"""

import ast
import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pages import PAGES, ROOT, Block, blocks_of
from shell import Shell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has imported torch")

CHEAP = {
    "run": {"log_every": 1, "eval_every": 2, "eval_batches": 1, "save_every": 2, "sample_every": 0},
    "model": {"block_size": 16, "n_embd": 32},
    "optim": {"warmup_steps": 1},
    "data": {"tokenizer": "byte", "batch_size": 4},
    "trainer": {"max_steps": 4, "accelerator": "cpu", "devices": 1},
}
SETUP = """
from pathlib import Path
import minigpt.cli.main as main_module
import minigpt.system.shipped_configs as shipped
shipped.FOLDER = Path({configs!r})
main = main_module.main

def cut(words):
    words = list(words)
    for at, word in enumerate(words[:-1]):
        if word == "--trainer.max_steps" and len(words[at + 1]) > 3:
            words[at + 1] = "6"
    return main(words)

main_module.main = cut
"""


def runnable(page: Path) -> list[Block]:
    """The blocks that are run, and the files that they need; not those that show a file of examples/."""
    kept = [block for block in blocks_of(page) if block.title or block.language in {"bash", "python"}]
    kept = [block for block in kept if not block.text.startswith("--8<--")]
    if page.name == "README.md":
        kept = [block for block in kept if block.mark not in {"first command", "test command"}]
    return kept


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """The folder that each page begins with a copy of, but for its run."""
    place = tmp_path_factory.mktemp("manual")
    shutil.copytree(ROOT / "configs", place / "configs")
    base = yaml.safe_load((place / "configs" / "base.yaml").read_text(encoding="utf-8"))
    for group, changes in CHEAP.items():
        base[group].update(changes)
    del base["data"]["vocab_size"]
    base["data"]["corpus"] = str(corpus_file)
    (place / "configs" / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture(scope="session")
def shell(workplace: Path) -> Iterator[Shell]:
    """With a run `runs/base` in the workplace."""
    opened = Shell(SETUP.format(configs=str(workplace / "configs")))
    done = opened.run("minigpt fit --config base", workplace)
    assert done.returncode == 0, done.stderr
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_page(page: Path, shell: Shell, workplace: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(workplace, place)
    for number, block in enumerate(runnable(page)):
        if block.title:
            file = place / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            continue
        if block.why_not is not None:
            assert block.why_not, f"{block.place}: say why it is not run"
            continue
        script = block.text
        if block.language == "python":
            (place / f"program_{number}.py").write_text(block.text, encoding="utf-8")
            script = f"python program_{number}.py"
        done = shell.run(script, place)
        assert done.returncode == block.exit_code, f"{block.place}:\n{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{block.place}:\n{done.stderr}"


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CURVES = {"weight_norm": "weights/norm", "sums_right": "eval/SumsRight/share"}
"""The columns of metrics.csv that an example adds."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example(example: Path, shell: Shell, tmp_path: Path) -> None:
    """Its own command, from the folder of the examples; the run then resumes to the bit, samples and is scored."""
    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    text = example.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring is not None
    assert 15 <= len(text.splitlines()) <= 60
    before, command = docstring.split("\n\n", 1)
    assert before
    script = f"""
        {command.split("&&", 1)[1]}
        minigpt verify runs/base {"--build_classes" if "callbacks" in command else ""}
        minigpt generate runs/base --prompt 1 --max_new_tokens 4
        minigpt validate runs/base
    """
    done = shell.run(script, folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with (folder / "runs/base/metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert CURVES.get(example.stem, "val/loss") in rows[-1]
