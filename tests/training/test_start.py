"""What a run begins from: weights of elsewhere, a run without a checkpoint yet, damaged ones, a changed config."""

import json
from pathlib import Path

import pytest
import torch

from minigpt.cli.main import main
from minigpt.errors import CheckpointError, ConfigError
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.paths import step_paths
from minigpt.training.fit import fit

from .tiny import assert_same_state, checkpoint, curve, tiny_experiment


@pytest.fixture
def bare(tmp_path: Path, corpus_file: Path) -> Path:
    """A checkpoint of weights alone, as an import writes it: no optimizer, no position, no data."""
    assert fit(tiny_experiment(tmp_path / "other", corpus_file, trainer__max_steps=4)) == 0
    content = checkpoint(tmp_path / "other" / "tiny", 4)
    content["minigpt"] |= {"data": {}, "data_fingerprint": "", "yaml": ""}
    torch.save({key: content[key] for key in ("minigpt", "state_dict")}, tmp_path / "bare.ckpt")
    return tmp_path / "bare.ckpt"


@pytest.mark.parametrize("way", ["ckpt_path", "init_from"])
def test_weights_alone_begin_a_new_run(
    tmp_path: Path, corpus_file: Path, bare: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"run__init_from": str(bare)} if way == "init_from" else {}
    # Any tokenizer may stand in the config: the weights mean something with their own only.
    experiment = tiny_experiment(
        tmp_path, corpus_file, optim__lr=1e-12, optim__weight_decay=0.0, data__tokenizer="char", **settings
    )
    assert fit(experiment, ckpt_path=str(bare) if way == "ckpt_path" else None) == 0
    said = capsys.readouterr().out
    assert "the tokenizer is the checkpoint's: byte, 257 tokens" in said
    assert f"from     {bare} (its weights alone)" in said
    before, after = read_checkpoint(bare), read_checkpoint(tmp_path / "tiny" / "checkpoints" / "step=00000004.ckpt")
    assert after.tokenizer.kind == "byte"
    for name, weight in before.weights.items():
        torch.testing.assert_close(after.weights[name], weight, rtol=0, atol=1e-9)
    rows = read_metrics(tmp_path / "tiny" / "metrics.csv")
    assert [step for step, row in rows.items() if "val/loss" in row] == [5, 10, 12]
    provenance = json.loads((tmp_path / "tiny" / "provenance.json").read_text())["sessions"][0]
    assert (provenance["parent"], provenance["weights_only"], provenance["from_step"]) == (str(bare), True, 0)


def test_run_that_began_from_weights_goes_on_like_any_other(tmp_path: Path, corpus_file: Path, bare: Path) -> None:
    for root, parts in {"straight": [12], "parts": [4, 12]}.items():
        for number, steps in enumerate(parts):
            experiment = tiny_experiment(
                tmp_path / root, corpus_file, run__init_from=str(bare), data__tokenizer="char", trainer__max_steps=steps
            )
            assert fit(experiment, ckpt_path="last" if number else None) == 0
    straight, parts = (checkpoint(tmp_path / root / "tiny", 12) for root in ("straight", "parts"))
    assert_same_state(straight, parts)


