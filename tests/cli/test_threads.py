"""How torch's threads wait: as the program says, unless the environment says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt.cli.threads import SPINS, one_thread_of_algebra, wait_briefly


@pytest.mark.parametrize("theirs", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_a_choice_in_the_environment_stands(theirs: dict[str, str]) -> None:
    environment = dict(theirs)
    wait_briefly(environment)
    assert environment == theirs


@pytest.mark.skipif(sys.platform != "linux", reason="another library than libgomp starts the threads")
def test_it_is_set_before_torch_is_there() -> None:
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    code = """\
import atexit, os, sys
from minigpt.cli.main import script
assert "torch" not in sys.modules
atexit.register(lambda: print(os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules))
sys.argv = ["minigpt", "generate", "no such run"]
script()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"{SPINS} True"
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr


def test_one_thread_of_algebra_within_the_block_unless_its_owner_has_chosen() -> None:
    environment = {"MKL_NUM_THREADS": "4", "HOME": "/"}
    with one_thread_of_algebra(environment):
        assert environment["OPENBLAS_NUM_THREADS"] == environment["VECLIB_MAXIMUM_THREADS"] == "1"
        assert environment["MKL_NUM_THREADS"] == "4"
    assert environment == {"MKL_NUM_THREADS": "4", "HOME": "/"}


def test_scaling_loads_its_algebra_with_one_thread(tmp_path: Path) -> None:
    """The environment is read when the library is loaded: what is seen is what stood there at the first import."""
    code = f"""\
import builtins, os, sys
from minigpt.cli.main import main
assert "numpy" not in sys.modules
seen, real = [], builtins.__import__
def spy(name, *rest):
    if name.split(".")[0] in ("numpy", "scipy", "torch"):
        seen.append(os.environ.get("OPENBLAS_NUM_THREADS"))
    return real(name, *rest)
builtins.__import__ = spy
main(["scaling", {str(tmp_path)!r}])
print(seen[0], "numpy" in sys.modules, os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["1", "True", "None"]
