"""What the config says is what config.yaml says: texts and all."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback

from minigpt.cli.experiment import build_experiment, read_experiment
from minigpt.cli.yaml_files import dump
from minigpt.errors import ConfigError
from minigpt.training.config import TRAINER_DEFAULTS

BREAKS = "\n\r\x85\u2028\u2029\x0b\x0c\x1c \t'\"\\:#-"
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(BREAKS)), max_size=40)
escapes = st.lists(
    st.sampled_from(["a", "\\", "$", "{", "}", "${", "\\${", "x.y", "'", '"', ":", ",", "(", " "]), max_size=9
)


@settings(deadline=None, max_examples=200)
@given(texts.map(lambda text: text.replace("${", "")))
@example("a\x85b")
@example("\u2028")
@example("a \x85 b\u2029")
def test_any_text_survives_the_yaml(text: str) -> None:
    assert yaml.safe_load(dump({"a": text, "b": [text]})) == {"a": text, "b": [text]}


@settings(deadline=None, max_examples=25, derandomize=True)
@given(texts | escapes.map("".join))
@example("def \x85")
def test_a_config_reads_back_as_it_was(tmp_path_factory, text: str) -> None:
    """Through jsonargparse and omegaconf, which read it when a run is verified."""
    try:
        experiment, _ = build_experiment([f"--run.sample_prompt={text}", f"--data.corpus={text}"])
    except ConfigError:
        assume(False)  # nothing, or an interpolation that leads nowhere
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(experiment.yaml.encode())
    again, _ = build_experiment(["--config", str(path)])
    assert again.run == experiment.run
    assert again.data == experiment.data
    assert again.yaml == experiment.yaml


def test_what_is_left_of_an_interpolation_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"run\.sample_prompt='a.*' must not hold \$\{, with which an interpolation"):
        build_experiment(["--run.sample_prompt=a\\${b}"])


def test_a_path_with_a_lone_byte_is_read_back(tmp_path: Path) -> None:
    """Python writes the byte as half a surrogate pair, YAML as its escape."""
    experiment, _ = build_experiment(["--data.corpus=/a/\udcff b\udcfe.txt", "--optim.lr=1e-3"])
    (tmp_path / "config.yaml").write_text(experiment.yaml, encoding="utf-8")
    again, _ = build_experiment(["--config", str(tmp_path / "config.yaml")])
    assert again.data.corpus == "/a/\udcff b\udcfe.txt"
    assert again.yaml == experiment.yaml


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n", "null\n", "{}\n"])
def test_a_config_that_holds_nothing_has_the_defaults(text: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text, encoding="utf-8")
    for words in (["--config", str(config)], [f"--config={config}", "--optim.lr=0.5"]):
        read_experiment(words)
        assert read_experiment(words).trainer["max_steps"] == TRAINER_DEFAULTS["max_steps"]
    assert read_experiment(words).optim.lr == 0.5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1]", "holds a list, and a config is a mapping of groups"),
        ("3", "holds a whole number, and a config is a mapping of groups"),
        ("model:\n", "model is empty: leave it out, or give it settings"),
        ("model: 3\n", "model=3 must be a mapping of settings"),
    ],
)
def test_a_config_that_is_none_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(line)):
        read_experiment(["--config", str(tmp_path / "config.yaml")])


CPU = torch.device("cpu")


class Holds(Callback):
    """A callback whose defaults are no YAML."""

    def __init__(self, device: torch.device = CPU, name: str = "x") -> None:
        self.device = device
        self.name = name


@pytest.mark.parametrize("more", [[], ["--ckpt_path=last"], ["--ckpt_path", "x"]])
def test_what_print_config_prints_is_a_config(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--optim.lr=${seed_everything}", f"--trainer.callbacks+={__name__}.Holds"]
    with pytest.raises(SystemExit) as ended:
        build_experiment([*words, *more, "--print_config"])
    assert ended.value.code == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    read_experiment(["--config", str(tmp_path / "my.yaml")])
    again, ckpt_path = build_experiment(["--config", str(tmp_path / "my.yaml")])
    assert again.yaml == build_experiment(words)[0].yaml
    assert ckpt_path is None


def test_a_default_that_is_no_yaml_is_left_to_the_class(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    experiment, _ = build_experiment([f"--trainer.callbacks+={__name__}.Holds", "--trainer.callbacks.name=y"])
    (tmp_path / "config.yaml").write_text(experiment.yaml, encoding="utf-8")
    again, _ = build_experiment(["--config", str(tmp_path / "config.yaml")])
    (callback,) = again.trainer["callbacks"]
    assert (callback.device, callback.name) == (torch.device("cpu"), "y")
    assert again.yaml == experiment.yaml
    assert not [warning for warning in recwarn if "serialize" in str(warning.message)]
