"""How torch's threads wait: as the program says, unless the environment says so."""

import os
import subprocess
import sys

import pytest

from minigpt.cli.threads import SPINS, wait_briefly


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
