"""A scaling law: the loss as a function of parameters and tokens, and the best size for a budget of FLOPs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from minigpt.data.identity import DataIdentity
from minigpt.system.units import times_text

TOKENS_PER_PARAMETER = 20
"""The ratio of a compute-optimal run (Hoffmann et al. 2022, table 3: 67B parameters and 1.5T tokens, 1B and 20B;
about the same at every size)."""


_NOISES = tuple(NormalDist().inv_cdf((index + 0.5) / 25) for index in range(25))
"""A standard normal distribution as 25 equally likely values."""


@dataclass(frozen=True)
class Interval:
    """A 90 % interval; the code that makes it says which kind."""

    low: float
    high: float

    def ratio(self) -> float:
        """high / low, the relative uncertainty of a positive number."""
        return self.high / self.low if self.low > 0 else float("inf")

    @property
    def is_bounded(self) -> bool:
        """Whether it has an upper bound."""
        return math.isfinite(self.high)


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token (Hoffmann et al. 2022, eq. 2).

    E is the loss of a perfect predictor; the other terms are the excess due to N parameters and to D tokens.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, n_parameters: float, n_tokens: float) -> float:
        """The loss in nats per token."""
        return self.E + self.A / n_parameters**self.alpha + self.B / n_tokens**self.beta

    def optimum(self, flops: float, flops_per_pair: float = 6.0) -> tuple[float, float]:
        """Parameters and tokens of the lowest loss for so many FLOPs = flops_per_pair N D.

        N = G (C / 6)^(beta / (alpha + beta)) with G = (alpha A / beta B)^(1 / (alpha + beta)) (Hoffmann et al. 2022,
        eq. 4).
        """
        both = self.alpha + self.beta
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / both)
        n_parameters = scale * (flops / flops_per_pair) ** (self.beta / both)
        return n_parameters, flops / flops_per_pair / n_parameters


def run_interval(laws: Sequence[Law], noise: float, n_parameters: float, n_tokens: float) -> Interval:
    """The 90 % interval of the loss of one run of this size, from the laws and from the scatter of runs around a law,
    whose log has the standard deviation `noise`."""
    losses = sorted(law.loss(n_parameters, n_tokens) * math.exp(noise * z) for law in laws for z in _NOISES)
    cut = len(losses) // 20
    return Interval(losses[cut], losses[-1 - cut])


@dataclass(frozen=True, kw_only=True)
class FittedLaw:
    """A law, and the runs that it was fitted to."""

    law: Law
    name: str
    """Its source, as a phrase."""
    corpus: str
    tokenizer: str
    vocab_size: int
    data: DataIdentity = field(default_factory=DataIdentity)
    """Identifies the text it holds for, by content; empty if an older version wrote it."""
    tokenizer_fingerprint: str = ""
    parameters: tuple[float, float]
    """Smallest and largest of the runs that it was fitted to."""
    tokens: tuple[float, float]
    flops_per_pair: float = 6.0
    """FLOPs of training / (parameters x tokens) of these runs."""
    resampled: tuple[Law, ...] = field(default=(), repr=False)
    """Bootstrap fits; empty if only the coefficients are known."""
    noise: float = 0.0
    """Standard deviation of the log of a run's loss from the law."""

    def loss_interval(self, n_parameters: float, n_tokens: float) -> Interval | None:
        """The 90 % interval of the loss of one more run; None if it is not known."""
        return run_interval(self.resampled, self.noise, n_parameters, n_tokens) if self.resampled else None

    def holds_for(self, text: "TextInTokens") -> bool | None:
        """Whether a run has the text and the tokenizer of the law; None if only their names are known to agree."""
        if self.vocab_size != text.vocab_size:
            return False
        one_name = (self.corpus, self.tokenizer) == (text.corpus, text.tokenizer)
        known = [self.data.same_held_out(text.data), self.data.same_training(text.data)]
        if self.tokenizer_fingerprint and text.tokenizer_fingerprint:
            known.append(self.tokenizer_fingerprint == text.tokenizer_fingerprint)
        elif self.tokenizer != text.tokenizer:
            return False
        if False in known or (None in known and not one_name):
            return False
        return None if None in known else True

    def beyond(self, n_parameters: float, n_tokens: float) -> float:
        """How far outside the fitted range a run is, as a factor; 1 means inside."""
        pairs = ((n_parameters, self.parameters), (n_tokens, self.tokens))
        return max(1.0, *(max(value / high, low / value) for value, (low, high) in pairs))


