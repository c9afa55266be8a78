"""What the config says is what config.yaml says: texts and all."""

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from minigpt.cli.parsing import dump, parse
from minigpt.errors import ConfigError

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
        experiment, _ = parse([f"--run.sample_prompt={text}", f"--data.corpus={text}"])
    except ConfigError:
        assume(False)  # nothing, or an interpolation that leads nowhere
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(experiment.yaml.encode())
    again, _ = parse(["--config", str(path)])
    assert again.run == experiment.run
    assert again.data == experiment.data
    assert again.yaml == experiment.yaml


def test_what_is_left_of_an_interpolation_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"run\.sample_prompt='a.*' must not hold \$\{, with which an interpolation"):
        parse(["--run.sample_prompt=a\\${b}"])
