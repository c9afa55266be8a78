"""Every test of this folder has a cache of its own, and does not see the machine's."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that $MINIGPT_CACHE names."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MINIGPT_CACHE", str(folder))
    return folder
