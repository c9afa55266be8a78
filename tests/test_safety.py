"""Nothing that comes from elsewhere runs code or writes outside its place: checkpoints, prepared folders, configs."""

import ast
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import checkpoint_content, random_gpt, tiny_config
from training.tiny import tiny_experiment

import minigpt
from minigpt.cli.main import main
from minigpt.data.options import PrepareOptions
from minigpt.data.prepare import prepare
from minigpt.data.prepared import open_prepared
from minigpt.data.tokenizers import ByteTokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError
from minigpt.runs.archive import write_archive
from minigpt.training.config import RunConfig
from minigpt.training.fit import fit

SOURCE = Path(minigpt.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


class Bomb:
    """Makes the file `ran` in the current folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


# ----- code in checkpoints


def content() -> dict[str, Any]:
    return checkpoint_content(random_gpt(tiny_config(n_layer=1)), ByteTokenizer(), data={"corpus": "text.txt"})


def as_zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def as_summed_zip(value: Any, path: Path) -> None:
    """With the checksum of our own files, so that nothing but the unpickler stands in the way."""
    write_archive(value, path)


def as_legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def as_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def as_zipped_pickle(value: Any, path: Path) -> None:
    """A zip of torch whose pickle another program wrote."""
    good = io.BytesIO()
    torch.save(content(), good)
    with zipfile.ZipFile(good) as theirs, zipfile.ZipFile(path, "w") as ours:
        for name in theirs.namelist():
            ours.writestr(name, pickle.dumps(value) if name.endswith("data.pkl") else theirs.read(name))


def hidden(*place: str) -> Callable[[], dict[str, Any]]:
    """A good checkpoint with a bomb at `place`."""

    def make() -> dict[str, Any]:
        whole = content() | {"optimizer_states": [], "loops": {}, "callbacks": {}}
        inner: Any = whole
        for key in place[:-1]:
            inner = inner[key]
        if isinstance(inner, list):
            inner.append(Bomb())
        else:
            inner[place[-1]] = Bomb()
        return whole

    return make


BOMBS: dict[str, Callable[[], Any]] = {
    "alone": Bomb,
    "hyper-parameter": hidden("minigpt", "config", "n_layer"),
    "provenance": hidden("minigpt", "provenance", "command"),
    "optimizer": hidden("optimizer_states", "0"),
    "callback": hidden("callbacks", "Timer"),
    "more": hidden("hyper_parameters"),
}
FORMATS = [as_zip, as_summed_zip, as_legacy, as_pickle, as_zipped_pickle]
SMALL = {
    "run.name": "a", "run.sample_every": 0, "model.block_size": 8, "model.n_layer": 1, "model.n_head": 2,
    "model.n_embd": 8, "data.corpus": "text.txt", "data.tokenizer": "byte", "data.batch_size": 2,
    "trainer.max_steps": 1, "trainer.accelerator": "cpu", "trainer.devices": 1, "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
}  # fmt: skip
FIT = ["fit", *(word for name, value in SMALL.items() for word in (f"--{name}", str(value)))]
COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "generate": lambda target: ["generate", target, "--prompt", "a"],
    "validate": lambda target: ["validate", target, "--data.corpus", "text.txt"],
    "fit --ckpt_path FILE": lambda target: [*FIT, "--ckpt_path", target],
    "fit --run.init_from FILE": lambda target: [*FIT, "--run.init_from", target],
    "replay": lambda target: ["replay", target],
    "import": lambda target: ["import", "--source", target, "--format", "nanogpt", "--out", "out.ckpt"],
    "export": lambda target: ["export", target, "--format", "safetensors", "--out", "out.safetensors"],
}
OF_A_RUN: dict[str, Callable[[str], list[str]]] = {
    "generate": lambda run: ["generate", run, "--prompt", "a"],
    "generate --prefer last": lambda run: ["generate", run, "--prompt", "a", "--prefer", "last"],
    "validate": lambda run: ["validate", run, "--data.corpus", "text.txt"],
    "verify": lambda run: ["verify", run],
    "fit --ckpt_path RUN": lambda run: [*FIT, "--ckpt_path", run],
    "fit --ckpt_path last": lambda run: [*FIT, "--ckpt_path", "last"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGPT_TRACEBACK", raising=False)
    # torch would take it as permission to unpickle anything.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    Path("text.txt").write_text("a few words, over and over\n" * 20)
    return tmp_path


def check_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 1, and the bomb did not go off."""
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert main(words) == 1
    assert not [str(warning.message) for warning in seen if "pickle" in str(warning.message)], "a second line"
    error = capsys.readouterr().err
    assert error.startswith("minigpt: error: ")
    assert error.count("\n") == 1
    assert not Path("ran").exists()


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("write", FORMATS)
def test_code_in_a_file_is_never_run(
    here: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Any, Path], None], bomb: str
) -> None:
    write(BOMBS[bomb](), Path("bad.ckpt"))
    for command in COMMANDS.values():
        check_refused(command("bad.ckpt"), capsys)
    with pytest.raises(CheckpointError):
        minigpt.load("bad.ckpt")
    assert not Path("ran").exists()


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("name", ["best.ckpt", "step=00000007.ckpt"])
def test_code_in_a_run_is_never_run(
    here: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Any, Path], None], name: str
) -> None:
    folder = Path("runs/a/checkpoints")
    folder.mkdir(parents=True)
    Path("runs/a/config.yaml").write_text("run: {name: a}\n")
    write(BOMBS["optimizer"](), folder / name)
    for command in OF_A_RUN.values():
        check_refused(command("runs/a"), capsys)
    with pytest.raises(CheckpointError):
        minigpt.load("a")
    assert not Path("ran").exists()


