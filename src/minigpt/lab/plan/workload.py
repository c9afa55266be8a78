"""The workload of a run: everything that decides what it costs."""

from dataclasses import dataclass

from minigpt.data.token_estimate import TextOutlook
from minigpt.lab.scaling.law import TextInTokens
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, forward_flops_per_token, parameter_count
from minigpt.optim.config import OptimConfig


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The numbers of a resolved config that time, memory, disk space and price follow from."""

    config: GPTConfig
    optim: OptimConfig
    text: TextOutlook
    corpus: str
    tokenizer: str
    batch_size: int
    """Windows in a batch, of all devices together."""
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
        """The text and tokenizer that its losses refer to."""
        return TextInTokens(
            corpus=self.corpus,
            tokenizer=self.tokenizer,
            vocab_size=self.text.vocab_size,
            data=self.text.identity,
            tokenizer_fingerprint=self.text.tokenizer_fingerprint,
        )

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return parameter_count(self.config)

    @property
    def tokens_per_batch(self) -> int:
        """Tokens in a batch, of all devices together."""
        return self.batch_size * self.config.block_size

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one optimizer step."""
        return self.tokens_per_batch * self.accumulate

    @property
    def tokens(self) -> int:
        """Tokens of the whole run, counted in every epoch."""
        return self.tokens_per_step * self.max_steps

    @property
    def epochs(self) -> float:
        """Epochs over the training text."""
        return self.tokens / self.text.train_tokens

    @property
    def windows_per_device(self) -> int:
        """The largest number of windows of a batch on one device."""
        return -(-self.batch_size // self.devices)

    @property
    def flops(self) -> int:
        """FLOPs of training, without validation."""
        return self.tokens * flops_per_token(self.config)

    @property
    def evaluation_flops(self) -> int:
        """FLOPs of all validations."""
        per_evaluation = self.batches_per_evaluation * self.tokens_per_batch
        return self.n_evaluations * per_evaluation * forward_flops_per_token(self.config)

    @property
    def batches_per_evaluation(self) -> int:
        """`eval_batches`, or all batches of the held-out text if they are fewer."""
        windows = max(0, self.text.val_tokens - 1) // self.config.block_size
        return max(1, min(self.eval_batches, -(-windows // self.batch_size)))

    @property
    def n_evaluations(self) -> int:
        """Validations: at every `eval_every`-th step and at the last."""
        return -(-self.max_steps // self.eval_every)

    @property
    def n_saves(self) -> int:
        """Checkpoints written: at every `save_every`-th step and at the last."""
        return -(-self.max_steps // self.save_every)

    @property
    def n_samples(self) -> int:
        """Texts sampled during training."""
        return -(-self.max_steps // self.sample_every) if self.sample_every else 0
