"""Classes that a config names: what is wrong with one is said of that class."""

import sys
from pathlib import Path

import pytest

from minigpt.cli.experiment import build_experiment, read_experiment
from minigpt.cli.main import main
from minigpt.errors import CheckpointError, ConfigError

MINE = """
from lightning.pytorch import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy

class Good(Callback):
    def __init__(self, every: int, name: str = "x"):
        self.every = every

class Raises(Callback):
    def __init__(self):
        raise ValueError("no luck\\nat all")

class Stranger:
    pass

class Inner:
    def __init__(self, size: int = 3):
        self.size = size

class Outer(Callback):
    def __init__(self, inner: Inner):
        self.inner = inner

class Strategy(SingleDeviceStrategy):
    def __init__(self, colour: str = "red"):
        super().__init__("cpu")
"""
FILES = {
    "my_classes_14": MINE,
    "needs_another_14": "import nothing_here_14\n",
    "broken_14": "class C(:\n",
    "boom_14": "1 / 0\n",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules, which is on the import path of nobody yet, as of the script `minigpt`."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {"", ".", str(tmp_path)}])
    return tmp_path


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["callbacks+=EarlyStopping"], "trainer.callbacks: EarlyStopping needs monitor"),
        (["callbacks=[EarlyStopping]"], "trainer.callbacks: EarlyStopping needs monitor"),
        (["callbacks+=EarlyStopping", "callbacks.monitr=val_loss"],
         "trainer.callbacks: EarlyStopping has no argument monitr, did you mean monitor?"),
        (['callbacks+={"class_path": "EarlyStopping", "init_args": {"monitr": "val_loss"}}'],
         "trainer.callbacks: EarlyStopping has no argument monitr, did you mean monitor?"),
        (['callbacks+={"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss", "patience": "x"}}'],
         "trainer.callbacks: EarlyStopping: patience=x must be a whole number"),
        (['callbacks+={"class_pth": "EarlyStopping"}'], "not by ['class_pth'], did you mean class_path?"),
        (["callbacks+=EarlyStoping"], "trainer.callbacks: Lightning has no EarlyStoping, did you mean EarlyStopping?"),
        (["callbacks=[3]"], "trainer.callbacks: Lightning has no 3; a class of your own is MODULE.CLASS"),
        (["callbacks+=my_classs_14.Good"],
         "there is no module my_classs_14 for my_classs_14.Good, did you mean my_classes_14?: looked in {here}"),
        (["callbacks+=my_classes_14.Godo"], "trainer.callbacks: my_classes_14 has no Godo, did you mean Good?"),
        (["callbacks+=my_classes_14.Good"], "trainer.callbacks: Good needs every"),
        (["callbacks+=my_classes_14.Good", "callbacks.evry=3"], "Good has no argument evry, did you mean every?"),
        (["callbacks+=my_classes_14.Stranger"], "Stranger is no class derived from lightning.pytorch.Callback"),
        (["callbacks+=my_classes_14.Raises"],
         "built: {here}/my_classes_14.py, line 11: raise ValueError(\"no luck\\nat all\"): ValueError: no luck"),
        (["callbacks+=needs_another_14.C"], "cannot be imported: it needs the module nothing_here_14, which"),
        (["callbacks+=broken_14.C"],
         "broken_14.C cannot be imported: {here}/broken_14.py, line 1: class C(:: SyntaxError: invalid syntax"),
        (["callbacks+=boom_14.C"],
         "cannot be imported: {here}/boom_14.py, line 1: 1 / 0: ZeroDivisionError: division by zero"),
        (["logger=CSVLogger"], "trainer.logger: CSVLogger needs save_dir"),
        (["logger=my_classes_14.Good"], "Good is no class derived from lightning.pytorch.loggers.Logger"),
        (["plugins=[no_such_14.P]"], "trainer.plugins: there is no module no_such_14 for no_such_14.P: looked in"),
        (["strategy=no_such_14.P"], "trainer.strategy: there is no module no_such_14 for no_such_14.P: looked in"),
        (["strategy=DDPStrategy"], "DDPStrategy is read as a name: a class is --trainer.strategy.class_path"),
        (["strategy.class_path=my_classes_14.Strategy", "strategy.color=red"],
         "trainer.strategy: Strategy has no argument color, did you mean colour?"),
        (["profiler.class_path=SimpleProfiler", "profiler.dirpth=x"],
         "trainer.profiler: SimpleProfiler has no argument dirpth, did you mean dirpath?"),
        (['callbacks+={"class_path": "EarlyStopping", "init_arg": {"monitor": "val_loss"}}'],
         "not by ['init_arg'], did you mean init_args?"),
        (["callbacks+=my_classes_14.Outer", "callbacks.inner=my_classes_14.Iner"],
         "trainer.callbacks: inner: my_classes_14 has no Iner, did you mean Inner?"),
        (['callbacks=[{"class_path": "my_classes_14.Outer", "init_args": {"inner": {"class_path": "no_such_14.I"}}}]'],
         "trainer.callbacks: inner: there is no module no_such_14 for no_such_14.I"),
        (["callbacks+=my_classes_14.Outer", "callbacks.inner=my_classes_14.Inner", "callbacks.inner.sise=3"],
         "trainer.callbacks: no class here has the argument sise"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_class_is_said_of_the_class(words: list[str], line: str, here: Path) -> None:
    argv = [f"--trainer.{word}" for word in words]
    read_experiment(argv)  # all of it is found where lightning is imported
    with pytest.raises(ConfigError) as told:
        build_experiment(argv)
    assert line.format(here=here) in str(told.value)
    assert "\n" not in str(told.value)


def test_the_same_from_yaml_and_from_several_classes(here: Path) -> None:
    config = here / "config.yaml"
    config.write_text(
        "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args: {monitor: val_loss}\n"
        "  - class_path: my_classes_14.Good\n    init_args: {evry: 3}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match="Good has no argument evry, did you mean every"):
        build_experiment(["--config", str(config)])


def test_a_class_in_the_working_folder_is_found(here: Path) -> None:
    """By the script too, whose import path does not have the folder; it comes last, so nothing installed is hidden."""
    (here / "random.py").write_text("raise RuntimeError('not the library')\n", encoding="utf-8")
    experiment, _ = build_experiment(["--trainer.callbacks+=my_classes_14.Good", "--trainer.callbacks.every=3"])
    assert experiment.trainer["callbacks"][0].every == 3
    assert sys.path[-1] == str(here)


def test_the_import_path_stays_as_it_is_without_such_a_class(here: Path) -> None:
    before = list(sys.path)
    build_experiment(["--trainer.callbacks+=LearningRateMonitor"])
    assert sys.path == before


@pytest.mark.parametrize("command", ["plan", "sweep"])
def test_other_commands_say_the_same(
    command: str, here: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = here / "config.yaml"
    config.write_text(f"data: {{corpus: {corpus_file}, tokenizer: byte}}\ntrainer: {{accelerator: cpu, devices: 1}}\n")
    (here / "sweep.yaml").write_text(
        "base: config.yaml\ngrid: {optim.lr: [0.1, 0.2]}\n"
        "overrides: {trainer.callbacks: [{class_path: EarlyStopping}]}\n"
    )
    words = {
        "plan": ["plan", "config.yaml", "--trainer.callbacks+=EarlyStopping"],
        "sweep": ["sweep", "sweep.yaml"],
    }[command]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "trainer.callbacks: EarlyStopping needs monitor" in captured.err


def test_what_was_kept_from_writing_stays_the_cause(here: Path) -> None:
    """verify looks for it among the causes."""
    (here / "writes_14.py").write_text(
        "from lightning.pytorch import Callback\n"
        "from minigpt.errors import CheckpointError\n"
        "class C(Callback):\n    def __init__(self):\n        raise CheckpointError('must not write')\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as told:
        build_experiment(["--trainer.callbacks+=writes_14.C"])
    assert isinstance(told.value.__cause__, CheckpointError)