@pytest.mark.parametrize("write", FORMATS)
def test_the_bomb_works(here: Path, write: Callable[[Any, Path], None]) -> None:
    write(Bomb(), Path("bad.ckpt"))
    if write is as_pickle:
        pickle.loads(Path("bad.ckpt").read_bytes())
    else:
        torch.load("bad.ckpt", weights_only=False)
    assert Path("ran").exists()


def test_an_optimizer_state_too_small_for_its_weights_is_refused(here: Path, corpus_file: Path) -> None:
    """torch's fused kernel would read and write beyond its end."""
    assert fit(tiny_experiment(here, corpus_file, trainer__max_steps=4)) == 0
    path = here / "tiny/checkpoints/step=00000004.ckpt"
    good = torch.load(path, weights_only=True)
    for name, bad in {
        "exp_avg": torch.zeros(3),
        "exp_avg_sq": torch.zeros(1, 1).expand_as(good["optimizer_states"][0]["state"][0]["exp_avg_sq"]),
        "step": torch.zeros(2),
    }.items():
        kept = good["optimizer_states"][0]["state"][0][name]
        good["optimizer_states"][0]["state"][0][name] = bad
        write_archive(good, path)
        with pytest.raises(CheckpointError, match=f"optimizer state does not belong to its weights: '{name}'"):
            fit(tiny_experiment(here, corpus_file, run__name="other"), ckpt_path=str(path))
        good["optimizer_states"][0]["state"][0][name] = kept
    write_archive(good, path)
    assert fit(tiny_experiment(here, corpus_file, run__name="other"), ckpt_path=str(path)) == 0


def test_classes_in_the_config_of_a_checkpoint_are_not_built_by_verify(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "--trainer.callbacks+=LambdaCallback"]) == 0
    check_refused(["verify", "runs/a"], capsys)
    assert main(["verify", "runs/a", "--build_classes"]) == 0


# ----- the source


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call and what is called, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def settings_of(call: ast.Call) -> dict[str, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg}


BANNED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execve", "os.spawnv",
    "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "yaml.load",
    "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "joblib.load", "dill.load", "dill.loads",
    "tarfile.open", "shutil.unpack_archive", "torch.hub.load", "torch.jit.load", "runpy.run_path",
    "subprocess.getoutput",
}  # fmt: skip
ITS_OWN_PIPE = "data/processes.py"
"""Between a process and the workers that it started itself; what goes through the pipe comes from no file."""


