"""The settings of sampling and their checks; no torch here, so that `minigpt generate --help` is instant."""

import secrets
import sys
from dataclasses import dataclass, fields, replace

from minigpt.errors import ConfigError

MOST_SAMPLES = 10_000
"""Each waits with a prompt of its own until its turn comes."""
BATCH_SIZE = 16
"""Texts computed at once where there are several prompts: five times as fast as one by one on two cores."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a text is continued. Every field is checked when it is built: a ConfigError names field, value and rule."""

    max_new_tokens: int = 200
    """Tokens to add at most; the text ends earlier where the model writes the end of a document."""
    temperature: float = 0.8
    """The logits are divided by it: 1 is the model's own distribution, below is bolder, above more varied."""
    top_k: int | None = None
    """Draw among the k likeliest tokens only (Fan et al. 2018)."""
    top_p: float | None = None
    """Draw from the fewest tokens that together have probability p (Holtzman et al. 2020)."""
    min_p: float | None = None
    """Draw among tokens at least p times as likely as the likeliest (Nguyen et al. 2024)."""
    greedy: bool = False
    """Always take the likeliest token: nothing is drawn, so the settings of the draw are refused."""
    seed: int | None = None
    """Seed of the draws: the same one gives the same text; sample i draws from seed + i (default: a fresh one)."""
    use_cache: bool = True
    """Keep keys and values of the tokens read so far. Without, and for a model with a component that supports no cache,
    every step reads its whole window again."""
    context: int | None = None
    """Tokens the model sees at most (default: its block_size, which learned positions cannot exceed); a longer text
    slides out of sight in strides of a quarter of them."""

    def __post_init__(self) -> None:
        _check_whole(self.max_new_tokens, "max_new_tokens", at_least=0)
        for name in ("greedy", "use_cache"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} must be true or false")
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise ConfigError(
                f"temperature={self.temperature!r} must be a finite number above 0; "
                "for the likeliest token every time use greedy=True (--greedy)"
            )
        if self.top_k is not None:
            _check_whole(self.top_k, "top_k", at_least=1)
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value <= 1):
                raise ConfigError(f"{name}={value!r} must be above 0 and at most 1; leave it out to keep every token")
        if self.seed is not None:
            _check_whole(self.seed, "seed", at_least=0)
        if self.context is not None:
            _check_whole(self.context, "context", at_least=1)
        self._refuse_what_greedy_ignores()

    def _refuse_what_greedy_ignores(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for name in ("temperature", "top_k", "top_p", "min_p"):
            value = getattr(self, name)
            if self.greedy and value != defaults[name]:
                raise ConfigError(
                    f"greedy=True takes the likeliest token and would ignore {name}={value}: leave one of them out"
                )

    def first_seed(self) -> int:
        """`seed`, or a fresh one from the system (torch's global generator is left alone)."""
        return secrets.randbits(31) if self.seed is None else self.seed

    def for_samples(self, n_samples: int) -> list["SamplingOptions"]:
        """These options once for each of `n_samples` samples: sample i draws from `seed + i`, whatever their number.

        A missing seed is drawn here, once. Raises ConfigError for fewer than one sample, and for several greedy ones,
        which would all be the same text.
        """
        _check_whole(n_samples, "n_samples", at_least=1)
        if n_samples > MOST_SAMPLES:
            raise ConfigError(f"n_samples={n_samples} must be at most {MOST_SAMPLES:,}; another seed gives others")
        if self.greedy and n_samples > 1:
            raise ConfigError(f"greedy=True gives one text: n_samples={n_samples} would be {n_samples} copies of it")
        seed = self.first_seed()
        return [replace(self, seed=seed + index) for index in range(n_samples)]


def texts_at_once(batch_size: int | None, n_prompts: int) -> int:
    """How many texts are computed together: `batch_size`, or BATCH_SIZE of several prompts, or 1.

    Samples of one prompt are computed one by one unless asked for, since a batch rounds otherwise than a single text
    and sample i is to be the same, to the last bit, whatever their number. Raises ConfigError for less than 1.
    """
    if batch_size is None:
        return BATCH_SIZE if n_prompts > 1 else 1
    _check_whole(batch_size, "batch_size", at_least=1)
    return batch_size


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _check_whole(value: object, name: str, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ConfigError(f"{name}={value!r} must be a whole number, {at_least} or more")
    if value >= 2**63:  # what a tensor can count
        shown = value if value < 2**200 else f"(a number of {value.bit_length()} bits)"
        raise ConfigError(f"{name}={shown} must be below 2**63")
