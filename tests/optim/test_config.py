"""Settings of the optimizer that cannot work are refused with the value and the rule."""

import pytest

from minigpt.errors import ConfigError
from minigpt.optim.config import OptimConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "optim.lr=0.0 must be more than 0"),
        ({"lr": float("nan")}, "optim.lr=nan must be more than 0"),
        ({"min_lr": -1.0}, "optim.min_lr=-1.0 must not be negative"),
        ({"warmup_steps": -1}, r"optim.warmup_steps=-1 must lie between 0 and 2\^63"),
        ({"betas": (0.9, 1.0)}, r"optim.betas=\(0.9, 1.0\) must lie in \[0, 1\)"),
        ({"schedule": "cosin"}, "optim.schedule='cosin' must be one of .*, did you mean cosine?"),
        ({"schedule": "constant", "min_lr": 0.1}, "optim.min_lr=0.1 has no effect with optim.schedule=constant"),
        ({"lr": 1e-4}, "optim.min_lr=0.0003 must not be more than optim.lr=0.0001"),
        ({"decay_fraction": 0.5}, "optim.decay_fraction=0.5 has no effect with optim.schedule=cosine: .* choose wsd"),
        ({"schedule": "wsd", "decay_fraction": 0.0}, r"optim.decay_fraction=0.0 must lie in \(0, 1\]"),
        ({"muon_momentum_warmup": 9}, "optim.muon_momentum_warmup=9 has no effect with optim.name=adamw"),
        ({"name": "muon", "muon_momentum_start": 0.5}, "muon_momentum_start=0.5 has no effect without"),
        ({"name": "muon", "muon_momentum_warmup": 9, "muon_momentum_start": 1.0}, r"must lie in \[0, 1\)"),
    ],
)
def test_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimConfig(**settings)


def test_defaults_work() -> None:
    assert OptimConfig().schedule == "cosine"
