"""Look at each step before its update: one whose loss or gradient is not finite, or whose loss spikes, is kept aside,
and the run stops or goes on without it."""

import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from minigpt.divergence import Bundle, norms_by_tensor, write_bundle
from minigpt.errors import CheckpointError, TrainingError
from minigpt.training.config import DivergencePolicy
from minigpt.training.module import GPTModule
from minigpt.training.position import batches_done

WINDOW = 100
"""Losses that a spike is measured against."""
LEAST = 20
"""Losses that must be there before anything is called a spike."""
PATIENCE = 10
"""Steps in a row that may be skipped; then the weights themselves are taken to be spoilt."""
KEPT_BUNDLES = 3


class DivergenceGuard(Callback):
    """Judge every step by its loss and its gradient, before clipping and update: the weights are still good then.

    The loss is read on every step, which on a GPU waits for the backward pass.
    """

    def __init__(
        self, folder: Path, policy: DivergencePolicy, spike_threshold: float | None, *, tokenizer_json: str
    ) -> None:
        """Bundles go to `folder`; `spike_threshold` is in standard deviations, None calls nothing a spike."""
        self.folder = folder
        self.policy = policy
        self.spike_threshold = spike_threshold
        self.tokenizer_json = tokenizer_json
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.skipped = 0
        """Steps that were skipped since the run began."""
        self._in_a_row = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the module ask before each update."""
        assert isinstance(pl_module, GPTModule)
        pl_module.admit = lambda: self.admit(trainer, pl_module)

    def admit(self, trainer: Trainer, module: GPTModule) -> bool:
        """Whether the gradient at hand may be used; raises TrainingError where the run must stop."""
        loss, judged = self._losses(trainer, module)
        reason = self.verdict(judged, self._grad_norm(trainer, module))
        if reason is None:
            self.losses.append(loss)
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        step = trainer.global_step + 1
        path = self._keep(trainer, module, reason) if trainer.is_global_zero else None
        if self.policy == "skip" and self._in_a_row < PATIENCE:
            return False
        if not trainer.is_global_zero:  # the verdict is shared, and one line says it
            raise SystemExit(TrainingError.exit_code)
        often = f", the {PATIENCE}th step in a row" if self.policy == "skip" else ""
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

    def _grad_norm(self, trainer: Trainer, module: GPTModule) -> float:
        # Under fp16 an infinite gradient is everyday: the scaler skips the step and lowers its scale.
        if trainer.precision == "16-mixed" or module.grad_norm is None:
            return 0.0
        return float(module.grad_norm)

    def _keep(self, trainer: Trainer, module: GPTModule, reason: str) -> Path | None:
        """Write the bundle of this step and let go of the oldest; a full disk must not hide the reason."""
        batches, losses = module.accumulated()
        bundle = Bundle(
            reason=reason,
            step=trainer.global_step + 1,
            # The last of them is not counted as done yet.
            batch=batches_done(trainer) - len(batches) + 1,
            seed=module.seed,
            rank=module.global_rank,
            precision=str(trainer.precision),
            config=module.gpt.config.to_dict(),
            tokenizer=self.tokenizer_json,
            losses=losses,
            grad_norm=float(module.grad_norm) if module.grad_norm is not None else math.nan,
            grad_norms=norms_by_tensor(
                {name: weight.grad for name, weight in module.gpt.named_parameters() if weight.grad is not None}
            ),
            batches=batches,
            weights=module.gpt.state_dict(),
            optimizer=trainer.optimizers[0].state_dict(),
        )
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
        return {"losses": list(self.losses), "skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from those."""
        self.losses = deque(state_dict["losses"], maxlen=WINDOW)
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]


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
