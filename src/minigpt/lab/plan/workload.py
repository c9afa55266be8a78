"""What a run will do, as far as that decides what it costs."""

from dataclasses import dataclass

from minigpt.data.token_estimate import TextOutlook
from minigpt.lab.scaling.law import TextInTokens
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, forward_flops_per_token, parameter_count
from minigpt.optim.config import OptimConfig


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A config, resolved: every number that time, memory, disk and money follow from."""

    config: GPTConfig
    optim: OptimConfig
    text: TextOutlook
    corpus: str
    tokenizer: str
    batch_size: int
    """Windows in a batch, those of all devices together."""
    accumulate: int
    max_steps: int
    eval_every: int
    eval_batches: int
    save_every: int
    keep: int
    sample_every: int
    sample_tokens: int
    precision: str
    """Full name of `trainer.precision`."""
    strategy: str
    """`single` or `ddp`."""
    devices: int
    compiled: bool = False
    """Whether the loss goes through torch.compile."""

    @property
    def text_in_tokens(self) -> TextInTokens:
        """What its losses are of."""
        return TextInTokens(
            corpus=self.corpus,
            tokenizer=self.tokenizer,
            vocab_size=self.text.vocab_size,
            data=self.text.identity,
            tokenizer_fingerprint=self.text.tokenizer_fingerprint,
        )

    @property
    def n_parameters(self) -> int:
        """Trained values."""
        return parameter_count(self.config)

    @property
    def tokens_per_batch(self) -> int:
        """Of all devices together."""
        return self.batch_size * self.config.block_size

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from."""
        return self.tokens_per_batch * self.accumulate

    @property
    def tokens(self) -> int:
        """Tokens that the whole run learns from, each pass over the data counted."""
        return self.tokens_per_step * self.max_steps

    @property
    def passes(self) -> float:
        """Times that the run sees its training text."""
        return self.tokens / self.text.train_tokens

    @property
    def windows_per_device(self) -> int:
        """The largest share of a batch that one device gets."""
        return -(-self.batch_size // self.devices)

    @property
    def flops(self) -> int:
        """Of training alone."""
        return self.tokens * flops_per_token(self.config)

    @property
    def evaluation_flops(self) -> int:
        """Of all validations."""
        per_evaluation = self.batches_per_evaluation * self.tokens_per_batch
        return self.n_evaluations * per_evaluation * forward_flops_per_token(self.config)

    @property
    def batches_per_evaluation(self) -> int:
        """`eval_batches`, or all that the held-out text has."""
        windows = max(0, self.text.val_tokens - 1) // self.config.block_size
        return max(1, min(self.eval_batches, -(-windows // self.batch_size)))

    @property
    def n_evaluations(self) -> int:
        """One at every `eval_every`-th step, and one at the last."""
        return -(-self.max_steps // self.eval_every)

    @property
    def n_saves(self) -> int:
        """Checkpoints that are written: one at every `save_every`-th step, and one at the last."""
        return -(-self.max_steps // self.save_every)

    @property
    def n_samples(self) -> int:
        """Texts that are sampled on the way."""
        return -(-self.max_steps // self.sample_every) if self.sample_every else 0
