"""Find and read the checkpoints of a run: config, weights and tokenizer, and the model made of them.

A checkpoint is the dict that Lightning saves with one more entry, `minigpt`, that says how to use the weights; a bare
one holds only that and `state_dict`. What training needs to go on (optimizer, position, callbacks) is not looked at
here: only a resume restores it. Nothing in a file is ever executed: every load is `weights_only=True`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from minigpt.data.identity import DataIdentity
from minigpt.data.protocol import with_special_tokens
from minigpt.data.special_tokens import special_tokens_from_dict
from minigpt.data.tokenizers import Tokenizer, tokenizer_from_json
from minigpt.errors import CheckpointError, ConfigError, DataError, did_you_mean, shown
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT, meta_model
from minigpt.runs.archive import is_complete, read_archive
from minigpt.runs.paths import BEST_NAME, CHECKPOINTS, step_paths
from minigpt.system.components import MissingModuleError
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.weights import fault_of_weight

FORMAT = 2
ENTRY = "minigpt"
WEIGHT_PREFIX = "gpt."
"""In `state_dict`: the GPT is the attribute `gpt` of the LightningModule."""

Prefer = Literal["best", "last"]

_IMPORT = "`minigpt import --format {}` makes one"
_ENTRY_TYPES: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "config": (dict,),
    "tokenizer": (str,),
    "provenance": (dict,),
    "step": (int,),
    "val_loss": (float, NoneType),
    "data": (dict,),
    "data_fingerprint": (str,),
    "texts": (dict,),
    "yaml": (str,),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The content of one checkpoint file, without the state of training."""

    path: Path
    config: GPTConfig
    weights: dict[str, Tensor]
    """The GPT's state dict."""
    tokenizer: Tokenizer
    provenance: dict[str, Any]
    """Where the weights come from: command, commit, versions, machine."""
    step: int
    """Optimizer steps done."""
    val_loss: float | None
    """The validation loss at that step, nats per token; none: there was no validation at it."""
    data: dict[str, Any]
    """The corpus, its tokenizer and split, as the `data` group of the config names them."""
    data_fingerprint: str
    """Content of the prepared corpus; empty: not known."""
    texts: dict[str, Any]
    """Hashes of the texts that it learnt from and was validated on, `train` and `val`; empty: not known."""
    yaml: str
    """The whole config of the run that wrote it, resolved; empty: it comes from elsewhere."""
    resumable: bool
    """Whether the file also holds an optimizer's state and a position, so that training can go on from it."""

    def __repr__(self) -> str:
        """One line: which file, of which step."""
        loss = "" if self.val_loss is None else f", validation loss {self.val_loss:.4f}"
        return f"checkpoint {self.path}, step {self.step:,}{loss}"

    @property
    def identity(self) -> DataIdentity:
        """The text and the tokens that it comes from, by content."""
        return DataIdentity.of(self.texts, self.data_fingerprint)


def find_checkpoint(run_or_checkpoint: str | Path, prefer: Prefer = "best") -> Path:
    """Find the checkpoint file of a file, a run's folder, or a run's bare name (also looked for in `runs/`).

    In a run: `best.ckpt`, or else the newest complete step; `prefer="last"` turns that around. Raises CheckpointError
    for what is not there, with the nearest name that is, and for a run without a checkpoint.
    """
    if prefer not in get_args(Prefer):
        choices = get_args(Prefer)
        raise ConfigError(f"prefer={prefer!r} must be one of {', '.join(choices)}{did_you_mean(str(prefer), choices)}")
    path = Path(run_or_checkpoint)
    if not path.exists() and len(path.parts) == 1:
        path = Path("runs") / path if (Path("runs") / path).exists() else path
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"no run or checkpoint at {path}{_nearest(path)}")
    best = _checkpoint_folder(path) / BEST_NAME
    newest = last_checkpoint(path)
    if best.is_file() and (prefer == "best" or newest is None):
        return best
    if newest is None:
        raise CheckpointError(f"{path} holds no checkpoint: {_what_else(path)}")
    return newest


def last_checkpoint(run_folder: str | Path) -> Path | None:
    """The newest complete `step=N.ckpt` of a run, or None; half-written files are skipped."""
    newest_first = reversed(step_paths(_checkpoint_folder(Path(run_folder))))
    return next((path for path in newest_first if is_complete(path)), None)


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> Checkpoint:
    """Read what sampling and evaluating need from the file `path`; weights are mapped from it, not copied.

    Raises CheckpointError, one line that begins with the path, for a file that is missing, truncated, not a checkpoint,
    not one of ours, of another format, or whose parts contradict each other.
    """
    path = Path(path)
    content = read_content(path, map_location)
    entry = _checked_entry(path, content)
    try:
        config = GPTConfig.from_dict(entry["config"])
        tokenizer = tokenizer_from_json(entry["tokenizer"])
        if "special_tokens" in entry:  # of a model from elsewhere
            special = special_tokens_from_dict(entry["special_tokens"], config.vocab_size)
            tokenizer = with_special_tokens(tokenizer, special)
    except MissingModuleError:  # run_code says where the run's own copy is
        raise
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {tokenizer.vocab_size} tokens, "
            f"more than the model's vocab_size={config.vocab_size}"
        )
    weights = _gpt_weights(content["state_dict"])
    check_weights(path, config, weights)
    return Checkpoint(
        path=path,
        config=config,
        weights=weights,
        tokenizer=tokenizer,
        provenance=entry["provenance"],
        step=entry["step"],
        val_loss=entry["val_loss"],
        data=entry["data"],
        data_fingerprint=entry["data_fingerprint"],
        texts=entry["texts"],
        yaml=entry["yaml"],
        resumable={"optimizer_states", "loops"} <= content.keys(),
    )