@dataclass(frozen=True, kw_only=True)
class TextInTokens:
    """The text and the tokenizer that a loss per token refers to."""

    corpus: str
    tokenizer: str
    vocab_size: int
    data: DataIdentity = field(default_factory=DataIdentity)
    """Empty for a text that is not prepared yet."""
    tokenizer_fingerprint: str = ""


PUBLISHED = FittedLaw(
    # Besiroglu et al. 2024, "Chinchilla Scaling: A replication attempt", table 1: Hoffmann's own runs fitted again, as
    # the coefficients of the paper (1.69, 406.4, 410.7, 0.34, 0.28) do not agree with its other two approaches.
    law=Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
    name="Besiroglu et al. 2024 on the runs of Hoffmann et al. 2022 (MassiveText, SentencePiece of 32,000 tokens)",
    corpus="MassiveText",
    tokenizer="sentencepiece",
    vocab_size=32_000,
    parameters=(44e6, 16e9),
    tokens=(2e8, 1.4e12),
)
MOST_EPOCHS = 4
"""Epochs beyond which repeated tokens are no longer as good as new ones (Muennighoff et al. 2023, section 5)."""
VOCABULARIES = (16_000, 128_000)
"""Sizes whose loss per token is roughly comparable with the published law's; smaller ones have easier tokens."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The loss to expect, or why it cannot be predicted."""

    loss: float | None
    interval: Interval | None
    """Interval of the loss; None also if only the coefficients of the law are known."""
    text: str
    """One sentence that names the law and its limits."""


def forecast(
    fitted: FittedLaw | None,
    *,
    n_parameters: int,
    n_tokens: float,
    epochs: float,
    text: TextInTokens,
) -> Forecast:
    """Predict the loss by `fitted`, or by the published law if there is none and it is applicable."""
    law = fitted or PUBLISHED
    if epochs > MOST_EPOCHS:
        reason = f"no law applies: they hold for new tokens, and this run trains {epochs:,.0f} epochs"
        return Forecast(loss=None, interval=None, text=reason)
    refusal = _own_law(law, text) if fitted else _published_law(text.tokenizer, text.vocab_size)
    if refusal:
        return Forecast(loss=None, interval=None, text=refusal)
    loss, interval = law.law.loss(n_parameters, n_tokens), law.loss_interval(n_parameters, n_tokens)
    between = f" ({interval.low:.3f} to {interval.high:.3f}: nine runs in ten)" if interval else ""
    factor = law.beyond(n_parameters, n_tokens)
    limits = f", {times_text(factor)} times outside the range of the runs it was fitted to" if factor > 1 else ""
    if fitted and fitted.holds_for(text) is None:
        limits += "; it is not known whether its text is the same, only that the names agree"
    if not fitted:
        limits += f"; another text and other tokens than {text.corpus}: a rough guide without an interval"
    return Forecast(loss=loss, interval=interval, text=f"{loss:.3f} nats a token{between} by {law.name}{limits}")


def _published_law(tokenizer: str, vocab_size: int) -> str | None:
    low, high = VOCABULARIES
    if low <= vocab_size <= high:
        return None
    return (
        f"no published law applies: they hold for vocabularies of {low:,} to {high:,} tokens, and {tokenizer} has "
        f"{vocab_size:,} here; minigpt scaling fits one to your own runs"
    )


def _own_law(fitted: FittedLaw, text: TextInTokens) -> str | None:
    if fitted.holds_for(text) is not False:
        return None
    ours, theirs = ((each.corpus, each.tokenizer, each.vocab_size) for each in (fitted, text))
    if ours == theirs:
        other = (
            "text"
            if False in {fitted.data.same_held_out(text.data), fitted.data.same_training(text.data)}
            else "tokenizer"
        )
        return f"the law of {fitted.name} is for another {other} of the same name"
    sentence = "the law of {} is for {} in {} tokens of {}, this run for {} in {} tokens of {}"
    return sentence.format(
        fitted.name, ours[0], f"{ours[2]:,}", ours[1], text.corpus, f"{text.vocab_size:,}", text.tokenizer
    )


def compute_optimal(flops: float) -> tuple[float, float]:
    """Parameters and tokens at TOKENS_PER_PARAMETER for so many FLOPs = 6 N D."""
    n_parameters = math.sqrt(flops / (6 * TOKENS_PER_PARAMETER))
    return n_parameters, TOKENS_PER_PARAMETER * n_parameters
