"""Evaluations and modules of the user's own in a run, and the copies that the run keeps of their files."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from minigpt.data.tokenizers import ByteTokenizer
from minigpt.errors import ConfigError, MinigptError, TrainingError
from minigpt.model.gpt import GPT
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.ownership import strangers
from minigpt.system.randomness import separate_random_state
from minigpt.training.callbacks.evaluations import build_evaluations, evaluate
from minigpt.training.components import import_components
from minigpt.training.fit import fit

from .tiny import assert_same_state, checkpoint, curve, tiny_experiment

IDEAS = """
import random

import numpy as np
import torch

from minigpt.training.module import GPTModule


class Rhymes:
    def __init__(self):
        self.calls = 0

    def __call__(self, model, tokenizer):
        self.calls += 1
        assert not model.training and not torch.is_grad_enabled()
        model(torch.tensor([tokenizer.encode("a rose")]))
        return {
            "python": random.random(), "numpy": np.random.rand(1)[0], "torch": torch.rand(()), "calls": self.calls,
        }


def length(model, tokenizer):
    return {"context": model.config.block_size}


class Smoothed(GPTModule):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("mean", torch.zeros(()))

    def loss(self, batch):
        loss = super().loss(batch)
        self.mean.mul_(0.9).add_(loss.detach(), alpha=0.1)
        return loss + 0.1 * (loss - self.mean) ** 2
