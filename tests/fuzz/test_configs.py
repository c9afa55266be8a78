"""Random configs end in a run that starts or in one line, and a mistake leaves nothing behind."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.training.config import Experiment

from .configs import as_yaml, configs, small, spoilt_bytes
from .outcome import check_ending, check_nothing_half_written, more, run

CORPUS = "".join(f"line {n}: {n * 7}\n" for n in range(150))

# Without quotes, as YAML sees them before anyone else does.
AS_WRITTEN = [
    "name", "n_layer", "2024-13-45", "0x", "1" * 5000, ".inf", ".NaN", "&a [*a]", "*a", "!!float x", "!!int 1_",
    "!!int ''", "!!bool x", "!!set {a}", "!!binary x", "!!timestamp x", "!!timestamp 2024-01-01 0:0:0 +99:99",
    "!!python/name:os.system ''", "<<", "? a", "- a", "| ", "%YAML 9", "[" * 2000, "12:99:99",
]  # fmt: skip


@pytest.fixture
def folder(inside: Path) -> Path:
    Path("text.txt").write_text(CORPUS, encoding="utf-8")
    return inside


def fit(content: bytes) -> int:
    """Train with this config; gives the exit code. Checks what holds for every ending."""
    shutil.rmtree("runs", ignore_errors=True)
    before = set(Path().rglob("*"))
    Path("c.yaml").write_bytes(content)
    outcome = run(["fit", "--config", "c.yaml"])
    check_ending(outcome)
    check_nothing_half_written(Path())
    made = set(Path().rglob("*")) - before - {Path("c.yaml")}
    if outcome.code == 0:
        assert "best " in outcome.out
    # A diverged run keeps its folder, with its curve; nothing else that ends in an error does.
    elif "not finite" not in outcome.err:
        assert not {path for path in made if path != Path("runs")}, outcome.err
    return outcome.code


@settings(max_examples=more(3))
@given(data=st.data())
def test_a_config_trains_or_ends_in_one_line(folder: Path, data: st.DataObject) -> None:
    config = data.draw(configs(small(Path("runs"), Path("text.txt")), started=True))
    fit(as_yaml(config))


@settings(max_examples=more(3))
@given(data=st.data())
def test_what_is_no_config_ends_in_one_line(folder: Path, parsed: list[Experiment], data: st.DataObject) -> None:
    """Bytes of a good file spoilt, or any at all. Nothing is started: a digit more is a year more."""
    good = as_yaml(small(Path("runs"), Path("text.txt")))
    written = st.one_of(st.sampled_from(AS_WRITTEN), st.text(max_size=20))
    one_value = st.builds("{}:\n  {}: {}\n".format, st.sampled_from(["run", "model"]), written, written)
    texts = st.one_of(one_value, st.text(max_size=60)).map(str.encode)
    content = data.draw(st.one_of(spoilt_bytes(good), st.binary(max_size=60), texts, texts))
    Path("c.yaml").write_bytes(content)
    check_parsing(parsed)


@settings(max_examples=more(3))
@given(data=st.data())
def test_any_value_is_parsed_or_refused_in_one_line(
    folder: Path, parsed: list[Experiment], data: st.DataObject
) -> None:
    config = data.draw(configs(small(Path("runs"), Path("text.txt")), started=False))
    Path("c.yaml").write_bytes(as_yaml(config))
    check_parsing(parsed)


@given(words=st.lists(st.text(max_size=12) | st.sampled_from(["--config", "--optim.lr=", "--model", "--"]), max_size=3))
def test_any_words_are_refused_in_one_line(folder: Path, words: list[str]) -> None:
    if not {"-h", "--help", "-V", "--version", "help"} & set(words):
        for command in ("fit", "generate", "validate", "prepare"):
            check_ending(run([command, *words, "--no_such_option"]))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The experiments that `minigpt fit` would have trained: it stops before the corpus."""
    seen: list[Experiment] = []
    monkeypatch.setattr("minigpt.training.fit.fit", lambda experiment, **_: seen.append(experiment) or 0)
    return seen


def check_parsing(parsed: list[Experiment]) -> None:
    """An experiment or one line, and the YAML that a run keeps says what the experiment is."""
    parsed.clear()
    check_ending(run(["fit", "--config", "c.yaml"]))
    for experiment in parsed:
        assert yaml.safe_load(experiment.yaml)["run"]["name"] == experiment.run.name
