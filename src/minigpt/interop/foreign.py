"""Write the checkpoint of a model from elsewhere, after reading it again and comparing."""

import contextlib
import datetime
import importlib.metadata
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minigpt import __version__
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import CheckpointError, MinigptError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.runs.archive import write_archive
from minigpt.runs.checkpoint import ENTRY, FORMAT, WEIGHT_PREFIX, build_model, read_checkpoint
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.files import atomic_path

_ROWS, _LENGTH = 4, 16
"""Random tokens that two models are compared on: 4 texts of 16, or of block_size where that is less."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignModel:
    """What an importer read: everything that a checkpoint holds."""

    config: GPTConfig
    weights: dict[str, Tensor]
    """Under our names, float32."""
    tokenizer: Tokenizer
    origin: dict[str, Any]
    """Where it comes from, as plain values, for the provenance."""
    notes: list[str] = field(default_factory=list)
    """What the user should know, a line each."""
    step: int = 0
    val_loss: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    data_fingerprint: str = ""
    texts: dict[str, Any] = field(default_factory=dict)


def build(foreign: ForeignModel) -> GPT:
    """Build the GPT, in eval mode."""
    with torch.random.fork_rng(devices=[]):  # building draws initial weights, which are then overwritten
        model = GPT(foreign.config)
    model.load_state_dict(foreign.weights)
    return use_cpu_kernels(model.eval())


def check_vocabulary(tokenizer: Tokenizer, config: GPTConfig, source: object) -> None:
    """Raise CheckpointError if the tokenizer has more tokens than the model; fewer are padding."""
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{source}: the tokenizer ({tokenizer.kind}) has {tokenizer.vocab_size} tokens, more than the model's "
            f"vocab_size={config.vocab_size}"
        )


def write_foreign(foreign: ForeignModel, out: Path, command: str) -> float:
    """Write a checkpoint to `out`; gives the largest difference between its logits and those of what was read.

    Raises CheckpointError where they differ at all, or are not finite; `out` is then as it was before.
    """
    check_vocabulary(foreign.tokenizer, foreign.config, foreign.origin["source"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary, naming(out, temporary):
        write_archive(_content(foreign, command), temporary)
        expected = random_logits(build(foreign), foreign.config)
        reloaded = build_model(read_checkpoint(temporary))
        difference, _ = largest_difference(random_logits(reloaded, foreign.config), expected)
        if difference != 0:
            raise CheckpointError(f"{out}: read again, its logits differ from those of the import by {difference:.3g}")
    return difference


@contextlib.contextmanager
def naming(out: Path, temporary: Path) -> Iterator[None]:
    """Make errors of the block name `out`, which the user knows, instead of `temporary` beside it."""
    try:
        yield
    except MinigptError as error:
        raise type(error)(str(error).replace(str(temporary), str(out))) from error


def random_logits(model: nn.Module, config: GPTConfig) -> Tensor:
    """Logits (4, 16, V), float32, of `model` (ours, or one of `transformers`) for the same random tokens each time."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.vocab_size, comparison_shape(config), generator=generator)
    with torch.inference_mode():
        output = model(tokens)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits.float()


def comparison_shape(config: GPTConfig) -> tuple[int, int]:
    """Number of texts and tokens of `random_logits`."""
    return _ROWS, min(_LENGTH, config.block_size)


def largest_difference(logits: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return the largest difference of two models' logits, absolute and relative to the largest logit.

    Raises CheckpointError where a logit is not finite: such weights say nothing.
    """
    if logits.shape != expected.shape:
        raise CheckpointError(f"the logits have shape {tuple(logits.shape)}, expected {tuple(expected.shape)}")
    difference = (logits - expected).abs().max().item()
    scale = expected.abs().max().item()
    if not (math.isfinite(difference) and math.isfinite(scale)):
        raise CheckpointError("the logits of random tokens are not finite numbers: the weights are broken")
    return difference, difference / scale if scale else difference


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python, minigpt and `packages`."""
    own = {"python": platform.python_version(), "minigpt": __version__}
    return own | {package: importlib.metadata.version(package) for package in packages}


def _content(foreign: ForeignModel, command: str) -> dict[str, Any]:
    """Return the dict of a bare checkpoint (see minigpt.runs.checkpoint)."""
    provenance = {
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(("torch", "safetensors", "tokenizers")),
        **foreign.origin,
    }
    entry = {
        "format": FORMAT,
        "config": foreign.config.to_dict(),
        "tokenizer": foreign.tokenizer.to_json(),
        "special_tokens": foreign.tokenizer.special.to_dict(),
        "provenance": provenance,
        "step": foreign.step,
        "val_loss": foreign.val_loss,
        "data": foreign.data,
        "data_fingerprint": foreign.data_fingerprint,
        "texts": foreign.texts,
        "yaml": "",
    }
    return {ENTRY: entry, "state_dict": {WEIGHT_PREFIX + name: value for name, value in foreign.weights.items()}}