"""


@pytest.fixture
def ideas(own_folder: Path) -> Path:
    """The file my_ideas.py in the working folder."""
    path = own_folder / "my_ideas.py"
    path.write_text(IDEAS)
    return path


def column(folder: Path, name: str) -> dict[int, float]:
    rows = read_metrics(folder / "metrics.csv")
    return {step: row[name] for step, row in rows.items() if name in row}


def test_evaluations_become_curves_and_change_no_bit(
    ideas: Path, tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny_experiment(tmp_path / "plain", corpus_file)
    measured = tiny_experiment(
        tmp_path / "measured", corpus_file, run__evaluations=("my_ideas.Rhymes", "my_ideas.length", "repetition")
    )
    assert fit(plain) == 0
    capsys.readouterr()
    assert fit(measured) == 0
    ends = [checkpoint(tmp_path / name / "tiny", 12) for name in ("plain", "measured")]
    assert_same_state(*ends)
    folder = tmp_path / "measured" / "tiny"
    assert column(folder, "eval/Rhymes/calls") == {5: 1, 10: 2, 12: 3}  # with each validation
    assert column(folder, "eval/length/context") == {5: 16, 10: 16, 12: 16}
    for name in ("python", "numpy", "torch"):
        assert len(set(column(folder, f"eval/Rhymes/{name}").values())) == 1  # from the same seed each time
    repeated = column(folder, "eval/repetition/4-grams")
    assert all(0 <= share < 1 for share in repeated.values())
    assert [step for step, _ in curve(folder, "eval/Rhymes/calls")] == [5, 10, 12]
    assert "eval     Rhymes/python " in capsys.readouterr().out


def test_evaluations_have_a_cadence_of_their_own(ideas: Path, tmp_path: Path, corpus_file: Path) -> None:
    callback = EarlyStopping(monitor="eval/Rhymes/calls", patience=1)
    fit(
        tiny_experiment(
            tmp_path,
            corpus_file,
            run__evaluations=("my_ideas.Rhymes",),
            run__evaluate_every=2,
            trainer__callbacks=[callback],
        )
    )
    # The validation of step 10 is the first to find that it has not got lower; an early end evaluates once more.
    assert column(tmp_path / "tiny", "eval/Rhymes/calls") == {2: 1, 4: 2, 6: 3, 8: 4, 10: 5}


def test_an_evaluation_that_fails_loses_nothing(ideas: Path, tmp_path: Path, corpus_file: Path) -> None:
    with ideas.open("a") as file:
        file.write("\n\ndef fails(model, tokenizer):\n    return {'share': 1 / 0}\n")
    with pytest.raises(TrainingError, match=r"^the evaluation fails: .*my_ideas.py, line 39: return .* ZeroDivision"):
        fit(tiny_experiment(tmp_path, corpus_file, run__evaluations=("my_ideas.fails",)))
    assert read_checkpoint(tmp_path / "tiny" / "checkpoints" / "step=00000005.ckpt").step == 5


@pytest.mark.parametrize(
    "found",
    [3, None, ["a"], {"a": "1"}, {"a": True}, {1: 1.0}, {"a": torch.zeros(2)}, {"a": np.zeros(1)}],
    ids=repr,
)
def test_what_is_no_mapping_to_numbers_is_refused(found: Any) -> None:
    with pytest.raises(TrainingError, match=r"^the evaluation mine must give a mapping of names to numbers, not "):
        evaluate("mine", lambda *_: found, GPT, ByteTokenizer())  # type: ignore[arg-type]


def test_numbers_of_every_kind_are_taken() -> None:
    found = {"int": 1, "float": 0.5, "numpy": np.float32(0.25), "tensor": torch.tensor([2.0]), "nan": float("nan")}
    numbers = evaluate("mine", lambda *_: found, GPT, ByteTokenizer())  # type: ignore[arg-type]
    assert {name: value for name, value in numbers.items() if name != "eval/mine/nan"} == {
        "eval/mine/int": 1.0, "eval/mine/float": 0.5, "eval/mine/numpy": 0.25, "eval/mine/tensor": 2.0,
    }  # fmt: skip


def test_random_states_are_separate() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    with separate_random_state(7, torch.device("cpu")):
        expected = draw()
    before = draw()
    with separate_random_state(7, torch.device("cpu")):
        assert draw() == expected
        draw()
    torch.manual_seed(0)
    assert draw() != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_ideas.Rhyme", r"^run.evaluations=my_ideas.Rhyme: .*has no Rhyme, did you mean Rhymes\?$"),
        ("my_ideas.np", r"^run.evaluations=my_ideas.np is <module>, and must be called with a model and a tokenizer$"),
        ("my_ideas.Smoothed", r"^run.evaluations=my_ideas.Smoothed: .*TypeError"),
    ],
)
def test_what_is_no_evaluation_is_one_line(ideas: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_evaluations([name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"run__evaluations": ("repetitoin",)},
            r"run.evaluations='repetitoin' must be one of repetition, .*repetition\?$",
        ),
        ({"run__evaluations": ("a.B", "c.B")}, r"has two whose curves would be eval/B$"),
        ({"run__evaluate_every": 5}, r"run.evaluate_every=5 has no effect without run.evaluations$"),
        ({"run__module": "Distilled"}, r"run.module=Distilled must be a class of your own as my_file.Name"),
    ],
)
def test_settings_of_components_are_checked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_experiment(tmp_path, tmp_path, **changes)


def test_a_monitor_of_an_evaluation_that_the_run_does_not_have(tmp_path: Path, corpus_file: Path) -> None:
    callbacks = [EarlyStopping(monitor="eval/Rhymes/calls")]
    with pytest.raises(ConfigError, match="EarlyStopping monitors eval/Rhymes/calls, which no run has"):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=callbacks))
    assert list(tmp_path.glob("*")) == []


def test_a_module_of_ones_own_resumes_to_the_bit(ideas: Path, tmp_path: Path, corpus_file: Path) -> None:
    def experiment(root: str, steps: int, module: str | None = "my_ideas.Smoothed") -> Any:
        return tiny_experiment(tmp_path / root, corpus_file, run__module=module, trainer__max_steps=steps)

    fit(experiment("straight", 12))
    fit(experiment("resumed", 6))
    fit(experiment("resumed", 12), ckpt_path="last")
    fit(experiment("plain", 12, None))
    straight, resumed, plain = (checkpoint(tmp_path / root / "tiny", 12) for root in ("straight", "resumed", "plain"))
    assert_same_state(straight, resumed)
    assert straight["state_dict"]["mean"] > 0
    different = [not torch.equal(weight, straight["state_dict"][name]) for name, weight in plain["state_dict"].items()]
    assert any(different)
    losses = [column(tmp_path / root / "tiny", "train/loss") for root in ("straight", "plain")]
    assert losses[0][2] > losses[1][2]
    assert read_checkpoint(tmp_path / "straight" / "tiny" / "checkpoints" / "best.ckpt").weights.keys() == {
        name.removeprefix("gpt.") for name in plain["state_dict"]
    }


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (
            "",
            "my_ideas.Rhymes",
            r"^run.module=my_ideas.Rhymes must be a subclass of minigpt.training.module.GPTModule, ",
        ),
        ("", "my_ideas.Smooth", r"^run.module=my_ideas.Smooth: .*has no Smooth, did you mean Smoothed\?$"),
        (
            "class Odd(GPTModule):\n    def __init__(self, *a, **o):\n        1 / 0\n",
            "my_ideas.Odd",
            r"^run.module=my_ideas.Odd: .*my_ideas.py, line \d+: 1 / 0: ZeroDivisionError",
        ),
        (
            "class Odd(GPTModule):\n    def __init__(self, *a, **o):\n        super().__init__(*a, **o)\n"
            "        self.extra = torch.nn.Linear(2, 2)\n",
            "my_ideas.Odd",
            r"^run.module=my_ideas.Odd: its parameter extra.weight would not be trained",
        ),
    ],
)
def test_a_module_that_cannot_be_is_one_line_and_takes_no_folder(
    ideas: Path, corpus_file: Path, source: str, name: str, message: str
) -> None:
    runs = ideas.parent / "runs"
    with ideas.open("a") as file:
        file.write("\n\n" + source)
    with pytest.raises(ConfigError, match=message) as error:
        fit(tiny_experiment(runs, corpus_file, run__module=name))
    assert "\n" not in str(error.value)
    assert not runs.exists()


def test_an_error_in_a_loss_names_the_line(ideas: Path, tmp_path: Path, corpus_file: Path) -> None:
    with ideas.open("a") as file:
        file.write("\n\nclass Odd(GPTModule):\n    def loss(self, batch):\n        return {}['no such']\n")
    with pytest.raises(MinigptError, match=r"my_ideas.py, line 40: return {}\['no such'\]: KeyError"):
        fit(tiny_experiment(tmp_path / "runs", corpus_file, run__module="my_ideas.Odd"))
    assert not (tmp_path / "runs" / "tiny").exists()


def test_the_run_keeps_the_files_of_its_components(
    ideas: Path, tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(steps: int, **options: Any) -> Path:
        changes = {"run__evaluations": ("my_ideas.length",), "data__corpus": "my_texts.texts"}
        fit(tiny_experiment(tmp_path / "runs", corpus_file, trainer__max_steps=steps, **changes), **options)
        return tmp_path / "runs" / "tiny"

    (ideas.parent / "my_texts.py").write_text(
        "from my_words import words\n\n\ndef texts():\n    yield from (f'{words} {n}' for n in range(50))\n"
    )
    (ideas.parent / "my_words.py").write_text("words = 'some words, and more of them'\n")
    folder = train(4)
    assert {path.name for path in (folder / "code").iterdir()} == {"my_ideas.py", "my_texts.py", "my_words.py"}
    [session] = json.loads((folder / "provenance.json").read_text())["sessions"]
    assert session["files"].keys() == {"my_ideas.py", "my_texts.py", "my_words.py"}
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt").provenance["files"] == session["files"]
    assert strangers(folder) == []
    train(6, ckpt_path="last")
    assert "another file" not in capsys.readouterr().out
    ideas.write_text(IDEAS + "\n# edited\n")
    train(8, ckpt_path="last")
    said = capsys.readouterr().out
    before = session["files"]["my_ideas.py"][:8]
    assert f"changed  my_ideas.py: another file than the checkpoint was trained with (sha256 {before}" in said
    sessions = json.loads((folder / "provenance.json").read_text())["sessions"]
    assert (
        list(sessions[2]["changes"]) == ["trainer.max_steps", "my_ideas.py"] or "my_ideas.py" in sessions[2]["changes"]
    )
    assert (folder / "code" / "my_ideas.py").read_text() == ideas.read_text()
    earlier = folder / "code" / f"my_ideas-{before}.py"
    assert earlier.read_text() == IDEAS
    assert strangers(folder) == []


def test_what_does_not_begin_leaves_the_copies_as_they_were(ideas: Path, tmp_path: Path, corpus_file: Path) -> None:
    experiment = tiny_experiment(tmp_path, corpus_file, run__evaluations=("my_ideas.length",), trainer__max_steps=4)
    fit(experiment)
    before = {path: path.read_bytes() for path in (tmp_path / "tiny" / "code").iterdir()}
    ideas.write_text(IDEAS.replace("loss + 0.1", "{}['no'] + 0.1"))
    broken = tiny_experiment(tmp_path, corpus_file, run__module="my_ideas.Smoothed", trainer__max_steps=8)
    with pytest.raises(MinigptError, match=r"only one of Smoothed and the checkpoint's module keeps mean$"):
        fit(broken, resume=tmp_path / "tiny")
    assert {path: path.read_bytes() for path in (tmp_path / "tiny" / "code").iterdir()} == before


def test_names_are_found_in_every_group(tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path, tmp_path, run__evaluations=("repetition", "a.B"), run__module="c.D")
    assert experiment.custom_names() == {"run.evaluations": ["a.B"], "run.module": ["c.D"]}
    assert import_components(tiny_experiment(tmp_path, tmp_path)).files == {}
