"""How the cells of a sweep share a machine, and what a task of SLURM asks for."""

import re
from pathlib import Path
from typing import Any

import pytest

from lab.sweeps import job
from minigpt.errors import ConfigError
from minigpt.lab.sweep.job import Job
from minigpt.lab.sweep.local import run_local, run_one
from minigpt.lab.sweep.ray import run_on_ray
from minigpt.lab.sweep.slots import Slots, share_out
from minigpt.lab.sweep.slurm import ranges, write_script


@pytest.mark.parametrize(
    ("jobs", "n_cells", "gpus", "per_cell", "expected"),
    [
        (None, 50, [], 1, (8, 1, None)),
        (None, 3, [], 1, (3, 2, None)),
        (2, 50, [], 1, (2, 4, None)),
        (None, 50, ["0", "1", "2", "3"], 1, (4, 2, "3")),
        (None, 50, ["0", "1", "2", "3"], 2, (2, 4, "2,3")),
        (4, 50, ["0", "1"], 1, (4, 2, "1")),
        (None, 50, ["0"], 2, (1, 8, "0")),
    ],
)
def test_cells_share_the_machine(
    jobs: int | None,
    n_cells: int,
    gpus: list[str],
    per_cell: int,
    expected: tuple[int, int, str | None],
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`expected`: places, threads of each, GPUs of the last."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("minigpt.lab.sweep.slots.usable_cores", lambda: 8)
    slots = share_out(jobs, n_cells=n_cells, gpus=gpus, gpus_per_cell=per_cell)
    last = slots.environment(len(slots) - 1)
    assert (len(slots), slots.threads, last.get("CUDA_VISIBLE_DEVICES")) == expected
    assert last["OMP_NUM_THREADS"] == str(slots.threads)
    assert share_out(None, n_cells=9, gpus=[], gpus_per_cell=1, threads=4).environment(1) == {"OMP_NUM_THREADS": "4"}


def test_a_task_has_all_of_its_machine_and_a_mac_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("minigpt.lab.sweep.slots.usable_cores", lambda: 8)
    monkeypatch.setattr("minigpt.lab.sweep.job.visible_gpus", lambda: ["0", "1"])
    assert job(tmp_path).whole() == Slots(threads=8, gpus=((),))
    assert job(tmp_path, accelerator="auto", cpus_per_cell=3).whole() == Slots(threads=3, gpus=(("0", "1"),))
    seen: list[Slots] = []
    monkeypatch.setattr(Job, "run", lambda _, executor, cells: seen.append(executor._slots) or len(cells))
    assert run_one(job(tmp_path), 1) == 1
    assert seen == [Slots(threads=8, gpus=((),))]
    assert job(tmp_path, accelerator="auto").slots() == Slots(threads=4, gpus=(("0",), ("1",)))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert len(job(tmp_path).slots()) == 2
    assert job(tmp_path).whole().threads == 4
    assert job(tmp_path, cpus_per_cell=3).whole().threads == 3
    monkeypatch.delenv("OMP_NUM_THREADS")

    monkeypatch.setattr("minigpt.lab.sweep.job.visible_gpus", list)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    for accelerator in ("auto", "gpu", "mps"):
        assert job(tmp_path, accelerator=accelerator).slots() == Slots(threads=8, gpus=((),))
    assert len(job(tmp_path, accelerator="mps", jobs=2).slots()) == 2  # whoever says so
    assert len(job(tmp_path).slots()) == 3


def test_more_than_the_machine_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.lab.sweep.slots.usable_cores", lambda: 8)
    monkeypatch.setattr("minigpt.lab.sweep.job.visible_gpus", lambda: ["0", "1"])
    asked = {"accelerator": "auto", "gpus_per_cell": 3}
    for engine in (run_local, run_on_ray):
        if engine is run_on_ray:
            pytest.importorskip("ray")
        with pytest.raises(ConfigError, match=r"--gpus_per_cell 3 must be at most the number of GPUs .* here, 2"):
            engine(job(tmp_path, **asked))
        with pytest.raises(ConfigError, match=r"--cpus_per_cell 9 must be at most the number of cores .*, 8"):
            engine(job(tmp_path, cpus_per_cell=9))
    assert not (tmp_path / "exp").exists()
    assert len(job(tmp_path, **asked, cpus_per_cell=9, address="a:1").slots()) == 1  # the cluster may have them


@pytest.mark.parametrize(
    ("changes", "gpus", "cpus"),
    [
        ({"accelerator": "gpu", "devices": 2}, 2, 4),
        ({"accelerator": "auto"}, 0, 4),
        ({"accelerator": "auto", "gpus_per_cell": 1}, 1, 4),
        ({"accelerator": "cuda", "gpus_per_cell": 0, "cpus_per_cell": 6}, 0, 6),
        ({"accelerator": "cpu"}, 0, 4),
    ],
)
def test_a_slurm_script_asks_for_what_the_config_wants(
    changes: dict[str, Any], gpus: int, cpus: int, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever GPUs and cores the machine has on which it is written."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("minigpt.lab.sweep.slots.usable_cores", lambda: 64)
    monkeypatch.setattr("minigpt.lab.sweep.job.visible_gpus", lambda: [] if gpus else ["0"])
    task = job(tmp_path, **changes)
    assert write_script(task) == 0
    script = (tmp_path / "exp" / "slurm.sh").read_text()
    assert re.findall(r"gres=gpu:(\d+)", script) == ([str(gpus)] if gpus else [])
    assert f"#SBATCH --cpus-per-task={cpus}\n" in script
    assert f'--cpus_per_cell "${{SLURM_CPUS_PER_TASK:-{cpus}}}" --cell "$SLURM_ARRAY_TASK_ID"\n' in script
    told = "trainer.accelerator=auto asks for no GPU: --gpus_per_cell 1 does\n"
    assert (told in task.console.file.getvalue()) == (changes == {"accelerator": "auto"})  # type: ignore[attr-defined]


def test_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
