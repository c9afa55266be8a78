"""How many examples: few and always the same ones in CI, thousands of new ones with MINIGPT_FUZZ=thorough."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Nothing here is a matter of speed, and the fixtures are made to be shared by the examples of a test.
_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
# In CI an example that fails once must fail every time; hypothesis' data base would be one more file to keep.
settings.register_profile(
    "quick", max_examples=int(os.environ.get("N", "40")), derandomize=True, database=None, **_COMMON
)
settings.register_profile("thorough", max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("MINIGPT_FUZZ", "quick"))


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, and the current one: random relative paths end here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGPT_TRACEBACK", raising=False)
    return tmp_path
