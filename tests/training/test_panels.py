"""Panels show what they say, change no bit of a run, and go on with it."""

import csv
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from minigpt.errors import ConfigError
from minigpt.runs.ownership import strangers
from minigpt.training.callbacks.curves import WALL_CLOCK
from minigpt.training.config import RunConfig
from minigpt.training.fit import fit
from minigpt.training.panels.names import PanelName, parse_panels
from minigpt.training.panels.table import PANELS

from .tiny import assert_same_state, checkpoint, curve, tiny_experiment

ALL = get_args(PanelName)


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0, "scalars": 0})
    events.Reload()
    return events


def rows(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without the curves that measure the machine."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in WALL_CLOCK} for row in csv.DictReader(file)]


def paneled(root: Path, corpus: Path, **changes: Any):
    settings: dict[str, Any] = {"run__panels": ALL, "run__panel_every": 3, "run__sample_prompt": "line"} | changes
    if "attention" in settings["run__panels"]:
        settings = {"run__panel_heads": ((0, 1),)} | settings
    return tiny_experiment(root, corpus, **settings)


class RandomStates(Callback):
    """The state of torch's generator after each batch."""

    def __init__(self) -> None:
        self.states: list[torch.Tensor] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.states.append(torch.get_rng_state())


def test_every_panel_has_its_class() -> None:
    assert set(PANELS) == set(ALL)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_all_panels_change_no_bit(tmp_path: Path, corpus_file: Path, optimizer: str) -> None:
    """Dropout, accumulation, clipping: weights, optimizer, curves and torch's random numbers at every step."""
    changes = {"trainer__accumulate_grad_batches": 2, "optim__name": optimizer, "run__panel_every": 1}
    with_panels, without = RandomStates(), RandomStates()
    assert fit(paneled(tmp_path / "with", corpus_file, trainer__callbacks=[with_panels], **changes)) == 0
    del changes["run__panel_every"]
    assert fit(tiny_experiment(tmp_path / "out", corpus_file, trainer__callbacks=[without], **changes)) == 0
    assert rows(tmp_path / "with" / "tiny") == rows(tmp_path / "out" / "tiny")
    for step in (4, 8, 12):
        assert_same_state(checkpoint(tmp_path / "with" / "tiny", step), checkpoint(tmp_path / "out" / "tiny", step))
    assert len(with_panels.states) == 24
    # The first batch of a run reads the generator before the panels could have touched it; the last one after.
    assert all(torch.equal(one, other) for one, other in zip(with_panels.states, without.states, strict=True))


def line(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The curve `tag` of a chart of several: in one of the folders that give it a colour, and in no other."""
    (found,) = [each for each in sorted(folder.glob("line*")) if tag in events_of(each).Tags()["scalars"]]
    return curve(found, tag)


def test_lines_of_a_chart_have_their_own_colours(tmp_path: Path, corpus_file: Path) -> None:
    """TensorBoard colours by run, so neighbours are in other folders; each stays in its own, whatever is due."""
    panels = ("ratios:3", "position:4", "calibration:6")
    assert fit(paneled(tmp_path, corpus_file, run__panels=panels, trainer__max_steps=4)) == 0
    assert fit(paneled(tmp_path, corpus_file, run__panels=panels), ckpt_path="last") == 0
    homes: dict[str, list[str]] = {}
    for folder in sorted((tmp_path / "tiny").glob("line*")):
        for tag in events_of(folder).Tags()["scalars"]:
            homes.setdefault(tag, []).append(folder.name)
    assert all(len(found) == 1 for found in homes.values())
    assert len({homes[tag][0] for tag in homes if tag.startswith("loss_by_position/")}) == 5
    assert len({homes[tag][0] for tag in homes if tag.startswith("update_to_weight/")}) == 6
    assert len({homes[tag][0] for tag in homes if tag.startswith("panel_ms/")}) == 4


def test_what_is_shown(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(paneled(tmp_path, corpus_file, run__panel_sentence="line 7: seven", run__panel_every=5)) == 0
    events = events_of(tmp_path / "tiny")
    tags = events.Tags()
    assert set(tags["images"]) == {
        "attention/all heads", "attention/layer 0 head 1", "loss_by_position/window", "loss_by_frequency/bins",
        "calibration/reliability",
    }  # fmt: skip
    assert [image.step for image in events.Images("attention/all heads")] == [5, 10, 12], "and at the last step"
    matrices = {"token_embedding", "position", *(f"blocks.0.{layer}" for layer in (
        "attention.qkv", "attention.output", "feedforward.up", "feedforward.down"))}  # fmt: skip
    histograms = set(tags["histograms"])
    assert {f"values of weights/{name}" for name in matrices} <= histograms
    assert {f"values of gradients/{name}" for name in matrices} <= histograms
    assert {f"values of activations/{name}" for name in ("stream.0", "stream.1", "heads.0", "logits")} <= histograms
    assert min(histograms) > "val/loss", "TensorBoard sorts by name: losses come first"
    for name in matrices:
        assert line(tmp_path / "tiny", f"gradient_to_weight/{name}")
        assert all(0 < ratio < 1 for _, ratio in line(tmp_path / "tiny", f"update_to_weight/{name}"))
    assert all(line(tmp_path / "tiny", f"panel_ms/{name}") for name in ALL)
    assert all(line(tmp_path / "tiny", f"loss_by_position/{place}") for place in ("01", "02", "04", "08", "16"))
    assert strangers(tmp_path / "tiny") == []
    texts = {f"samples/temperature {each}/text_summary" for each in ("0.5", "0.8", "1.1")}
    assert texts <= set(tags["tensors"])


def test_the_mean_over_positions_is_the_validation_loss(tmp_path: Path, corpus_file: Path) -> None:
    """Both read the same batches with the same weights."""
    from minigpt.training.panels.position import PositionPanel

    seen = {}

    class Spy(PositionPanel):
        def show(self, look: Any) -> None:
            seen[look.step] = float(look.predictions.losses.mean())

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PANELS, "position", Spy)
        assert fit(paneled(tmp_path, corpus_file, run__panels=("position:5",))) == 0
    validated = dict(curve(tmp_path / "tiny", "val/loss"))
    assert seen.keys() == validated.keys() == {5, 10, 12}
    assert seen == pytest.approx(validated, rel=1e-5)


def test_the_update_is_that_of_the_step(tmp_path: Path, corpus_file: Path) -> None:
    """Between two checkpoints one step apart lies the update that the panel shows."""
    experiment = paneled(tmp_path, corpus_file, run__panels=("ratios:4",), run__save_every=1, run__keep=0)
    assert fit(experiment) == 0
    folder = tmp_path / "tiny"
    before, after = (checkpoint(folder, step)["state_dict"] for step in (7, 8))
    name = "gpt.blocks.0.feedforward.up.weight"
    expected = float((after[name] - before[name]).norm() / before[name].norm())
    assert dict(line(folder, "update_to_weight/blocks.0.feedforward.up"))[8] == pytest.approx(expected, rel=1e-5)


def test_a_resumed_run_shows_what_the_straight_one_does(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(paneled(tmp_path / "straight", corpus_file)) == 0
    assert fit(paneled(tmp_path / "resumed", corpus_file, trainer__max_steps=8)) == 0
    assert fit(paneled(tmp_path / "resumed", corpus_file), ckpt_path="last") == 0
    one, other = (events_of(tmp_path / name / "tiny") for name in ("straight", "resumed"))
    last = [events.Images("attention/layer 0 head 1")[-1] for events in (one, other)]
    assert last[0].step == last[1].step == 12
    assert last[0].encoded_image_string == last[1].encoded_image_string
    reads = {"update_to_weight/token_embedding": line, "calibration/expected_error": curve, "loss_by_position/16": line}
    for tag, read in reads.items():
        points = [read(tmp_path / name / "tiny", tag) for name in ("straight", "resumed")]
        assert [step for step, _ in points[0]] == [3, 6, 9, 12]
        assert points[1] == sorted([*points[0], *(point for point in points[1] if point[0] == 8)])


def test_intervals_of_their_own(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(paneled(tmp_path, corpus_file, run__panels=("calibration:4", "position"), run__panel_every=6)) == 0
    folder = tmp_path / "tiny"
    assert [step for step, _ in line(folder, "panel_ms/calibration")] == [4, 8, 12]
    assert [step for step, _ in line(folder, "panel_ms/position")] == [6, 12]
    told = next(each for each in capsys.readouterr().out.splitlines() if each.startswith("panels"))
    assert "every 4 steps" in told
    assert "every 6 steps" in told


def test_off_nothing_of_them_is_imported(tmp_path: Path, corpus_file: Path) -> None:
    import subprocess

    code = (
        "import sys; from minigpt.cli.main import main;"
        f"code = main(['fit', '--run.root={tmp_path}', '--data.corpus={corpus_file}', '--data.tokenizer=byte',"
        "'--model.n_layer=1', '--run.sample_every=0', '--trainer.max_steps=1', '--trainer.accelerator=cpu']);"
        "assert code == 0; assert 'minigpt.training.panels.table' not in sys.modules;"
        "assert 'minigpt.interpret' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"panels": ("atention",)}, "run.panels='atention' must be one of attention, .*, did you mean attention?"),
        ({"panels": ("ratios:0",)}, "run.panels='ratios:0': the steps behind ratios must be a whole number, 1 or more"),
        ({"panels": ("ratios:",)}, "run.panels='ratios:': the steps"),
        ({"panels": ("ratios", "ratios:5")}, "run.panels names ratios twice"),
        ({"panel_every": 0}, "run.panel_every=0 must be at least 1"),
        ({"panel_heads": ((0, -1),)}, r"run.panel_heads=\[\[0, -1\]\] must count from 0"),
        ({"panel_heads": ((0, 1),)}, r"run.panel_heads=\[\[0, 1\]\] has no effect without attention in run.panels"),
        (
            {"panels": ("attention:5",), "panel_heads": ((0, 1), (2, 0), (0, 1))},
            r"run.panel_heads=\[\[0, 1\], \[2, 0\], \[0, 1\]\] names the head \[0, 1\] twice",
        ),
        ({"panel_sentence": ""}, "run.panel_sentence='' must hold a text"),
        ({"panel_temperatures": (0.5, 0.0)}, r"run.panel_temperatures=\[0.5, 0.0\] must be finite and above 0"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run__panel_heads": ((1, 0),)}, r"run.panel_heads=\[1, 0\] .*: the model has 1 layers of 2 heads"),
        (
            {"run__panel_sentence": "é", "data__tokenizer": "char"},
            "run.panel_sentence='é': .*; the panels need another",
        ),
        ({"run__sample_prompt": "é", "data__tokenizer": "char"}, "run.sample_prompt='é': .*; the panels need another"),
    ],
)
def test_what_the_run_cannot_do_leaves_no_folder(
    tmp_path: Path, corpus_file: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(paneled(tmp_path, corpus_file, **changes))
    assert not (tmp_path / "tiny").exists()


def test_names_are_parsed() -> None:
    assert parse_panels(["attention", "ratios:7"], 100) == {"attention": 100, "ratios": 7}


@pytest.mark.parametrize("n_layer", [0, 2])
def test_odd_models(tmp_path: Path, corpus_file: Path, n_layer: int) -> None:
    """Without layers, and with post-norm and shared keys; a window longer than the sentence."""
    model = {"block_size": 12, "n_layer": n_layer, "n_head": 4, "n_kv_head": 2, "n_embd": 16, "position": "alibi"}
    model |= {"norm_placement": "post"}
    changes = {f"model__{name}": value for name, value in model.items()}
    experiment = paneled(tmp_path, corpus_file, run__panel_heads=(), run__panel_every=12, **changes)
    assert fit(experiment) == 0
