"""Text sampled on the way, so that one can read how a model learns."""

import torch
from lightning.pytorch import LightningModule, Trainer

from minigpt.sampling import generate_tokens
from minigpt.sampling_options import SamplingOptions
from minigpt.text.tokenizers import Tokenizer
from minigpt.training.clock import TrainingClock
from minigpt.training.module import GPTModule
from minigpt.training.position import EveryStep
from minigpt.training.tensorboard import RunTensorBoard


class Samples(EveryStep):
    """Sample a text every N steps, always with the same prompt and the same seed, and show it in TensorBoard.

    The samples have a generator of their own: taking more of them changes no bit of the training.
    """

    def __init__(self, every: int, prompt: str, tokenizer: Tokenizer, clock: TrainingClock, seed: int = 0) -> None:
        self.every = every
        self.prompt = prompt
        self.tokenizer = tokenizer
        self.clock = clock
        self.options = SamplingOptions(max_new_tokens=200, seed=seed)
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

    def _sample(self, module: GPTModule) -> str:
        prompt = torch.tensor([self.tokenizer.encode(self.prompt)], device=module.device)
        module.gpt.eval()
        drawn = [
            int(token)
            for token in generate_tokens(module.gpt, prompt, self.options, valid_vocab=self.tokenizer.vocab_size)
        ]
        module.gpt.train()
        return self.prompt + self.tokenizer.decode(drawn)
