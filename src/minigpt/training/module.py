"""The LightningModule: which loss is descended, by which optimizer, at which rate. The mathematics is in model/ and
optim/."""

import operator
from collections import deque
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_

from minigpt.data.batches import Batch
from minigpt.data.round_trip import ByteCorrection
from minigpt.errors import CheckpointError
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer, set_for_step
from minigpt.optim.config import OptimConfig
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.randomness import seed_dropout
from minigpt.training.metrics import LanguageModelMetrics
from minigpt.training.position import batches_done, check_position
from minigpt.training.whole_steps import rewind


class GPTModule(pl.LightningModule):
    """A GPT under training.

    A batch is (x, y), both int64 (B, T), y being x one token on. The learning rate and the random numbers of dropout
    are pure functions of the step, so a resumed run needs nothing but its counters.

    `run.module: my_ideas.Distilled` names a subclass to train with in its place. It may override

    - `loss`, for another objective. `self.gpt` is the model, `self.next_token_loss(x, y)` the usual loss, compiled if
      the run is. The validation goes on to measure the next-token loss, so that its curves compare with other runs';
    - any hook of a LightningModule that `GPTModule` does not define (`on_train_batch_end`, ...), or one that it does,
      calling `super()`, for an extra step;
    - `__init__(*args, **kwargs)`, calling `super().__init__(*args, **kwargs)` first, for state of its own. Buffers,
      and parameters without gradients (a teacher's), are saved and restored with the checkpoint; what a list or a dict
      holds is not. Trained are the parameters of `self.gpt` alone.

    A resume is exact if all that changes during training is in buffers or follows from `self.trainer.global_step`.
    """

    def __init__(
        self,
        gpt: GPT,
        optim: OptimConfig,
        token_bytes: np.ndarray,
        *,
        correction: ByteCorrection | None = None,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        """`token_bytes` (V,) are the bytes that each token stands for, `correction` what their sum lacks to be those of
        the text; `compiled` runs the loss through torch.compile."""
        super().__init__()
        self.gpt = gpt
        self.optim = optim
        self.seed = seed
        # In a list, so that it is no part of the module: a bf16 module would round the sums.
        self._metrics = [LanguageModelMetrics(torch.from_numpy(token_bytes), correction)]
        # Compiled is the function, not the module: the keys of the checkpoint stay those of the plain model.
        self.next_token_loss: Callable[..., Tensor] = torch.compile(gpt.loss) if compiled else gpt.loss
        """`GPT.loss`: (x, y) -> mean loss (), nats per token; `reduction="none"` gives (B, T)."""
        self.grad_norm: Tensor | None = None
        """Norm of the gradient of the last optimizer step before it was clipped, on the device."""
        self.grad_norms: dict[str, Tensor] = {}
        """The same of each tensor of the GPT that has a gradient."""
        self.admit: Callable[[], bool] | None = None
        """Asked before each update, when `step_loss` and `grad_norm` are known: False leaves the step out."""
        self._held: list[nn.Parameter] = []
        self._named: list[tuple[str, nn.Parameter]] = []
        self._micro_losses: deque[Tensor] = deque(maxlen=1)
        self._micro_batches: deque[Batch] = deque(maxlen=1)

    def __setattr__(self, name: str, value: Any) -> None:
        """As any module, but for the name of the hook at work, which Lightning sets twenty times a step: torch would
        look among parameters, buffers and modules for it each time."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def step_loss(self) -> Tensor:
        """Mean loss of the batches of the last optimizer step, on the device: reading it as a number waits for the
        device."""
        losses = tuple(self._micro_losses)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _trained(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
        """`gpt.named_parameters()` without the walk through all modules, half a millisecond a step: they are walked
        when `optimizer` holds other parameters than the last time, as after a callback that replaced some.

        Not in the order of the optimizer's groups: the sum of the norm is that of a loop by hand, to the last bit.
        """
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if len(held) != len(self._held) or not all(map(operator.is_, held, self._held)):
            self._held[:] = held
            self._named[:] = self.gpt.named_parameters()
        return self._named

    def accumulated(self) -> tuple[list[Batch], list[Tensor]]:
        """The batches of the step at hand, and their losses, on the device."""
        return list(self._micro_batches), list(self._micro_losses)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimizer; Lightning steps, clips and accumulates."""
        # The fused kernel unscales fp16 gradients itself, which would come after clipping.
        return build_optimizer(self.gpt, self.optim, fused=self.trainer.precision != "16-mixed")

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Measure the gradient, then clip it by `trainer.gradient_clip_val` and `trainer.gradient_clip_algorithm`.

        Not left to Lightning, whose mixed precision refuses to clip before a fused optimizer: rightly under fp16, but
        under bf16 nothing is scaled. The norm is needed for the curves anyway.
        """
        trained = self._trained(optimizer)
        gradients = {name: (parameter, parameter.grad) for name, parameter in trained if parameter.grad is not None}
        parameters = [parameter for parameter, _ in gradients.values()]
        norms = torch._foreach_norm([gradient for _, gradient in gradients.values()])
        self.grad_norms = dict(zip(gradients, norms, strict=True))
        self.grad_norm = torch.linalg.vector_norm(torch.stack(norms))  # as get_total_norm, to the last bit
        if self.admit is not None and not self.admit():
            for parameter in parameters:  # without a gradient the optimizer leaves a weight and its averages alone
                parameter.grad = None
            return
        if gradient_clip_val and gradient_clip_algorithm == "value":
            clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            clip_grads_with_norm_(parameters, gradient_clip_val, self.grad_norm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from whole steps; Lightning calls this before it restores weights and position."""
        ours, theirs = (
            {key for key in keys if "gpt." not in key} for keys in (self.state_dict(), checkpoint["state_dict"])
        )
        if ours != theirs:
            which = ", ".join(sorted(ours ^ theirs))
            raise CheckpointError(
                f"run.module: only one of {type(self).__name__} and the checkpoint's module keeps {which}"
            )
        check_position(checkpoint.get("loops", {}).get("fit_loop"), self.trainer.fit_loop.state_dict())
        rewind(checkpoint)

    def on_fit_start(self) -> None:
        """Use the CPU kernels, where the strategy has left the model on the CPU."""
        use_cpu_kernels(self.gpt)

    def on_train_start(self) -> None:
        """Make room for the batches of a step."""
        self._micro_losses = deque(maxlen=self.trainer.accumulate_grad_batches)
        self._micro_batches = deque(maxlen=self.trainer.accumulate_grad_batches)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set what is a function of the step: dropout's random numbers, the learning rate, momentum."""
        seed_dropout(self.seed, self.global_rank, batches_done(self.trainer), self.device)
        set_for_step(self._optimizer(), self.optim, self.trainer.global_step, self.trainer.max_steps)

    def loss(self, batch: Batch) -> Tensor:
        """The loss () that training minimises: here the mean next-token loss of the batch in nats per token."""
        return self.next_token_loss(*batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of the batch, noted for the curves and the divergence guard."""
        loss = self.loss(batch)
        self._micro_losses.append(loss.detach())
        self._micro_batches.append(batch)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to count anew."""
        self._metrics[0] = self._metrics[0].to(self.device)
        self._metrics[0].reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch; the numbers are put together once, at the end."""
        tokens, targets = batch
        self._metrics[0].update(self.next_token_loss(tokens, targets, reduction="none"), targets, tokens)

    def on_validation_epoch_end(self) -> None:
        """Offer `val_loss`, `val_perplexity` and `val_bits_per_byte` to callbacks (`monitor: val_loss`)."""
        results = {f"val_{name}": value.float() for name, value in self._metrics[0].compute().items()}
        # The curves are written by training/callbacks/curves.py, with x = optimizer steps done.
        self.log_dict(results, logger=False, sync_dist=False, rank_zero_only=False)

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]
