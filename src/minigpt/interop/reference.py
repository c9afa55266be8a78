"""Compare our logits with those of `transformers` for the same folder, if it is installed."""

import importlib.util
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.interop.foreign import largest_difference, random_logits
from minigpt.model.gpt import GPT

MOST = 1e-3
"""The allowed difference, as a share of the largest logit. Rounding in float32 gives some 1e-6; a wrong activation or
norm far more than this."""


def is_installed() -> bool:
    """Whether `transformers`, which is no dependency of minigpt, can be imported."""
    return importlib.util.find_spec("transformers") is not None


def compare_with_transformers(model: GPT, folder: Path) -> float:
    """Return the largest difference between the logits of `model` and of `transformers` for `folder`, in float32.

    Raises CheckpointError where it cannot open the folder, or differs by more than rounding.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        reference = transformers.AutoModelForCausalLM.from_pretrained(
            # Not the dtype of config.json, which need not be that of the weights: in it they would be rounded.
            folder,
            local_files_only=True,
            trust_remote_code=False,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # the library raises whatever its parts raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: transformers {transformers.__version__} cannot open it: {reason}") from None
    expected = random_logits(reference.eval(), model.config)
    difference, relative = largest_difference(random_logits(model, model.config), expected)
    if relative > MOST:
        raise CheckpointError(
            f"{folder}: the logits of transformers differ by {relative:.2g} of the largest one; rounding explains "
            f"{MOST:g} at most"
        )
    return difference
