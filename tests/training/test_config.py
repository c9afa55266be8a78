"""Settings of a run and its data that cannot work are refused with the value and the rule."""

import pytest

from minigpt.errors import ConfigError
from minigpt.training.config import DataConfig, RunConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a/b"}, "run.name='a/b' must be a plain folder name"),
        ({"name": ".."}, "run.name='..' must be a plain folder name"),
        ({"name": ""}, "run.name='' must be a plain folder name"),
        ({"root": ""}, "run.root='' must name the folder"),
        ({"eval_every": 0}, "run.eval_every=0 must be at least 1"),
        ({"save_every": -1}, "run.save_every=-1 must be at least 1"),
        ({"keep": -1}, "run.keep=-1 must not be negative"),
    ],
)
def test_run_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "data.batch_size=0 must be at least 1"),
        ({"corpus": ""}, "data.corpus='' must not be empty"),
        ({"tokenizer": ""}, "data.tokenizer='' must not be empty"),
        ({"num_workers": -1}, "data.num_workers=-1 must not be negative"),
        ({"val_fraction": 1.0}, "val_fraction=1.0 must lie between 0 and 1"),
        ({"tokenizer": "char", "vocab_size": 500}, "data.vocab_size=500 has no effect with data.tokenizer=char"),
        (
            {"unknown": True},
            "data.unknown=True has no effect with data.tokenizer=bpe: leave it at False, or choose char",
        ),
        ({"vocab_size": 100}, "vocab_size=100 must be at least 257"),
    ],
)
def test_data_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**settings)