def read_content(path: Path, map_location: str | torch.device = "cpu") -> Any:
    """Read the whole content of the file `path`; raises CheckpointError for one that is missing or damaged."""
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}{_nearest(path)}")
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is not a checkpoint: {_IMPORT.format('safetensors')} of an export's weights")
    return read_archive(path, map_location)


def build_model(checkpoint: Checkpoint, device: str | torch.device = "cpu") -> GPT:
    """Build the GPT of a checkpoint in eval mode, with its own copy of the weights; torch's random state stays."""
    with torch.random.fork_rng(devices=[]):  # building draws initial weights, which are then overwritten
        model = GPT(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    return use_cpu_kernels(model.to(device).eval())


def check_weights(path: Path, config: GPTConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, naming the weight, unless `weights` are those of a model of this config."""
    if config.n_layer > len(weights):  # a block has several: do not build a billion of them first
        raise CheckpointError(f"{path}: its config has n_layer={config.n_layer}, and there are {len(weights)} weights")
    try:
        model = meta_model(config)  # shapes without memory
    except (RuntimeError, TypeError, OverflowError):  # sizes that no tensor can have
        raise CheckpointError(f"{path}: its config has sizes that no weights can have: {config.to_dict()}") from None
    expected = model.state_dict()
    for key in sorted(expected.keys() | weights.keys()):
        if key not in weights:
            raise CheckpointError(f"{path}: the weights lack '{key}', which the config asks for")
        if key not in expected:
            raise CheckpointError(f"{path}: the weights have '{key}', which the config does not know")
        fault = fault_of_weight(weights[key])
        if fault is not None:
            raise CheckpointError(f"{path}: weight '{key}' {fault}")
        found, asked = tuple(weights[key].shape), tuple(expected[key].shape)
        if found != asked:
            raise CheckpointError(f"{path}: weight '{key}' has shape {found}, the config asks for {asked}")


def _checked_entry(path: Path, content: Any) -> dict[str, Any]:
    """Return our entry of the loaded dict after checking that every key is there and of its type."""
    if not isinstance(content, dict) or not isinstance(content.get(ENTRY), dict):
        is_nano = isinstance(content, dict) and {"model", "model_args"} <= content.keys()
        why = f"{_IMPORT.format('nanogpt')} of nanoGPT's" if is_nano else f"it has no '{ENTRY}' entry"
        raise CheckpointError(f"{path} is not a checkpoint of minigpt: {why}")
    entry = content[ENTRY]
    if type(entry.get("format")) is not int or entry["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {shown(entry.get('format'))}, this version of minigpt reads format {FORMAT}"
        )
    entry = {"texts": {}, **entry}  # an older version wrote none
    for name, types in _ENTRY_TYPES.items():
        if name not in entry:
            raise CheckpointError(f"{path}: its '{ENTRY}' entry has no '{name}'")
        if not isinstance(entry[name], types):
            raise CheckpointError(f"{path}: '{name}' in its '{ENTRY}' entry must not be a {type(entry[name]).__name__}")
    if entry["step"] < 0:
        raise CheckpointError(f"{path}: 'step' in its '{ENTRY}' entry must not be negative: {entry['step']}")
    for name, value in entry["data"].items():
        if not isinstance(value, str | int | float | NoneType):
            raise CheckpointError(f"{path}: 'data.{name}' in its '{ENTRY}' entry is a {type(value).__name__}")
    weights = content.get("state_dict")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} has no weights: it lacks 'state_dict'")
    for key, value in weights.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: '{key}' in its 'state_dict' is not a tensor under a name")
    return entry


def _gpt_weights(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The GPT's weights under its own keys: without Lightning's `gpt.`, the `_orig_mod.` that torch.compile may put in,
    and what a module of the user's own keeps beside the GPT."""
    plain = {key.replace("_orig_mod.", ""): value for key, value in state_dict.items()}
    own = {key.removeprefix(WEIGHT_PREFIX): value for key, value in plain.items() if key.startswith(WEIGHT_PREFIX)}
    return own or plain


def _checkpoint_folder(run: Path) -> Path:
    """`run/checkpoints`, or `run` itself if it is that folder or holds loose checkpoints."""
    return run / CHECKPOINTS if (run / CHECKPOINTS).is_dir() else run


def _what_else(folder: Path) -> str:
    """Say what a folder without checkpoints is instead, for an error message: a model from elsewhere, or runs."""
    if (folder / "config.json").is_file():
        return f"it is a Hugging Face folder; {_IMPORT.format('hf')} of it"
    runs = sorted(path.parent.name for path in folder.glob("*/checkpoints") if path.is_dir())
    if runs:
        return f"it holds runs, of which one is meant: {', '.join(runs[:5])}{', ...' if len(runs) > 5 else ''}"
    return f"neither {BEST_NAME} nor a complete step=N.ckpt"


def _nearest(path: Path) -> str:
    """`, did you mean NAME?` for the first part of `path` that does not exist; a bare name is compared to runs too."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    folders = [missing.parent, Path("runs")] if len(path.parts) == 1 else [missing.parent]
    names = [child.name for folder in folders if folder.is_dir() for child in folder.iterdir()]
    return did_you_mean(missing.name, names)
