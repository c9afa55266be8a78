"""Every notebook runs from its .py on a clean clone and on a reader's own run, and its .ipynb is made from it."""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

mpl = pytest.importorskip("matplotlib")
pytest.importorskip("jupytext")
pytest.importorskip("nbclient")

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9]_*.py"))
SWEEPS = {"6": "small_ablation", "7": "small_scaling"}
TINY_SWEEP = """
base: configs/sweeps/ablation_base.yaml
name: tiny
seeds: [1]
overrides: {trainer.max_steps: 40, optim.warmup_steps: 8, run.eval_every: 20, run.eval_batches: 1, model.n_embd: 8}
cells:
  - {}
  - {name: longer, trainer.max_steps: 80, optim.warmup_steps: 4}
"""


@pytest.fixture(scope="module")
def build() -> dict[str, Any]:
    """What notebooks/build.py defines."""
    return runpy.run_path(str(NOTEBOOKS / "build.py"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without runs that takes the repository's place; what a notebook sets in this process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(NOTEBOOKS)
    monkeypatch.setenv("MINIGPT_NOTEBOOK_STEPS", "10")
    import matplotlib.pyplot as plt
    import small_run

    monkeypatch.setattr(small_run, "REPOSITORY", tmp_path)
    backend = mpl.get_backend()
    with mpl.rc_context(), torch.enable_grad(), torch.random.fork_rng():
        plt.switch_backend("Agg")
        yield tmp_path
        plt.close("all")
    plt.switch_backend(backend)


def test_there_are_eight() -> None:
    assert [path.stem[0] for path in SOURCES] == list("12345678")


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_runs(path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 and 4 begin from `runs/base`, which is there; the others on a clean clone, 6 and 7 with a sweep."""
    import matplotlib.pyplot as plt
    from small_run import small_run

    if path.stem[0] in "24":
        (place / "runs").mkdir()
        shutil.copytree(small_run(), place / "runs" / "base")
    names = runpy.run_path(str(path), run_name="__main__")
    begun = names["sweep"] if path.stem[0] in SWEEPS else names["run"]
    assert begun.name == SWEEPS.get(path.stem[0], "base" if path.stem[0] in "24" else "small")
    assert len(plt.get_fignums()) >= 4, "its pictures"
    assert str(place) not in capsys.readouterr().out


def test_own_run_needs_a_checkpoint(place: Path) -> None:
    from small_run import find_run

    (place / "runs" / "base" / "checkpoints").mkdir(parents=True)
    assert find_run("runs/base") is None
    (place / "runs" / "base" / "checkpoints" / "best.ckpt").touch()
    assert find_run("runs/base") == Path("runs/base")
    assert find_run("runs/other") is None


def test_a_failed_run_says_why(place: Path) -> None:
    from small_run import small_run

    with pytest.raises(RuntimeError, match=r"ended with 2: minigpt: error: .*model\.n_head"):
        small_run("broken", "--model.n_heads=4")


def test_small_sweep_is_found_and_short(place: Path) -> None:
    """MINIGPT_NOTEBOOK_STEPS is 10 here: for the shortest cell, the others in proportion."""
    from small_sweep import find_sweep, small_sweep

    from minigpt.runs.records import read_run

    sweep = small_sweep(TINY_SWEEP)
    records = [read_run(sweep / f"{name},seed=1") for name in ("base", "longer")]
    assert [(record.max_steps, record.config["optim"]["warmup_steps"]) for record in records] == [(10, 2), (20, 1)]
    assert [record.config["run"]["eval_every"] for record in records] == [5, 5]
    assert [record.state for record in records] == ["finished", "finished"]

    assert find_sweep("runs/tiny") is None
    (place / "runs").mkdir()
    shutil.copytree(sweep, place / "runs" / "tiny")
    assert find_sweep("runs/tiny") == Path("runs/tiny")
    record = place / "runs" / "tiny" / "sweep.json"
    record.write_text(record.read_text(encoding="utf-8").replace("finished", "waiting"), encoding="utf-8")
    assert find_sweep("runs/tiny") is None, "nothing of it is done"


def test_a_failed_sweep_says_why(place: Path) -> None:
    from small_sweep import small_sweep

    with pytest.raises(RuntimeError, match=r"minigpt sweep ended with 2: minigpt: error: .*model\.n_heads"):
        small_sweep(TINY_SWEEP.replace("model.n_embd", "model.n_heads"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_ipynb_is_made_from_py(path: Path, build: dict[str, Any]) -> None:
    assert build["differences"](path) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_ipynb_is_small_and_of_no_machine(path: Path, build: dict[str, Any]) -> None:
    target = path.with_suffix(".ipynb")
    assert target.stat().st_size <= build["MOST_BYTES"]
    assert build["faults"](build["read_executed"](target), path.stem) == []
    text = re.sub(r'"image/png": "[^"]*"', "", target.read_text(encoding="utf-8"))
    for prefix in ("/home/", "/Users/", "/opt/", "/root/", "site-packages", "C:\\\\Users"):
        assert prefix not in text
    notebook = json.loads(target.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"]), "no times of execution"


def test_build_notices_another_source(tmp_path: Path, build: dict[str, Any]) -> None:
    source = Path(shutil.copy(SOURCES[1], tmp_path))
    assert "is missing" in build["differences"](source)[0]
    shutil.copy(SOURCES[1].with_suffix(".ipynb"), tmp_path)
    assert build["differences"](source) == []
    source.write_text(source.read_text(encoding="utf-8") + "\n# %%\nprint(1)\n", encoding="utf-8")
    assert "is not" in build["differences"](source)[0]


def test_build_notices_what_was_not_executed(tmp_path: Path, build: dict[str, Any]) -> None:
    source = Path(shutil.copy(SOURCES[1], tmp_path))
    notebook = json.loads(SOURCES[1].with_suffix(".ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(execution_count=None, outputs=[])
    source.with_suffix(".ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    assert "was not executed" in build["differences"](source)[0]


def test_build_notices_paths_and_errors(build: dict[str, Any]) -> None:
    import jupytext
    from nbformat.v4 import new_output as output

    notebook = jupytext.reads("# %%\n1\n# %%\n2\n", fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.execution_count = 1
    notebook.cells[0].outputs = [output("stream", name="stdout", text=f"in {sys.prefix}\n")]
    notebook.cells[1].outputs = [output("stream", name="stderr", text="a warning\n")]
    assert [fault.split(" shows ")[0] for fault in build["faults"](notebook, "x")] == [
        "x: cell-0",
        "x: cell-1 writes to stderr",
    ]
