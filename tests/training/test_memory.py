"""What no machine can hold is refused before it is built."""

from pathlib import Path
from typing import Any

import pytest

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.training.fit import check_memory, fit
from training.tiny import tiny_experiment


@pytest.mark.parametrize("size", ["n_layer", "n_embd", "n_ff", "block_size", "vocab_size"])
def test_each_size_counts(size: str) -> None:
    small = {"vocab_size": 100, "n_head": 1, "n_embd": 8}
    check_memory(GPTConfig(**small), 32)
    with pytest.raises(ConfigError, match=rf"the model has .* parameters, .* GB .*{size}=1099511627776\b"):
        check_memory(GPTConfig(**small | {size: 2**40}), 32)


def test_a_batch_counts() -> None:
    with pytest.raises(ConfigError, match=r"data.batch_size=1099511627776 windows of model.block_size=64"):
        check_memory(GPTConfig(vocab_size=100), 2**40)


def test_the_limit_is_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPTConfig(vocab_size=10, n_layer=0, n_embd=8, n_head=1, block_size=1, position="none")
    monkeypatch.setattr("minigpt.training.fit.machine_bytes", lambda: 4 * (80 + 16))  # the embedding, the last norm
    check_memory(config, 1)
    monkeypatch.setattr("minigpt.training.fit.machine_bytes", lambda: 4 * (80 + 16) - 1)
    with pytest.raises(ConfigError, match="the model has 96 parameters"):
        check_memory(config, 1)


@pytest.mark.parametrize("change", [{"data__batch_size": 2**40}, {"model__n_layer": 2**40}])
def test_fit_asks(tmp_path: Path, corpus_file: Path, change: dict[str, Any]) -> None:
    """Before a folder is taken, and at once."""
    experiment = tiny_experiment(tmp_path / "runs", corpus_file, **change)
    with pytest.raises(ConfigError, match="memory"):
        fit(experiment)
    assert not (tmp_path / "runs").exists()
