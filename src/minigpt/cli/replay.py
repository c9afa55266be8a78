"""Do a diverged step again from its snapshot: where its loss and gradient come from, and what its update would have
done."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import CodeOptions, argument
from minigpt.errors import CheckpointError, ConfigError, printable
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.lab.replay import Replay
    from minigpt.runs.divergence_snapshot import DivergenceSnapshot


@dataclass(frozen=True, kw_only=True)
class Options(CodeOptions):
    """Which divergence, on which device."""

    snapshot: str = argument("SNAPSHOT")
    """RUN/divergences/step=N.pt."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:N, mps, or auto for the fastest there is."""
    top: int = 8
    """How many tensors to list."""


def run(options: Options) -> int:
    """Print the comparison; gives 0 if the step is reproduced, 1 if not."""
    if options.top < 1:
        raise ConfigError(f"top={options.top} must be a whole number, 1 or more")
    from minigpt.lab.replay import replay
    from minigpt.runs.divergence_snapshot import read_snapshot
    from minigpt.system.devices import find_device

    snapshot = read_snapshot(Path(options.snapshot))
    try:
        again = replay(snapshot, find_device(options.device))
    except CheckpointError as error:
        raise CheckpointError(f"{options.snapshot}: {error}") from error
    echo("\n".join(_report(snapshot, again, options.top)))
    return 0 if _same(snapshot, again) else 1


def _report(snapshot: "DivergenceSnapshot", again: "Replay", top: int) -> list[str]:
    count = len(snapshot.batches) // snapshot.world
    batches = f"batch {snapshot.batch:,}{f' and {count - 1} more' if count > 1 else ''}"
    rows = {
        "step": f"{snapshot.step:,} ({batches}{f', of {snapshot.world} processes' if snapshot.world > 1 else ''})",
        "reason": printable(snapshot.reason.rstrip(",")),
        "loss": f"{_numbers(snapshot.losses)} then, {_numbers(again.losses)} now",
        "gradient": f"norm {snapshot.grad_norm:.6g} then, {again.grad_norm:.6g} now",
        "update": _update(again),
        "text": _hardest_window(snapshot, again),
    }
    lines = [f"{name:<9} {value}" for name, value in rows.items()]
    lines.append(
        f"\nlargest gradient norms of {len(again.grad_norms)} tensors, now (then), and what the update would add"
    )
    worst = sorted(again.grad_norms, key=lambda name: _size(again.grad_norms[name]), reverse=True)[:top]
    lines += [
        f"  {again.grad_norms[name]:<12.6g} ({snapshot.grad_norms.get(name, math.nan):.6g})  "
        f"{again.update_norms[name]:<12.6g} {name}"
        for name in worst
    ]
    same = _same(snapshot, again)
    lines.append("\nreproduced" if same else "\nnot reproduced: another device, version or number of threads may round")
    return lines


def _update(again: "Replay") -> str:
    """Describe the update that was not made: its norm, or how many tensors it would have made non-finite."""
    norms = again.update_norms.values()
    spoilt = sum(not math.isfinite(norm) for norm in norms)
    if spoilt:
        return f"it would have spoilt {spoilt} of {len(norms)} tensors"
    return f"norm {math.hypot(*norms):.6g}, had it been made"


def _hardest_window(snapshot: "DivergenceSnapshot", again: "Replay") -> str:
    """Return the text of the window with the highest loss, computed without dropout."""
    from minigpt.model.loss import IGNORE_INDEX

    loss, batch, row = max(
        (_size(float(losses[row].sum() / (targets[row] != IGNORE_INDEX).sum().clamp(min=1))), number, row)
        for number, ((_, targets), losses) in enumerate(zip(snapshot.batches, again.token_losses, strict=True))
        for row in range(len(losses))
    )
    text = snapshot.tokenizer.decode(snapshot.batches[batch][0][row].tolist())
    return f"window of the highest loss ({loss:.4f}): {text!r}"


def _same(snapshot: "DivergenceSnapshot", again: "Replay") -> bool:
    """Whether losses and gradient norm are equal within rounding, or not finite both times."""
    pairs = [*zip(snapshot.losses, again.losses, strict=True), (snapshot.grad_norm, again.grad_norm)]
    return all(math.isclose(then, now, rel_tol=1e-3) or (_size(then) == _size(now) == math.inf) for then, now in pairs)


def _size(value: float) -> float:
    """Return the size of a number for sorting; nan counts as infinity."""
    return abs(value) if math.isfinite(value) else math.inf


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
