"""The training loops that are compared: our model in a bare loop, and `transformers`' GPT-2 of the same shape."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.profiler import record_function

from minigpt.data.batches import Batch, TrainBatches, TrainOrder, Windows
from minigpt.lab.bench.setting import Setting
from minigpt.model.config import GATED_ACTIVATIONS, GPTConfig
from minigpt.model.gpt import GPT
from minigpt.model.sizes import flops_per_token
from minigpt.optim.build import build_optimizer, set_for_step
from minigpt.optim.config import OptimConfig
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.extras import import_extra
from minigpt.system.precision import autocast, weights_dtype
from minigpt.system.randomness import seed_dropout

PHASES = ("batch", "forward", "backward", "update")
"""The phases of a step, as named in a profile."""


@dataclass(eq=False)
class BareLoop:
    """A minimal training loop: batch, loss, gradient, clipping, update.

    Nothing is logged, checked or saved. Each call of `run` continues where the last one stopped.
    """

    setting: Setting
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    """(B, T) tokens and targets -> () mean loss."""
    optim: OptimConfig
    flops_per_token: int

    def __post_init__(self) -> None:
        setting = self.setting
        self.model.to(setting.device, weights_dtype(setting.precision)).train()
        if setting.experiment.run.compile:
            self.loss = torch.compile(self.loss)
        self.fp16 = setting.precision == "16-mixed"
        self.optimizer = build_optimizer(self.model, self.optim, fused=not self.fp16)
        self.scaler = torch.amp.GradScaler(setting.device.type, enabled=self.fp16)
        windows = Windows(setting.prepared.train.shards, setting.config.block_size)
        order = TrainOrder(windows, setting.experiment.seed_everything)
        self.batches = TrainBatches(order, setting.experiment.data.batch_size)
        self.done = 0
        """Optimizer steps so far."""

    def run(self, steps: int) -> None:
        """Run a number of optimizer steps."""
        for _ in range(steps):
            self._step()

    def _step(self) -> None:
        setting, accumulate = self.setting, self.setting.accumulate
        trainer = setting.experiment.trainer
        set_for_step(self.optimizer, self.optim, self.done, trainer["max_steps"])
        self.optimizer.zero_grad()
        for number in range(self.done * accumulate, (self.done + 1) * accumulate):
            with record_function("batch"):
                x, y = self._batch(number)
            seed_dropout(setting.experiment.seed_everything, 0, number, setting.device)
            with record_function("forward"), autocast(setting.precision, setting.device):
                loss = self.loss(x, y) / accumulate
            with record_function("backward"):
                self.scaler.scale(loss).backward()
        with record_function("update"):
            self.scaler.unscale_(self.optimizer)
            if trainer["gradient_clip_val"]:
                clip_grad_norm_(self.model.parameters(), trainer["gradient_clip_val"])
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.done += 1

    def _batch(self, number: int) -> Batch:
        x, y = self.batches[number]
        if self.setting.device.type == "cuda":  # a copy from pinned memory is asynchronous
            x, y = x.pin_memory(), y.pin_memory()
        return x.to(self.setting.device, non_blocking=True), y.to(self.setting.device, non_blocking=True)


def our_loop(setting: Setting) -> BareLoop:
    """Our GPT and its optimizer, as `minigpt fit` builds them."""
    torch.manual_seed(setting.experiment.seed_everything)
    gpt = use_cpu_kernels(GPT(setting.config).to(setting.device))
    return BareLoop(setting, gpt, gpt.loss, setting.experiment.optim, flops_per_token(setting.config))


def transformers_loop(setting: Setting) -> BareLoop:
    """`transformers`' GPT-2 of the same shape, with AdamW at the same settings, and the loss that it computes itself.

    Raises ConfigError if `transformers` is not installed.
    """
    transformers = import_extra("transformers", "--against transformers", "transformers")
    transformers.utils.logging.set_verbosity_error()
    config = gpt2_of_the_shape(setting.config)
    torch.manual_seed(setting.experiment.seed_everything)
    model: Any = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_inner=config.n_ff,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
        )
    )

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        # It shifts the labels itself, so the tokens are passed twice, as its users do.
        del targets
        result: Tensor = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        return result

    return BareLoop(setting, model, loss, setting.experiment.optim.for_optimizer("adamw"), flops_per_token(config))


def gpt2_of_the_shape(config: GPTConfig) -> GPTConfig:
    """GPT-2 with the depth, widths, vocabulary, window and dropout of `config`.

    A gated feed-forward layer becomes GPT-2's with 4 C channels, which has as many parameters as one with 8/3 C gated
    channels.
    """
    return GPTConfig(
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_ff=None if config.activation in GATED_ACTIVATIONS else config.n_ff,
        dropout=config.dropout,
        activation="gelu_tanh",
    )


CONTENDERS: dict[str, Callable[[Setting], BareLoop]] = {"transformers": transformers_loop}
"""The values of `--against`."""
