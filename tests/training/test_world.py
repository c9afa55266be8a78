"""Who is the main process follows from the Trainer's world, whatever a launcher's variables say."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from minigpt.errors import ConfigError
from minigpt.runs.checkpoint import last_checkpoint
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit
from minigpt.training.world import find_world

from .tiny import tiny_experiment

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
}  # fmt: skip
LIGHTNING = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
LEFT_BEHIND: dict[str, dict[str, str]] = {
    "rank": {"RANK": "1"},
    "local rank": {"LOCAL_RANK": "1"},
    "all of torch's": {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "NODE_RANK": "1", "GROUP_RANK": "1"},
    "slurm": {"SLURM_PROCID": "2"},
    "jsrun": {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "LSB_JOBID": "1"},
    "mpirun": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "1"},
    "torchrun": TORCHRUN,
    "srun": SRUN,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables as a launcher would, and the rank that Lightning reads from them when it is imported."""

    def set_all(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        rank = next((variables[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in variables), "1")
        monkeypatch.setattr(rank_zero_only, "rank", int(rank))

    return set_all


def settings(**changes: Any) -> dict[str, Any]:
    return {"accelerator": "cpu", "devices": 1, **changes}


@pytest.mark.parametrize("variables", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
@pytest.mark.parametrize("trainer", [{}, {"devices": "auto"}, {"strategy": "ddp"}, {"strategy": "single_device"}])
def test_single_process_is_the_main_one(environment: Any, variables: dict[str, str], trainer: dict[str, Any]) -> None:
    environment(variables)
    world = find_world(settings(**trainer))
    assert (world.size, world.rank, world.is_main) == (1, 0, True)
    assert rank_zero_only.rank == 0  # Lightning's loggers follow


def test_one_device_of_several_may_be_all_that_a_strategy_takes(environment: Any) -> None:
    environment({"LOCAL_RANK": "1"})
    assert find_world(settings(devices=2, strategy="single_device")).size == 1


@pytest.mark.parametrize(
    ("variables", "kind"),
    [({}, LightningEnvironment), (LIGHTNING, LightningEnvironment), (TORCHRUN, TorchElasticEnvironment),
     (SRUN, SLURMEnvironment), ({**SRUN, "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}, SLURMEnvironment),
     ({**SRUN, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, LightningEnvironment),  # a shell on a node: nobody else runs
     ({**LIGHTNING, "NODE_RANK": "1"}, LightningEnvironment)],
)  # fmt: skip
@pytest.mark.parametrize("strategy", ["auto", "ddp", DDPStrategy])
def test_several_processes_follow_their_launcher(
    environment: Any, variables: dict[str, str], kind: type, strategy: Any
) -> None:
    environment(variables)
    world = find_world(settings(devices=2, strategy=strategy if isinstance(strategy, str) else strategy()))
    assert isinstance(world.environment, kind)
    expected = 1 if "LOCAL_RANK" in variables or variables.get("SLURM_PROCID") == "1" else 0
    assert (world.size, world.rank, rank_zero_only.rank) == (2, expected, expected)


@pytest.mark.parametrize(
    ("variables", "devices", "message"),
    [
        (TORCHRUN, 4, "trainer: .*`devices=4` .* does not match the world size .2."),
        (SRUN, 4, "trainer: devices=4 x num_nodes=1 makes 4 processes, but srun started 2 tasks"),
        ({"LOCAL_RANK": "1"}, 2, "LOCAL_RANK=1 is set, as by a launcher, without WORLD_SIZE=2: unset it"),
        ({**SRUN, "SLURM_NNODES": "2"}, 2, "trainer: .*`num_nodes=1`"),
    ],
)
def test_another_number_of_processes_is_refused(
    environment: Any, variables: dict[str, str], devices: int, message: str
) -> None:
    environment(variables)
    with pytest.raises(ConfigError, match=message):
        find_world(settings(devices=devices))


def test_environment_of_the_config_counts() -> None:
    given = LightningEnvironment()
    assert find_world(settings(devices=2, plugins=[given])).environment is given
    assert find_world(settings(devices=2, strategy=DDPStrategy(cluster_environment=given))).environment is given


@pytest.fixture
def runs_of(tmp_path: Path, corpus_file: Path) -> tuple[Path, Path]:
    """The folder of the runs, and their text."""
    return tmp_path, corpus_file


@pytest.mark.parametrize(
    ("name", "strategy"), [("rank", "ddp"), ("torchrun", "auto"), ("torchrun", "ddp"), ("srun", "auto")]
)
def test_run_beside_a_finished_one(
    runs_of: tuple[Path, Path], environment: Any, capsys: pytest.CaptureFixture[str], name: str, strategy: str
) -> None:
    """It takes a folder of its own, writes all its files and says what any run says."""
    tmp_path, corpus_file = runs_of
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=2)) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tiny").rglob("*")}
    environment(LEFT_BEHIND[name])
    variables = dict(os.environ)
    capsys.readouterr()
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__strategy=strategy, optim__lr=1e-3)) == 0
    assert dict(os.environ) == variables
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tiny").rglob("*")} == before
    assert last_checkpoint(tmp_path / "tiny-2").name == "step=00000012.ckpt"
    assert list(read_metrics(tmp_path / "tiny-2" / "metrics.csv")) == [2, 4, 5, 6, 8, 10, 12]
    assert len(list((tmp_path / "tiny-2").glob("events.*"))) == 1
    said = capsys.readouterr().out
    assert "this one is" in said
    assert ("started 2 processes, each for a run of its own" in said) == (name != "rank")


def torchrun(root: Path, corpus: Path, devices: int) -> list[str]:
    """What two processes of `torchrun` say, each in one text."""
    words = [
        "fit", f"--run.root={root}", f"--data.corpus={corpus}", "--data.tokenizer=byte", "--data.batch_size=4",
        "--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2", "--model.block_size=16", "--trainer.max_steps=4",
        "--run.sample_every=0", "--run.log_every=1", "--trainer.accelerator=cpu", f"--trainer.devices={devices}",
    ]  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    logs = root / "logs"
    done = subprocess.run(
        [*launcher, f"--log_dir={logs}", "--redirects=3", "-m", "minigpt", *words],
        capture_output=True, text=True, timeout=200, env={**os.environ, "MINIGPT_CACHE": str(root / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sorted(path.read_text() for path in logs.rglob("stdout.log"))


def test_torchrun_trains_one_run_on_two_devices(tmp_path: Path, corpus_file: Path) -> None:
    said = torchrun(tmp_path, corpus_file, devices=2)
    assert [("parameters" in text, text.count("2 x cpu")) for text in said] == [(False, 0), (True, 1)]
    assert list(read_metrics(tmp_path / "base" / "metrics.csv")) == [1, 2, 3, 4]
    assert not (tmp_path / "base-2").exists()


def test_torchrun_with_one_device_trains_two_runs(tmp_path: Path, corpus_file: Path) -> None:
    said = torchrun(tmp_path, corpus_file, devices=1)
    assert all("each for a run of its own" in text for text in said)
    for name in ("base", "base-2"):
        assert list(read_metrics(tmp_path / name / "metrics.csv")) == [1, 2, 3, 4]
        assert last_checkpoint(tmp_path / name).name == "step=00000004.ckpt"
