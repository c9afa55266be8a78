"""Shipped configs by their bare names, the command that lists and prints them, and the wheel that carries them."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from minigpt.cli.experiment import read_experiment
from minigpt.cli.main import main
from minigpt.system.shipped_configs import FOLDER, find_config, shipped_configs

ROOT = Path(__file__).parent.parent.parent


def test_the_list_names_every_config_with_its_comment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    out = capsys.readouterr().out
    runs, sweeps = out.split("sweeps, for")
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert sorted(names) == sorted(path.stem for path in FOLDER.rglob("*.yaml"))
    assert len(set(names)) == len(names)
    assert "  base                  The base experiment, with every setting and its default" in runs
    assert "\n  ablation " in sweeps
    assert all(len(line.split()) > 4 for line in out.splitlines() if line)


def test_one_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("base", "base.yaml"):
        assert main(["configs", name]) == 0
        assert capsys.readouterr().out == (FOLDER / "base.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["configs", "bsae"], "no config bsae comes with minigpt, did you mean base?"),
        (["configs", "zzz"], "no config zzz comes with minigpt: it must be one of base, gpt2,"),
        (["fit", "--config", "bsae"], "--config bsae: there is no such file and no such config, did you mean base?"),
        (["fit", "--config=zzz"], "no such config: minigpt configs lists those that come with minigpt"),
        (["fit", "--config", "configs/base.yaml"], "configs/base.yaml: there is no such file, did you mean base?"),
        (["plan", "bsae"], "bsae: there is no such run, and no such file, did you mean base?"),
        (["sweep", "ablaton"], "ablaton: there is no such file and no such config, did you mean ablation?"),
        (
            ["sweep", "my.yaml"],
            "my.yaml: base=bas: there is no such file beside my.yaml or in the working directory, did",
        ),
        (["scaling", "scaling"], "runs/scaling: the sweep scaling has no runs yet: minigpt sweep scaling"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("base: bas\ngrid: {optim.lr: [0.1, 0.2]}\n", encoding="utf-8")
    assert main(words) in {1, 2}
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_a_file_goes_before_a_shipped_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("post_norm").mkdir()
    assert find_config("post_norm") == shipped_configs()["post_norm"]
    assert read_experiment(["--config", "post_norm"]).model.norm_placement == "post"
    Path("seed").write_text("optim: {lr: 0.5}\n", encoding="utf-8")
    assert read_experiment(["--config", "seed"]).optim.lr == 0.5
    assert read_experiment(["--config=base", "--config", "seed"]).optim.lr == 0.5


def test_the_wheel_has_the_configs(tmp_path: Path) -> None:
    """Built, unpacked, and asked from an empty folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = (
        "import minigpt; from minigpt.cli.main import main\n"
        "from minigpt.cli.experiment import read_experiment\n"
        "print(minigpt.__file__, read_experiment(['--config', 'shakespeare']).model.n_layer)\n"
        "main(['configs']); main(['configs', 'base'])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "empty", env=environment, capture_output=True, text=True
    )
    assert not done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'site' / 'minigpt' / '__init__.py'} 6\n")
    assert "\n  ablation " in done.stdout
    assert done.stdout.endswith((FOLDER / "base.yaml").read_text(encoding="utf-8"))
