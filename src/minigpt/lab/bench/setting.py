"""The setting of a measurement: a config on one device, with its corpus, or random tokens if that is unavailable."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minigpt.data.number_tokenizer import NumberTokenizer
from minigpt.data.prepare import prepare_cached
from minigpt.data.prepared import Prepared, TokenSplit
from minigpt.data.shards import token_dtype
from minigpt.data.token_estimate import expected_vocabulary
from minigpt.errors import ConfigError, DataError
from minigpt.model.config import GPTConfig
from minigpt.system.devices import find_device
from minigpt.system.precision import full_name
from minigpt.training.config import Experiment
from minigpt.training.fit import model_config
from minigpt.training.resume import Start

_LEAST_TOKENS = 1_000_000
"""More than a processor's cache holds, so that gathering a batch takes a realistic time."""
_ACCELERATORS = {"auto": "auto", "gpu": "auto", "cuda": "cuda", "mps": "mps", "cpu": "cpu"}
"""The device for each `trainer.accelerator`."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One config on one device."""

    experiment: Experiment
    config: GPTConfig
    prepared: Prepared
    device: torch.device
    note: str | None
    """How it deviates from the config, in one line."""

    @property
    def precision(self) -> str:
        """Full name of `trainer.precision`."""
        return full_name(self.experiment.trainer["precision"])

    @property
    def accumulate(self) -> int:
        """Batches in one optimizer step."""
        return int(self.experiment.trainer["accumulate_grad_batches"])

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one optimizer step."""
        return self.experiment.data.batch_size * self.config.block_size * self.accumulate


def make_setting(experiment: Experiment, *, progress: bool = False) -> Setting:
    """Prepare the corpus of `experiment` and choose its device.

    An unavailable corpus is replaced by random tokens, which take the same time, with a note. Raises ConfigError for an
    accelerator that this machine lacks.
    """
    accelerator = str(experiment.trainer["accelerator"])
    if accelerator not in _ACCELERATORS:
        raise ConfigError(f"trainer.accelerator={accelerator} must be one of {', '.join(_ACCELERATORS)} for bench")
    device = find_device(_ACCELERATORS[accelerator])
    note = None
    try:
        prepared = prepare_cached(experiment.data.prepare_options(), progress=progress)
    except DataError as error:
        prepared = random_text(experiment)
        note = f"random tokens of a vocabulary of {prepared.tokenizer.vocab_size:,} stand in for the text: {error}"
    config = model_config(experiment, prepared, Start())
    return Setting(experiment=experiment, config=config, prepared=prepared, device=device, note=note)


def random_text(experiment: Experiment) -> Prepared:
    """Random tokens instead of a text, with the vocabulary size of the config's tokenizer."""
    vocab_size = expected_vocabulary(experiment.data.tokenizer, experiment.data.vocab_size)
    n_tokens = max(_LEAST_TOKENS, 4 * experiment.model.block_size)
    drawn = np.random.default_rng(0).integers(0, vocab_size, n_tokens).astype(token_dtype(vocab_size))
    train, val = (
        TokenSplit(
            shards=[part],
            document_starts=[np.zeros(1, np.uint64)],
            n_tokens=len(part),
            n_documents=1,
            n_bytes=len(part),
        )
        for part in np.split(drawn, [n_tokens * 3 // 4])
    )
    return Prepared(Path(), NumberTokenizer(vocab_size), train, val, fingerprint="random", meta={})
