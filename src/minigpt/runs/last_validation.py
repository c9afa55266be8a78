"""The last validation of a run where its metrics.csv was cut short: taken from the checkpoint of that step, or unknown.

The last row of a file is not the last step of a run: a full disk, a copy or an editor may have taken rows from its end.
"""

import math
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.runs.paths import CHECKPOINTS, METRICS, step_name

Metrics = dict[int, dict[str, float]]


def complete(folder: Path, metrics: Metrics, step: int) -> tuple[Metrics, str, bool]:
    """`metrics` with the validation of `step` from its checkpoint, a line that says so, and whether it is known now.

    Bits per byte are the loss times what they are in another row: a run validates on the same windows each time. No
    line where the checkpoint says that there was no validation at that step.
    """
    name = step_name(step)
    try:
        loss = read_checkpoint(folder / CHECKPOINTS / name).val_loss
    except CheckpointError:
        return metrics, f"{METRICS} ends before the validation of step {step:,}, and {name} does not have it", False
    if loss is None:
        return metrics, "", True
    row = {**metrics.get(step, {}), "val/loss": loss, "val/perplexity": math.exp(min(loss, 700.0))}
    known = [each for each in metrics.values() if each.get("val/loss") and "val/bits_per_byte" in each]
    if known:
        row["val/bits_per_byte"] = loss * known[-1]["val/bits_per_byte"] / known[-1]["val/loss"]
    whole = dict(sorted({**metrics, step: row}.items()))
    return whole, f"{METRICS} ends before the validation of step {step:,}, which is taken from {name}", True
