"""Text sampled on the way, so that one can read how a model learns."""

from lightning.pytorch import LightningModule, Trainer

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import ConfigError, DataError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.text import encode_prompt, generate_text
from minigpt.training.config import SAMPLE_TOKENS
from minigpt.training.loggers.tensorboard import RunTensorBoard
from minigpt.training.module import GPTModule
from minigpt.training.position import EveryStep, TrainingClock


class Samples(EveryStep):
    """Sample a text every N steps, always with the same prompt and the same seed, and show it in TensorBoard.

    The samples have a generator of their own: taking more of them changes no bit of the training.
    """

    def __init__(self, every: int, prompt: str, tokenizer: Tokenizer, clock: TrainingClock, seed: int = 0) -> None:
        self.every = every
        self.prompt = prompt
        self.tokenizer = tokenizer
        self.clock = clock
        self.options = SamplingOptions(max_new_tokens=SAMPLE_TOKENS, seed=seed)
        if every:
            self._check_prompt()
        self.latest: str | None = None

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Sample at every N-th step and at the last one."""
        due = self.every and (step % self.every == 0 or step == trainer.max_steps)
        if not (due and trainer.is_global_zero):
            return
        assert isinstance(pl_module, GPTModule)
        with self.clock.pause():
            self.latest = self._sample(pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, RunTensorBoard):
                logger.log_text("sample", self.latest, step)

    def _check_prompt(self) -> None:
        """Raise ConfigError before training for a prompt that this tokenizer cannot read."""
        try:
            encode_prompt(self.tokenizer, self.prompt)
        except DataError as error:
            raise ConfigError(
                f"run.sample_prompt={self.prompt!r}: {error}; give another prompt, or run.sample_every=0"
            ) from error

    def _sample(self, module: GPTModule) -> str:
        module.gpt.eval()
        text = self.prompt + "".join(generate_text(module.gpt, self.tokenizer, self.prompt, self.options))
        module.gpt.train()
        return text
