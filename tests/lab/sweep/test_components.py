"""Sweeps over components of the user's own beside built-in ones, and the verdicts between them."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.sweeps import states, write_sweep
from minigpt.cli.main import main
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.table import settings_table

IDEAS = """\
import torch
from torch import nn

from minigpt.model.positions import Position


class Spiral(Position):
    def __init__(self, config):
        super().__init__(config)
        self.angle = nn.Parameter(torch.zeros(config.n_embd))

    def reset_parameters(self):
        nn.init.zeros_(self.angle)

    def embed(self, x, start):
        places = torch.arange(x.shape[1], device=x.device) + start
        return x + torch.sin(places[:, None] * 0.1 + self.angle)


class Rhymes:
    def __call__(self, model, tokenizer):
        return {"share": model.position.angle.mean().item() if hasattr(model.position, "angle") else 0.0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the user's file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_ideas.py").write_text(IDEAS, encoding="utf-8")
    return tmp_path


def test_a_sweep_over_a_component_and_a_built_in_variant(
    folder: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained locally and as a SLURM task that starts elsewhere, then compared."""
    cells = [{}, {"model.position": "my_ideas.Spiral"}]
    overrides = {"run.evaluations": ["my_ideas.Rhymes"], "trainer.max_steps": 5}
    path = write_sweep(folder, corpus_file, seeds=[1, 2], cells=cells, overrides=overrides)
    assert main(["sweep", str(path), "--engine=slurm"]) == 0
    task = ["bash", str(folder / "runs" / "exp" / "slurm.sh")]
    done = subprocess.run(
        task, env={**os.environ, "SLURM_ARRAY_TASK_ID": "3"}, cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert states(path)["position=my_ideas.Spiral,seed=2"] == "finished"
    assert main(["sweep", str(path)]) == 0
    assert set(states(path).values()) == {"finished"}
    capsys.readouterr()

    (folder / "my_ideas.py").unlink()  # nothing of it is needed to compare
    assert main(["compare", "runs/exp"]) == 0
    out = capsys.readouterr().out
    comparison = compare(["runs/exp"])
    assert [group.name for group in comparison.groups] == ["base", "position=my_ideas.Spiral"]
    (verdict,) = comparison.verdicts
    assert verdict.difference is not None
    assert verdict.half_width is not None
    assert verdict.text in out
    assert "Rhymes/share" in out
    assert comparison.groups[1].estimates["parameters"].mean == comparison.groups[0].estimates["parameters"].mean - 240
    differing = settings_table(comparison)
    assert differing is not None
    assert "my_ideas.Spiral" in repr(differing)
