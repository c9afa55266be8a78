"""Every shipped YAML: its first line is the command that runs it, it says nothing twice, and it fits two steps; every
cell of a shipped sweep is one that a run can be made of."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from minigpt.cli.experiment import read_experiment
from minigpt.cli.keys import GROUPS, known_keys
from minigpt.cli.main import main
from minigpt.cli.settings import base_yaml, settings, settings_page
from minigpt.cli.sweep_cells import SweepCells
from minigpt.lab.sweep.file import parse_sweep
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.config import TRAINER_DEFAULTS

CONFIGS = Path(__file__).parent.parent / "configs"
EVERY = sorted(CONFIGS.rglob("*.yaml"))
SWEEPS = [path for path in EVERY if "base" in yaml.safe_load(path.read_text(encoding="utf-8"))]
FILES = [path for path in EVERY if path not in SWEEPS]
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
    assert first.startswith(f"# minigpt fit --config {path.stem}")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_can_be_run(path: Path) -> None:
    """Those of `minigpt scaling` are sweeps as well."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# minigpt s")
    assert first.split()[3] == path.stem
    SweepCells(parse_sweep(content, path, changes={})).check()


def test_ablation_changes_one_thing_at_a_time() -> None:
    """The components of issue 5, each against the same base, three seeds."""
    path = CONFIGS / "sweeps" / "ablation.yaml"
    sweep = parse_sweep(yaml.safe_load(path.read_text(encoding="utf-8")), path, changes={})
    assert len(sweep.seeds) == 3
    groups = {cell.group: cell.overrides for cell in sweep.cells}
    assert groups.pop("base") == {}
    assert all(len(overrides) == 1 for overrides in groups.values())
    base = SweepCells(sweep).base.settings()["model"]
    tried = {key: {base[key]} for key in ("position", "norm_placement", "activation", "n_head", "tie_embeddings")}
    for overrides in groups.values():
        for key, value in overrides.items():
            tried.setdefault(key.removeprefix("model."), {base[key.removeprefix("model.")]}).add(value)
    assert tried["position"] == {"learned", "sinusoidal", "rotary", "alibi", "none"}
    assert tried["norm_placement"] == {"pre", "post"}
    assert {"relu", "gelu", "relu2", "swiglu"} <= tried["activation"]
    assert {1, 2, 4, 8} <= tried["n_head"]
    assert tried["tie_embeddings"] == {True, False}
    assert len(tried["dropout"]) > 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_is_valid(path: Path) -> None:
    read_experiment(["--config", str(path)])


def test_base_writes_every_default_once() -> None:
    """The defaults of the dataclasses and base.yaml are the same, value for value: nobody has to look twice."""
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text(encoding="utf-8"))
    assert list(base) == ["seed_everything", "run", "model", "optim", "data", "trainer"]
    for group, config in GROUPS.items():
        defaults = {
            field.name: field.default if field.default_factory is MISSING else field.default_factory()
            for field in fields(config)
            if f"{group}.{field.name}" in known_keys()
        }
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


def test_base_and_the_page_of_settings_are_generated_from_the_dataclasses() -> None:
    """`python -m minigpt.cli.settings` writes both."""
    base = (CONFIGS / "base.yaml").read_text(encoding="utf-8")
    assert base == base_yaml(base.partition("\n\n")[0])
    assert (CONFIGS.parent / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()


def test_every_setting_has_a_meaning() -> None:
    for setting in settings():
        assert setting.help.endswith("."), setting
        assert len(setting.help) > 15
    shown = {f"{setting.group}.{setting.name}".removeprefix(".") for setting in settings()}
    assert shown == {key for key in known_keys() if not key.startswith("trainer.")} | {
        f"trainer.{name}" for name in TRAINER_DEFAULTS
    }
