"""`fit --resume`: what is no config to go on by."""

from pathlib import Path

import pytest

from minigpt.cli.resume import resumed
from minigpt.errors import CheckpointError
from minigpt.system.marks import write_mark


def test_empty_config_is_not_the_defaults(tmp_path: Path) -> None:
    """Another experiment would be trained in that folder."""
    folder = tmp_path / "runs/base"
    folder.mkdir(parents=True)
    write_mark(folder, "run")
    (folder / "config.yaml").write_text("# cut\n")
    with pytest.raises(CheckpointError, match=r"its config.yaml is empty or cut short"):
        resumed(["--resume", str(folder)])
