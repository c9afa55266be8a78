"""A trained model in Python and notebooks, without lightning: `minigpt.load(RUN_or_CHECKPOINT)`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from minigpt.checkpoint import Checkpoint, Prefer, build_model, find_checkpoint, read_checkpoint
from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.sampling import generate_text
from minigpt.sampling_options import SamplingOptions
from minigpt.text.tokenizers import Tokenizer

DEFAULTS = SamplingOptions()


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedGPT:
    """A model with what belongs to it."""

    model: GPT
    """In eval mode; model(tokens) takes int64 (B, T) and gives logits (B, T, V)."""
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    """Where the weights come from: path, step, val_loss, data, provenance."""

    @property
    def config(self) -> GPTConfig:
        """The model's settings."""
        return self.model.config

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; DataError for characters that the tokenizer does not know."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(ids)

    def generate(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = DEFAULTS.max_new_tokens,
        temperature: float = DEFAULTS.temperature,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        greedy: bool = False,
        seed: int | None = None,
        use_cache: bool = True,
        context: int | None = None,
        stop: str | None = None,
        n_samples: int | None = None,
    ) -> str | list[str]:
        """`prompt` and its continuation; with `n_samples` a list of so many.

        The settings are those of SamplingOptions. The text ends before `stop`, which is looked for in the continuation.
        Sample i draws from `seed + i` and is the same whatever `n_samples` is, since each is computed on its own.
        Raises ConfigError for settings that cannot work, DataError for a prompt that the tokenizer cannot encode.
        """
        options = SamplingOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            greedy=greedy,
            seed=seed,
            use_cache=use_cache,
            context=context,
        )
        samples = options.for_samples(1 if n_samples is None else n_samples)
        texts = ["".join(self.stream(prompt, sample, stop)) for sample in samples]
        return texts[0] if n_samples is None else texts

    def stream(self, prompt: str = "", options: SamplingOptions = DEFAULTS, stop: str | None = None) -> Iterator[str]:
        """The text of `generate` in pieces as they come, the prompt first; errors are raised at once."""
        continuation = generate_text(self.model, self.tokenizer, prompt, options, stop)
        return chain([prompt] if prompt else [], continuation)


def load(run_or_checkpoint: str | Path, device: str = "cpu", prefer: Prefer = "best") -> LoadedGPT:
    """The model of a run's folder (its best checkpoint, or with `prefer="last"` the newest) or of a checkpoint file.

    `device`: cpu, cuda, cuda:N, mps, or auto for the fastest there is. Raises CheckpointError for what is missing,
    broken or not ours, ConfigError for a device that this machine lacks.
    """
    torch_device = find_device(device)
    checkpoint = read_checkpoint(find_checkpoint(run_or_checkpoint, prefer))
    return LoadedGPT(model=build_model(checkpoint, torch_device), tokenizer=checkpoint.tokenizer, checkpoint=checkpoint)


def find_device(name: str) -> torch.device:
    """The device called `name`, tried out; `auto` is CUDA, else MPS, else the CPU. ConfigError where it is missing."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device={name!r} cannot be used here ({reason}); auto takes one that can") from None
    return device
