"""Check each step before its update: if its loss or gradient is not finite, or its loss spikes, write a divergence
snapshot, then stop the run or skip the step."""

import math
import statistics
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import CheckpointError, TrainingError
from minigpt.optim.build import skips_on_device
from minigpt.runs.divergence_snapshot import DivergenceSnapshot, write_snapshot
from minigpt.runs.paths import CHECKPOINTS, step_paths
from minigpt.training.callbacks.step_snapshots import Observed, observe, snapshot_of
from minigpt.training.config import DivergencePolicy
from minigpt.training.last import resume_command
from minigpt.training.module import GPTModule
from minigpt.training.position import EveryStep, checked_count

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
KEPT_SNAPSHOTS = 3


class DivergenceGuard(EveryStep):
    """Judge every step by its loss and its gradient, before clipping and update: the weights are still good then.

    On a GPU, where to read the loss is to wait for the backward pass, the device itself leaves out an update whose loss
    or gradient is not finite, and the host judges the step while the next one is computed. Where the host alone can
    judge (a spike among the last losses, float16's scale), it waits.
    """

    def __init__(
        self,
        folder: Path,
        policy: DivergencePolicy,
        spike_threshold: float | None,
        *,
        tokenizer: Tokenizer,
        shown: Path | None = None,
        report_intervals: Collection[int] = (),
        same_run: bool = True,
        same_text: bool = True,
    ) -> None:
        """Snapshots go to `folder`; `spike_threshold` is in standard deviations, None calls nothing a spike.

        `shown` is the run's folder as messages name it. `report_intervals` are the numbers of steps
        after which something of a step is shown: it is judged before that. `same_run` and `same_text` say what of a
        restored state applies: a branch has skipped nothing yet, but its losses go on from its parent's; losses on
        another text do not compare.
        """
        self.folder = folder
        self.policy = policy
        self.spike_threshold = spike_threshold
        self.tokenizer = tokenizer
        self.shown = shown or folder.parent
        self.report_intervals = frozenset(report_intervals) - {0}
        self.same_run = same_run
        self.same_text = same_text
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.skipped = 0
        """Steps that were skipped since the run began."""
        self._in_a_row = 0
        self._overflows = 0
        self._later = False
        self._pending: Observed | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the module ask before each update."""
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, GPTModule)
        pl_module.admit = lambda: self.admit(trainer, pl_module)
        exact = self.spike_threshold is not None or trainer.precision == "16-mixed"
        self._later = reading_waits(pl_module.device) and skips_on_device(trainer.optimizers[0]) and not exact

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Judge a pending step before anything of it is reported."""
        if step == trainer.max_steps or any(step % every == 0 for every in self.report_intervals):
            self.settle(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the step that is still pending."""
        self.settle(trainer)

    def admit(self, trainer: Trainer, module: GPTModule) -> bool:
        """Whether the gradient at hand may be used; raises TrainingError where the run must stop."""
        seen = observe(trainer, module)
        if not self._later:
            return self._judge(trainer, module, seen)
        self.settle(trainer)
        # What GradScaler sets as well: the optimizer's kernels leave the update out where this is 1.
        trainer.optimizers[0].found_inf = seen.bad()  # type: ignore[attr-defined]
        self._pending = seen
        return True

    def settle(self, trainer: Trainer) -> None:
        """Judge the step that is done but was not judged yet; raises TrainingError where the run must stop."""
        seen, self._pending = self._pending, None
        if seen is not None:
            assert isinstance(trainer.lightning_module, GPTModule)
            self._judge(trainer, trainer.lightning_module, seen)

    def _judge(self, trainer: Trainer, module: GPTModule, seen: Observed) -> bool:
        loss, grad_norm = seen.numbers.read()
        loss, judged = self._losses(trainer, module, loss)
        reason = self.verdict(judged, self._within_scale(trainer, grad_norm))
        if reason is None:
            self.losses.append(loss)
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        snapshot = snapshot_of(seen, trainer, module, reason=reason, grad_norm=grad_norm, tokenizer=self.tokenizer)
        path = self._keep(snapshot) if trainer.is_global_zero else None
        if self.policy == "skip" and self._in_a_row < PATIENCE and self._overflows < OVERFLOWS:
            return False
        if not trainer.is_global_zero:  # the verdict is shared, and one line says it
            raise SystemExit(TrainingError.exit_code)
        in_a_row = max(self._in_a_row, self._overflows)
        often = f", the {in_a_row}th step in a row" if in_a_row >= PATIENCE else ""
        shown = self.shown / self.folder.name / path.name if path else None
        look = f"; minigpt replay {shown} shows the step" if shown else ""
        raise TrainingError(f"{reason} at step {seen.step}{often} {self._advice(module.optim.lr)}{look}")

    def verdict(self, loss: float, grad_norm: float) -> str | None:
        """The reason why a step of this loss and this gradient norm is refused, or None."""
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

    def _losses(self, trainer: Trainer, module: GPTModule, loss: float) -> tuple[float, float]:
        """The loss to remember and the one to judge by, which must be the same on all processes."""
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

    def _keep(self, snapshot: DivergenceSnapshot) -> Path | None:
        """Write the divergence snapshot and delete the oldest; a full disk must not hide the reason."""
        path = self.folder / f"step={snapshot.step:08d}.pt"
        try:
            write_snapshot(path, snapshot)
        except CheckpointError:
            return None
        for old in sorted(self.folder.glob("step=*.pt"))[:-KEPT_SNAPSHOTS]:
            old.unlink()
        return path

    def check_weights(self, trainer: Trainer) -> None:
        """Raise TrainingError if a step must stop the run or a weight is not finite: no checkpoint may be written."""
        self.settle(trainer)
        module = trainer.lightning_module
        assert isinstance(module, GPTModule)
        norm = torch.nn.utils.get_total_norm(list(module.parameters()))
        if not torch.isfinite(norm):
            step, advice = trainer.global_step, self._advice(module.optim.lr)
            raise TrainingError(f"the weights are not finite after step {step} {advice}")

    def _advice(self, lr: float) -> str:
        lower = f"(optim.lr={lr:g}): lower optim.lr or trainer.gradient_clip_val, and"
        if step_paths(self.folder.parent / CHECKPOINTS):
            return f"{lower} go on from the last checkpoint, written before: {resume_command(self.shown)}"
        return f"{lower} begin anew: no checkpoint was written yet"

    def state_dict(self) -> dict[str, Any]:
        """The losses that a spike is measured against: a resumed run must judge as the straight one would."""
        return {
            "losses": list(self.losses),
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
            "overflows": self._overflows,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them, as far as they apply to the steps to come."""
        if self.same_text:
            self.losses = deque(map(float, state_dict["losses"]), maxlen=WINDOW)
            self._in_a_row = checked_count(state_dict["in_a_row"])
        if self.same_run:
            self.skipped = checked_count(state_dict["skipped"])
        self._overflows = checked_count(
            state_dict["overflows"]
        )  # belongs to the scale of the loss, which is restored too


def reading_waits(device: torch.device) -> bool:
    """Whether to read a number means to wait for the device."""
    return device.type == "cuda"
