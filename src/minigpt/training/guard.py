"""Look at each step before its update: one whose loss or gradient is not finite, or whose loss spikes, is kept aside,
and the run stops or goes on without it."""

import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from minigpt.divergence import Batch, Bundle, write_bundle
from minigpt.errors import CheckpointError, TrainingError
from minigpt.replay import norms_by_tensor
from minigpt.text.tokenizers import Tokenizer
from minigpt.training.config import DivergencePolicy
from minigpt.training.module import GPTModule
from minigpt.training.position import batches_done

WINDOW = 100
"""Losses that a spike is measured against."""
LEAST = 20
"""Losses that must be there before anything is called a spike."""
PATIENCE = 10
"""Steps in a row that may be skipped; then the weights themselves are taken to be spoilt."""
OVERFLOWS = 30
"""Steps in a row whose gradient may overflow under float16. Each halves the scale of the loss, which begins at 2^16
(torch.amp.GradScaler): thirty bring it to 2^-14, the smallest normal number of float16, and no gradient needs less.
fairseq gives up at about the same scale (`--min-loss-scale`, 1e-4)."""
KEPT_BUNDLES = 3


class DivergenceGuard(Callback):
    """Judge every step by its loss and its gradient, before clipping and update: the weights are still good then.

    The loss is read on every step, which on a GPU waits for the backward pass.
    """

    def __init__(
        self,
        folder: Path,
        policy: DivergencePolicy,
        spike_threshold: float | None,
        *,
        tokenizer: Tokenizer,
        same_run: bool = True,
        same_text: bool = True,
    ) -> None:
        """Bundles go to `folder`; `spike_threshold` is in standard deviations, None calls nothing a spike.

        `same_run` and `same_text` say what a restored state tells about: a branch has skipped nothing yet, but its
        losses go on from its parent's; with another text they are none to compare with.
        """
        self.folder = folder
        self.policy = policy
        self.spike_threshold = spike_threshold
        self.tokenizer = tokenizer
        self.same_run = same_run
        self.same_text = same_text
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.skipped = 0
        """Steps that were skipped since the run began."""
        self._in_a_row = 0
        self._overflows = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the module ask before each update."""
        assert isinstance(pl_module, GPTModule)
        pl_module.admit = lambda: self.admit(trainer, pl_module)

    def admit(self, trainer: Trainer, module: GPTModule) -> bool:
        """Whether the gradient at hand may be used; raises TrainingError where the run must stop."""
        loss, judged = self._losses(trainer, module)
        grad_norm = float(module.grad_norm) if module.grad_norm is not None else 0.0
        reason = self.verdict(judged, self._within_scale(trainer, grad_norm))
        if reason is None:
            self.losses.append(loss)
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        step = trainer.global_step + 1
        bundle = self._bundle(trainer, module, reason)  # all processes have a part in it
        path = self._keep(bundle) if trainer.is_global_zero else None
        if self.policy == "skip" and self._in_a_row < PATIENCE and self._overflows < OVERFLOWS:
            return False
        if not trainer.is_global_zero:  # the verdict is shared, and one line says it
            raise SystemExit(TrainingError.exit_code)
        in_a_row = max(self._in_a_row, self._overflows)
        often = f", the {in_a_row}th step in a row" if in_a_row >= PATIENCE else ""
        look = f"; minigpt replay {path} shows the step" if path else ""
        raise TrainingError(f"{reason} at step {step}{often} {_advice(module.optim.lr)}{look}")

    def verdict(self, loss: float, grad_norm: float) -> str | None:
        """What is wrong with a step of this loss and this gradient norm, or None."""
        if not math.isfinite(loss):
            return f"the loss is not finite ({loss:g})"
        if not math.isfinite(grad_norm):
            return f"the gradient is not finite (its norm is {grad_norm:g})"
        if self.spike_threshold is not None and len(self.losses) >= LEAST:
            mean, deviation = statistics.fmean(self.losses), statistics.pstdev(self.losses)
            if loss > mean + self.spike_threshold * deviation:
                return (
                    f"the loss {loss:.4f} spikes: more than run.spike_threshold={self.spike_threshold:g} standard "
                    f"deviations ({deviation:.4f}) above {mean:.4f}, the mean of the last {len(self.losses)} steps,"
                )
        return None

    def _losses(self, trainer: Trainer, module: GPTModule) -> tuple[float, float]:
        """The loss to remember and the one to judge by, which must be the same on all processes."""
        loss = float(module.step_loss)
        if trainer.world_size == 1:
            return loss, loss
        if self.spike_threshold is None and trainer.precision != "16-mixed":
            # Nothing to exchange: a loss that is no number has such gradients, and these are shared already.
            return loss, 0.0
        mean = float(trainer.strategy.reduce(module.step_loss.clone(), reduce_op="mean"))
        return mean, mean

    def _within_scale(self, trainer: Trainer, grad_norm: float) -> float:
        """The gradient norm to judge by. Under float16 an infinite one is everyday, at first above all: the scaler
        skips the step and lowers its scale. But not for ever."""
        if trainer.precision != "16-mixed":
            return grad_norm
        self._overflows = 0 if math.isfinite(grad_norm) else self._overflows + 1
        return grad_norm if self._overflows >= OVERFLOWS else 0.0

    def _bundle(self, trainer: Trainer, module: GPTModule, reason: str) -> Bundle:
        """The step at hand."""
        batches, losses = module.accumulated()
        gathered, all_losses = _of_all_processes(trainer, module, batches, losses)
        optimizer = trainer.optimizers[0].state_dict()
        return Bundle(
            reason=reason,
            step=trainer.global_step + 1,
            # The last of them is not counted as done yet.
            batch=batches_done(trainer) - len(batches) + 1,
            seed=module.seed,
            world=trainer.world_size,
            precision=str(trainer.precision),
            loss_scale=_loss_scale(trainer),
            clip_val=trainer.gradient_clip_val,
            clip_algorithm=trainer.gradient_clip_algorithm and str(trainer.gradient_clip_algorithm.value),
            config=module.gpt.config,
            tokenizer=self.tokenizer,
            losses=all_losses,
            grad_norm=float(module.grad_norm) if module.grad_norm is not None else math.nan,
            grad_norms=norms_by_tensor(
                {name: weight.grad for name, weight in module.gpt.named_parameters() if weight.grad is not None}
            ),
            batches=gathered,
            weights=module.gpt.state_dict(),
            optimizer_name=module.optim.name,
            optimizer=optimizer,
        )

    def _keep(self, bundle: Bundle) -> Path | None:
        """Write the bundle and let go of the oldest; a full disk must not hide the reason."""
        path = self.folder / f"step={bundle.step:08d}.pt"
        try:
            write_bundle(path, bundle)
        except CheckpointError:
            return None
        for old in sorted(self.folder.glob("step=*.pt"))[:-KEPT_BUNDLES]:
            old.unlink()
        return path

    def state_dict(self) -> dict[str, Any]:
        """The losses that a spike is measured against: a resumed run must judge as the straight one would."""
        return {
            "losses": list(self.losses),
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
            "overflows": self._overflows,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from those, as far as they tell about what is to come."""
        if self.same_text:
            self.losses = deque(state_dict["losses"], maxlen=WINDOW)
            self._in_a_row = state_dict["in_a_row"]
        if self.same_run:
            self.skipped = state_dict["skipped"]
        self._overflows = state_dict["overflows"]  # belongs to the scale of the loss, which is restored too


