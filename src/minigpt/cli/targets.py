"""What `import` and `export` share: where they may write, and how they tell what a comparison came to."""

from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import ConfigError

if TYPE_CHECKING:
    from minigpt.model.config import GPTConfig

MODEL_FILES = ("config.json", "model.safetensors")
"""What makes a folder an exported model."""


def check_file(out: Path, overwrite: bool) -> None:
    """ConfigError if a file may not be written to `out`."""
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: --out must be a file")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists: give another --out, or --overwrite to replace it")


def check_folder(out: Path, overwrite: bool) -> None:
    """ConfigError if a folder may not be made at `out`: one that holds no exported model is never replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: --out must be a folder")
    if not overwrite:
        raise ConfigError(f"{out} exists: give another --out, or --overwrite to replace it")
    if any(out.iterdir()) and not all((out / name).is_file() for name in MODEL_FILES):
        raise ConfigError(f"{out} is not replaced: it lacks {' or '.join(MODEL_FILES)}, so no export wrote it")


def tell_difference(config: "GPTConfig", difference: float, whose: str = "") -> None:
    """One line on stdout: `largest difference of the logits on 4 x 16 random tokens: 0`."""
    from minigpt.interop.foreign import comparison_shape

    rows, length = comparison_shape(config)
    print(f"largest difference of the logits{whose and ' ' + whose} on {rows} x {length} random tokens: {difference:g}")