def faults(source: str, name: str = "x.py") -> list[str]:
    """What no file of ours may do, as `name:line: call`."""
    found = []
    for called, call in calls(ast.parse(source)):
        given = settings_of(call)
        is_bad = (
            called in BANNED
            or (called == "pickle.load" and name != ITS_OWN_PIPE)
            or (called == "torch.load" and given.get("weights_only") != "True")
            or given.get("allow_pickle", "False") != "False"
            or given.get("shell", "False") != "False"
            or called.endswith((".extract", ".extractall"))
            or called.endswith("load_from_checkpoint")
            or (called == "self.trainer.fit" and given.get("weights_only") != "True")
        )
        if is_bad:
            found.append(f"{name}:{call.lineno}: {ast.unparse(call)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_source_loads_and_starts_nothing_unsafe(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), path.relative_to(SOURCE).as_posix()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_names_are_not_imported_apart(path: Path) -> None:
    """`from pickle import loads` would slip through the test above; and no unpickler of ours knows a class."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            assert not names & (BANNED | {"torch.load", "pickle.load", "numpy.load"}), f"{path}:{node.lineno}"
        if isinstance(node, ast.ClassDef) and any("Unpickler" in ast.unparse(base) for base in node.bases):
            [find] = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "find_class"]
            assert isinstance(find.body[-1], ast.Raise), f"{path}:{node.lineno}"
            assert len(find.body) == 1, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)", "pickle.loads(data)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)", "yaml.load(text, Loader)", "yaml.unsafe_load(text)", "eval(text)",
        "exec(text)", "os.system(text)", "subprocess.run(text, shell=True)", "archive.extractall(path)",
        "self.trainer.fit(module, data, ckpt_path=path)",
    ],
)  # fmt: skip
def test_the_check_of_the_source_finds_them(line: str) -> None:
    assert faults(line)


# ----- places


@pytest.mark.parametrize("name", ["../x", "..", ".", "a/b", "a/", "/x", "", "./a", "a/../b"])
def test_the_name_of_a_run_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="plain folder name"):
        RunConfig(name=name)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\x85b", "\x1b[31m", "\u202ea", "\ud800", "\u2028"])
def test_the_name_of_a_run_holds_no_control_characters(name: str) -> None:
    with pytest.raises(ConfigError, match="control characters") as caught:
        RunConfig(name=name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("exists", [True, False], ids=["folder", "nowhere"])
def test_a_link_under_the_name_of_a_run_is_not_followed(here: Path, exists: bool) -> None:
    Path("runs").mkdir()
    if exists:
        Path("elsewhere").mkdir()
    Path("runs/a").symlink_to(here / "elsewhere")
    assert main(FIT) == 0
    assert Path("runs/a-2/checkpoints").is_dir()
    assert not Path("elsewhere").exists() or not list(Path("elsewhere").iterdir())


BAD_NAMES = ["../evil.bin", "/evil.bin", "a/../../evil.bin", "..", "", "sub/evil.bin", "..\\evil.bin", "a\0b"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("key", ["train", "val", "tokenizer"])
def test_an_index_names_files_beside_it_only(here: Path, key: str, name: str) -> None:
    """Also where the file that it names is a good one."""
    folder = Path("prepared/in")
    prepare(PrepareOptions(corpus="text.txt", tokenizer="byte"), folder)
    index = json.loads((folder / "index.json").read_text())
    kept = index["tokenizer"] if key == "tokenizer" else index[key]["shards"][0]
    place = Path(name.replace("/evil.bin", f"/{kept}"))
    wanted = str(here / kept) if place.is_absolute() else str(place)
    if "evil" in name and "\\" not in name:
        (folder / wanted).parent.mkdir(parents=True, exist_ok=True)
        (folder / "a").mkdir(exist_ok=True)
        (folder / wanted).write_bytes((folder / kept).read_bytes())
    if key == "tokenizer":
        index["tokenizer"] = wanted
    else:
        index[key]["shards"][0] = wanted
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="not the plain name of a file"):
        open_prepared(folder)


def test_preparing_over_a_forged_index_removes_nothing_outside(here: Path) -> None:
    folder = Path("prepared/in")
    prepare(PrepareOptions(corpus="text.txt", tokenizer="byte"), folder)
    Path("prepared/mine.bin").write_text("keep")
    index = json.loads((folder / "index.json").read_text())
    index["val"]["shards"] = ["../mine.bin"]
    index["meta"]["keys"] = ["another content"]
    (folder / "index.json").write_text(json.dumps(index))
    prepare(PrepareOptions(corpus="text.txt", tokenizer="byte"), folder, overwrite=True)
    assert Path("prepared/mine.bin").read_text() == "keep"
    open_prepared(folder)


def test_a_config_cannot_name_python(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML tags that build objects are not YAML to us."""
    for tag in (
        "!!python/object/apply:pathlib.Path.touch [ran]",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
    ):
        Path("c.yaml").write_text(f"run:\n  name: {tag}\n")
        assert main(["fit", "--config", "c.yaml"]) == 2
        assert "c.yaml:2: is not YAML" in capsys.readouterr().err
    assert not Path("ran").exists()
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("!!python/name:os.system ''")
