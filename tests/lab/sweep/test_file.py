"""SWEEP.yaml: the cells that it comes to, and each mistake in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.sweeps import write_sweep
from minigpt.cli.main import main
from minigpt.cli.sweep_cells import SweepCells
from minigpt.data.bpe import train_bpe
from minigpt.data.prepare import PrepareOptions, prepare
from minigpt.errors import ConfigError
from minigpt.lab.sweep.file import Sweep, parse_sweep, words_of
from minigpt.lab.sweep.search_space import Choices, Numbers


def read(folder: Path, **content: Any) -> Sweep:
    (folder / "base.yaml").touch()
    return parse_sweep({"base": "base.yaml", "seeds": [1], **content}, folder / "exp.yaml", changes={})


def names(sweep: Sweep) -> list[str]:
    return [cell.name for cell in sweep.cells]


def test_a_grid_is_all_combinations_by_all_seeds(tmp_path: Path) -> None:
    sweep = read(tmp_path, seeds=[1, 2], grid={"model.n_head": [1, 2], "optim.name": ["adamw", "muon"]})
    groups = [f"n_head={heads},optim={name}" for heads in (1, 2) for name in ("adamw", "muon")]
    assert names(sweep) == [f"{group},seed={seed}" for group in groups for seed in (1, 2)]
    assert sweep.cells[-1].overrides == {"model.n_head": 2, "optim.name": "muon"}
    assert sweep.name == "exp"


def test_cells_are_named_by_what_they_change(tmp_path: Path) -> None:
    cells = [
        {},
        {"model.activation": "swiglu", "model.n_ff": 344},
        {"data.corpus": "/some/where.txt"},
        {"optim.betas": [0.9, 0.95]},
        {"model.bias": False, "name": "bare"},
    ]
    assert [cell.group for cell in read(tmp_path, cells=cells).cells] == [
        "base", "activation=swiglu,n_ff=344", "corpus=some_where.txt", "betas=0.9_0.95", "bare",
    ]  # fmt: skip


def test_keys_that_end_alike_stay_whole(tmp_path: Path) -> None:
    cells = [{"data.vocab_size": 300}, {"model.vocab_size": 300}]
    assert names(read(tmp_path, cells=cells)) == ["data.vocab_size=300,seed=1", "model.vocab_size=300,seed=1"]


def test_words_are_what_fit_reads() -> None:
    from minigpt.cli.experiment import read_experiment

    values = {
        "optim.min_lr": 1e-05,
        "model.bias": False,
        "model.n_ff": None,
        "optim.betas": [0.8, 0.9],
        "run.name": "null",
    }
    settings = read_experiment(words_of(values)).settings()
    for key, value in values.items():
        group, name = key.split(".")
        found = settings[group][name]
        assert (list(found) if isinstance(found, tuple) else found) == value


def test_a_search_has_a_space(tmp_path: Path) -> None:
    space = {
        "optim.lr": {"low": "1e-4", "high": 1e-2, "log": True},
        "model.n_head": {"choices": [1, 2]},
        "model.n_embd": {"low": 32, "high": 128, "step": 32},
    }
    sweep = read(tmp_path, search={"space": space, "trials": 3})
    assert sweep.search is not None
    assert sweep.search.space == {
        "optim.lr": Numbers(low=1e-4, high=1e-2, log=True),
        "model.n_head": Choices(choices=(1, 2)),
        "model.n_embd": Numbers(low=32, high=128, step=32),
    }
    assert (sweep.search.metric, sweep.search.direction, sweep.cells) == ("val/loss", "minimize", ())


LR = {"optim.lr": {"low": 1e-4, "high": 1e-2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grids": {}}, "unknown key grids, did you mean grid?"),
        ({}, "has no cells: grid, cells or search must say"),
        ({"grid": {}}, "grid is empty"),
        ({"grid": {"model.n_head": []}}, r"grid: model.n_head=\[\] must be a list of values, at least one"),
        ({"cells": []}, r"cells=\[\] must be a list of overrides"),
        ({"cells": [{}, {}]}, "two cells have the name base"),
        ({"cells": [{"model.n_head": 1}], "grid": {"model.n_head": [1]}}, "two cells have the name n_head=1"),
        ({"cells": [{"name": "a", "optim.lr": 1}, {"name": "A", "optim.lr": 2}]}, "two cells have the name A: "),
        ({"cells": [{"name": "base", "optim.lr": 1}]}, "base is the cell that changes nothing"),
        ({"cells": [{"name": "a/b", "optim.lr": 1}]}, "must be a plain folder name"),
        ({"cells": [{"data.corpus": "x" * 200}]}, "too long for a folder"),
        ({"cells": [{"model": {"n_head": 1}}]}, "model is a group of settings: write model.n_head"),
        ({"cells": [{"run.root": "x"}]}, "run.root is not set by hand"),
        ({"overrides": {"run.name": "x"}, "cells": [{}]}, "run.name is not set by hand: it is the cell's name"),
        ({"cells": [{"seed_everything": 1}]}, "seed_everything is not set by hand: seeds sets it"),
        ({"seeds": [1, 1], "cells": [{}]}, "1 occurs twice"),
        ({"seeds": 3, "cells": [{}]}, "seeds=3 must be a list of whole numbers"),
        ({"name": "../x", "cells": [{}]}, "must be a plain folder name"),
        ({"base": "other.yaml", "cells": [{}]}, "there is no such file"),
        ({"base": 3, "cells": [{}]}, "base=3 must name the config"),
        ({"search": {"space": {}}}, "must be a mapping of settings"),
        ({"search": {"space": LR, "trial": 3}}, "search: unknown key trial, did you mean trials?"),
        ({"search": {"space": LR, "trials": 0}}, "search.trials=0 must be a whole number, at least 1"),
        ({"search": {"space": LR, "pruner": "medium"}}, "one of median, hyperband, none, did you mean median?"),
        ({"search": {"space": {"optim.lr": {"low": 1, "high": 0}}}}, "low=1, high=0 must be low < high"),
        ({"search": {"space": {"optim.lr": {"low": 0, "high": 1, "log": True}}}}, "must be 0 < low < high"),
        ({"search": {"space": {"optim.lr": {"low": "x", "high": 1}}}}, "low='x' must be a number"),
        ({"search": {"space": {"model.n_head": {"choices": []}}}}, "must be choices"),
        ({"search": {"space": {"optim.lr": {"low": 1.0, "high": 2, "step": 1}}}}, "step=1 is for whole numbers"),
        ({"search": {"space": {"model.n_head": {"low": 1, "high": 4, "step": 2}}}}, "step=2 must be .* divides .* = 3"),
        ({"search": {"space": {"model.n_head": {"low": 1, "high": 4, "step": True}}}}, "step=True must be a whole"),
        ({"search": {"space": LR}, "grid": {}}, "search makes its own cells"),
        ({"search": {"space": LR}, "seeds": [1, 2]}, "must be one seed"),
    ],
)
def test_a_mistake_is_one_line(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, **content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"cells": [{"model.positon": "rotary"}]}, "unknown key model.positon, did you mean model.position?"),
        ({"cells": [{}, {"model.position": "rotray"}]}, "cell position=rotray: model.position='rotray' must be one of"),
        ({"cells": [{"model.n_head": 3}]}, "cell n_head=3: model.n_embd=16 must be divisible by model.n_head=3"),
        ({"overrides": {"optim.lrr": 1}, "cells": [{}]}, "exp.yaml: unknown key optim.lrr, did you mean optim.lr?"),
        ({"cells": [{"trainer.max_steps": 0}]}, "cell max_steps=0: trainer.max_steps=0 must be at least 1"),
        ({"cells": [{"trainer.precision": "bf61"}]}, "trainer.precision=bf61 must be one of"),
        ({"seeds": [-1], "cells": [{}]}, "-1 must lie between 0 and 2^32 - 1"),
        (
            {"search": {"space": {"model.n_head": {"choices": [2, 3]}}}},
            "search.space: model.n_head=3: model.n_embd=16 must",
        ),
        (
            {"search": {"space": {"model.n_haed": {"choices": [2]}}}},
            "key model.n_haed, did you mean model.n_head?",
        ),
        (
            {"search": {"space": {"model.n_head": {"choices": [5]}, "model.n_embd": {"choices": [16, 32]}}}},
            "search.space: model.n_head=5: model.n_embd=16 must",
        ),
        ({"search": {"space": LR, "metric": "val/los"}}, "search.metric=val/los must be one of train/loss, "),
        ({"search": {"space": LR, "metric": "val/los"}}, ", did you mean val/loss?"),
        (
            {
                "search": {"space": LR, "metric": "val_loss"},
                "overrides": {"trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.RichModelSummary"}]},
            },
            ", did you mean val/loss?",
        ),
        ({"cells": [{}, {"model.n_head": 2}]}, "cells base and n_head=2 have the same settings: leave one out"),
        ({"grid": {"model.n_head": [1, 2]}, "cells": [{"name": "same", "model.n_head": 1}]}, "cells n_head=1 and same"),
    ],
)
def test_every_cell_is_checked_before_the_first_is_trained(
    content: dict[str, Any], message: str, *, tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, corpus_file, **content)
    assert main(["sweep", str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_two_cells_of_one_text_by_two_names_are_the_same(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_bytes(corpus_file.read_bytes())
    path = write_sweep(tmp_path, corpus_file, cells=[{}, {"name": "copy", "data.corpus": str(copy)}])
    assert main(["sweep", str(path)]) == 2
    assert "cells base and copy have the same settings: leave one out" in capsys.readouterr().err


def test_a_lossy_tokenizer_is_found_before_the_first_cell_is_trained(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = json.loads(train_bpe([corpus_file.read_text()], 300).to_json())
    fields["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": ""}
    (tmp_path / "lossy.json").write_text(json.dumps(fields))
    path = write_sweep(tmp_path, corpus_file, cells=[{}, {"data.tokenizer": str(tmp_path / "lossy.json")}])
    assert main(["sweep", str(path)]) == 1
    assert "does not give the text of" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_alone_may_be_right_with_another(tmp_path: Path, corpus_file: Path) -> None:
    """Three heads want a width of 48, which is in the search too; one callback may write a curve of its own."""
    space = {"model.n_embd": {"choices": [48, 64]}, "model.n_head": {"choices": [3, 4]}}
    callbacks = {"trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.RichModelSummary"}]}
    path = write_sweep(tmp_path, corpus_file, search={"space": space, "metric": "val/mine"}, overrides=callbacks)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    SweepCells(parse_sweep({"seeds": [1], **content}, path, changes={})).check()


NOWHERE = {"data.corpus": "nosuch.txt"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"overrides": NOWHERE, "cells": [{}]}, "exp.yaml: corpus nosuch.txt: no such file or folder, nor a named"),
        ({"cells": [{}, {"data.corpus": "pyton"}]}, "cell corpus=pyton: corpus pyton: no such file or folder, nor a"),
        ({"cells": [{}, {"data.tokenizer": "no/t.json"}]}, "cell tokenizer=no_t.json: no/t.json: no such tokenizer"),
        ({"search": {"space": {"data.corpus": {"choices": ["a.txt"]}}}}, "search.space: corpus a.txt: no such file"),
        ({"overrides": NOWHERE, "search": {"space": LR}}, "exp.yaml: corpus nosuch.txt: no such file"),
    ],
)
def test_a_text_that_is_not_there_is_told_before_the_first_is_trained(
    content: dict[str, Any], message: str, *, tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, corpus_file, **content)
    assert main(["sweep", str(path)]) == 1  # as of any data that is not there
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_prepared_text_in_other_tokens_is_told_before_the_first_is_trained(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(PrepareOptions(corpus=str(corpus_file), tokenizer="byte"), tmp_path / "out")
    path = write_sweep(tmp_path, tmp_path / "out", cells=[{}, {"data.val_fraction": 0.2}])
    assert main(["sweep", str(path)]) == 1
    assert "cell val_fraction=0.2: " in (said := capsys.readouterr().err)
    assert "prepared with val_fraction=0.1 (asked for: 0.2)" in said
    assert not (tmp_path / "runs").exists()


def test_a_grid_and_cells_add_up(tmp_path: Path) -> None:
    sweep = read(tmp_path, grid={"model.n_head": [1, 4]}, cells=[{}])
    assert [cell.group for cell in sweep.cells] == ["n_head=1", "n_head=4", "base"]


def test_what_is_in_no_run_need_not_be_there(tmp_path: Path, corpus_file: Path) -> None:
    """The base's own corpus, where each cell has another; and one that would be downloaded."""
    for content in (
        {"cells": [{"data.corpus": str(corpus_file)}, {"data.corpus": "shakespeare", "data.tokenizer": "bpe"}]},
        {"search": {"space": {"data.corpus": {"choices": ["python", str(corpus_file)]}}}},
    ):
        path = write_sweep(tmp_path, Path("nosuch.txt"), seeds=[1], **content)
        SweepCells(parse_sweep(yaml.safe_load(path.read_text(encoding="utf-8")), path, changes={})).check()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs=0"], "--jobs 0 must be at least 1"),
        (["--address=a:1"], "--address a:1 has no effect with --engine local: choose ray"),
        (["--engine=slrum"], "invalid choice: 'slrum'"),
        (["--set=x"], "--set x must be KEY=VALUE"),
        (["--set=optim.lrr=1"], "unknown key optim.lrr, did you mean optim.lr?"),
        (["--cell=0", "--engine=ray"], "--cell 0 runs here"),
        (["--gpus_per_cell=3"], "--gpus_per_cell 3 has no effect with trainer.accelerator=cpu: choose gpu"),
        (["--gpus_per_cell=1", "--cell=0"], "--gpus_per_cell 1 has no effect with --cell, which has all there is"),
        (["--jobs=2", "--cell=0"], "--jobs 2 has no effect with --cell"),
        (["--cpus_per_cell=4096"], "--cpus_per_cell 4096 must be at most the number of cores of this machine, "),
        (["--cpus_per_cell=4096", "--engine=ray"], "--cpus_per_cell 4096 must be at most"),
        (["--engine=slurm", "--name=a\\b"], "sbatch takes no backslash in the name of a log: give the sweep another"),
        (["--cell=7"], "has cells 0 to 0"),
        (["--engine=ray", "--address=nowhere"], "must be HOST:PORT"),
        (["--engine=ray", "--address=127.0.0.1:1"], "no Ray cluster"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], message: str, *, tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, corpus_file, cells=[{}])
    assert main(["sweep", str(path), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
