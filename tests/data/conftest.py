"""Every test of this folder has a cache of its own, and does not see the machine's."""

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on what else this machine does, and says nothing about the code.
settings.register_profile("minigpt", deadline=None)
settings.load_profile("minigpt")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that $MINIGPT_CACHE names."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MINIGPT_CACHE", str(folder))
    return folder