def test_two_places_to_begin_from_are_refused(tmp_path: Path, corpus_file: Path, bare: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.init_from=.* and --ckpt_path .* both say where to begin"):
        fit(tiny_experiment(tmp_path, corpus_file, run__init_from=str(bare)), ckpt_path=str(bare))


def test_weights_of_another_shape_are_refused_with_the_options_that_fit(
    tmp_path: Path, corpus_file: Path, bare: Path
) -> None:
    experiment = tiny_experiment(tmp_path, corpus_file, run__init_from=str(bare), model__n_layer=2, model__bias=False)
    with pytest.raises(ConfigError) as caught:
        fit(experiment)
    message = str(caught.value)
    assert "model.n_layer=2 differs from 1, model.bias=false differs from true in the checkpoint" in message
    assert message.endswith("its own: --model.n_layer 1 --model.bias true")
    assert not (tmp_path / "tiny").exists()


def test_last_of_a_run_without_a_checkpoint_begins_it_anew(tmp_path: Path, corpus_file: Path) -> None:
    """As after a kill before the first save: its curves already have points."""
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file)) == 0
    assert fit(tiny_experiment(tmp_path / "killed", corpus_file, trainer__max_steps=6, run__save_every=3)) == 0
    for path in (tmp_path / "killed" / "tiny" / "checkpoints").iterdir():
        path.unlink()
    assert fit(tiny_experiment(tmp_path / "killed", corpus_file), ckpt_path="last") == 0
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["tiny"]
    straight, again = (tmp_path / name / "tiny" for name in ("straight", "killed"))
    assert_same_state(checkpoint(straight, 12), checkpoint(again, 12))
    assert curve(straight, "train/loss") == curve(again, "train/loss")


def test_damaged_newest_is_reported_and_the_one_before_is_taken(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file)) == 0
    straight = checkpoint(tmp_path / "tiny", 12)
    *_, before, newest = step_paths(tmp_path / "tiny" / "checkpoints")
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    newest.write_bytes(damaged)
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last") == 0
    said = capsys.readouterr().out
    assert f"passed over: {newest} is damaged" in said
    assert f"from     {before} (step 8)" in said
    assert_same_state(straight, checkpoint(tmp_path / "tiny", 12))
    for path in (tmp_path / "tiny" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"has no checkpoint that is whole; the newest: .*12.ckpt is truncated"):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=20), ckpt_path="last")


def test_what_changed_is_shown_and_recorded(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["model.block_size=16", "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "data.tokenizer=byte"]
    small += [f"data.corpus={corpus_file}", "data.batch_size=4", "trainer.max_steps=4", "run.sample_every=0"]
    small += [f"run.root={tmp_path}", "run.name=r", "trainer.accelerator=cpu", "optim.warmup_steps=1"]
    words = ["fit", *(f"--{word}" for word in small)]
    assert main(words) == 0
    changed = ["--ckpt_path", "last", "--trainer.max_steps", "8", "--optim.lr", "1e-4", "--optim.min_lr", "1e-5"]
    changed += ["--data.batch_size", "8", "--trainer.accumulate_grad_batches", "2"]
    capsys.readouterr()
    assert main([*words, *changed]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("changed")]
    assert sorted(said) == [
        "changed  data.batch_size: 4 -> 8",
        "changed  optim.lr: 0.003 -> 0.0001",
        "changed  optim.min_lr: 0.0003 -> 1e-05",
        "changed  trainer.accumulate_grad_batches: 1 -> 2",
        "changed  trainer.max_steps: 4 -> 8",
    ]
    first, second = json.loads((tmp_path / "r" / "provenance.json").read_text())["sessions"]
    assert first["changes"] == {}
    assert second["changes"]["optim.lr"] == [0.003, 0.0001]
    content = torch.load(tmp_path / "r" / "checkpoints" / "step=00000008.ckpt", weights_only=True)
    # 4 batches of 4 windows, then 4 steps of 2 batches of 8
    assert content["TokenDataModule"] == {"batches": 12, "windows": 4 * 4 + 8 * 8}
    # The rate of the last step is near what the user asked for now, not near what the checkpoint had.
    assert read_metrics(tmp_path / "r" / "metrics.csv")[8]["train/learning_rate"] < 1e-4


def test_damaged_newest_does_not_push_out_the_good_ones(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file)) == 0
    newest = tmp_path / "tiny" / "checkpoints" / "step=00000012.ckpt"
    newest.write_bytes(newest.read_bytes()[:-50])
    again = tiny_experiment(tmp_path, corpus_file, trainer__max_steps=11, run__keep=1, run__save_every=1)
    assert fit(again, ckpt_path="last") == 0
    assert read_checkpoint(tmp_path / "tiny" / "checkpoints" / "step=00000011.ckpt").step == 11
