"""Every shipped YAML: its first line is the command that runs it, it says nothing twice, and it fits two steps."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from minigpt.cli.keys import GROUPS, known_keys
from minigpt.cli.main import main
from minigpt.cli.parsing import check
from minigpt.metrics_csv import read_metrics
from minigpt.training.config import TRAINER_DEFAULTS

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
SMALL = {  # what makes a two-step run of a large config quick; its variants stay
    "gpt2": ["--model.n_layer=1", "--model.n_embd=48", "--model.block_size=32", "--data.batch_size=2",
             "--trainer.accumulate_grad_batches=1", "--trainer.precision=32-true", "--run.compile=false",
             "--data.tokenizer=byte"],
    "shakespeare": ["--model.n_layer=1", "--model.block_size=32", "--data.batch_size=4"],
}  # fmt: skip
SMALL["gpt2_fast"] = SMALL["gpt2"]
SMALL["shakespeare_fast"] = [*SMALL["shakespeare"], "--trainer.precision=32-true", "--run.compile=false"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_first_line_is_the_command(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# minigpt fit --config configs/{path.name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_is_valid(path: Path) -> None:
    check(["--config", str(path)])


def test_base_writes_every_default_once() -> None:
    """The defaults of the dataclasses and base.yaml are the same, value for value: nobody has to look twice."""
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text(encoding="utf-8"))
    assert list(base) == ["seed_everything", "run", "model", "optim", "data", "trainer"]
    for group, config in GROUPS.items():
        defaults = {field.name: field.default for field in fields(config) if f"{group}.{field.name}" in known_keys()}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
        assert base[group] == plain
    assert base["trainer"] == TRAINER_DEFAULTS


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "base"], ids=lambda path: path.stem)
def test_others_are_diffs(path: Path) -> None:
    """No value that base.yaml has already, except those that a number of the recipe is read by."""
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text(encoding="utf-8"))
    recipe = {
        "block_size",
        "n_layer",
        "n_head",
        "n_embd",
        "warmup_steps",
        "betas",
        "weight_decay",
        "max_steps",
        "batch_size",
    }
    for group, values in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        same = {key for key, value in values.items() if base[group].get(key) == value} - recipe
        assert not same, f"{path.name} repeats {group}: {same}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fits_two_steps(path: Path, tmp_path: Path, corpus_file: Path) -> None:
    arguments = ["fit", "--config", str(path), f"--run.root={tmp_path}", f"--data.corpus={corpus_file}"]
    if "vocab_size" not in path.read_text() and path.stem in {"base", "post_norm"}:
        arguments.append("--data.vocab_size=300")
    small = [*SMALL.get(path.stem, []), "--run.eval_batches=1", "--trainer.max_steps=2", "--trainer.accelerator=cpu"]
    small.append("--run.sample_prompt=line")
    assert main([*arguments, *small]) == 0
    name = yaml.safe_load(path.read_text(encoding="utf-8"))["run"]["name"]
    assert "val/loss" in read_metrics(tmp_path / name / "metrics.csv")[2]


def test_seed_is_to_the_letter() -> None:
    """The numbers that the first minigpt was written down with."""
    seed = yaml.safe_load((CONFIGS / "seed.yaml").read_text(encoding="utf-8"))
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text(encoding="utf-8"))
    merged = {group: {**values, **seed.get(group, {})} for group, values in base.items() if isinstance(values, dict)}
    assert merged["optim"]["lr"] == 5e-5
    assert merged["optim"]["schedule"] == "constant"
    assert merged["optim"]["weight_decay"] == 0.0
    model = merged["model"]
    assert [model[key] for key in ("n_layer", "n_head", "n_embd", "block_size", "dropout")] == [4, 8, 128, 64, 0.2]
    assert (model["position"], model["activation"]) == ("learned", "relu")
    assert merged["data"]["batch_size"] == 32
    run = merged["run"]
    assert [run[key] for key in ("eval_every", "eval_batches", "save_every")] == [100, 10, 100]
    assert merged["trainer"]["max_steps"] == 1000