def _of_all_processes(
    trainer: Trainer, module: GPTModule, batches: list[Batch], losses: list[float]
) -> tuple[list[Batch], list[float]]:
    """Batches and losses of every process, one process after another: the gradient is the mean of them all."""
    if trainer.world_size == 1:
        return batches, losses
    pairs = _gathered(torch.stack([torch.stack([tokens, targets]) for tokens, targets in batches]))
    all_losses = _gathered(torch.tensor(losses, dtype=torch.float64, device=module.device))
    return [(tokens, targets) for tokens, targets in pairs], all_losses.tolist()


def _gathered(mine: Tensor) -> Tensor:
    """(N, ...) of each process -> (processes * N, ...)."""
    parts = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, mine)
    return torch.cat(parts)


def _loss_scale(trainer: Trainer) -> float:
    plugin = trainer.precision_plugin
    return float(plugin.scaler.get_scale()) if isinstance(plugin, MixedPrecision) and plugin.scaler else 1.0


def check_weights(trainer: Trainer) -> None:
    """Raise TrainingError if any weight is not finite: such a checkpoint must not be written."""
    module = trainer.lightning_module
    assert isinstance(module, GPTModule)
    norm = torch.nn.utils.get_total_norm(list(module.parameters()))
    if not torch.isfinite(norm):
        step = trainer.global_step
        raise TrainingError(f"the weights are not finite after step {step} {_advice(module.optim.lr)}")


def _advice(lr: float) -> str:
    return (
        f"(optim.lr={lr:g}): nothing was saved since; lower optim.lr or trainer.gradient_clip_val, and go on from the "
        "last checkpoint with --ckpt_path last"
    )
