"""Read and write files of weights and settings without executing anything in them."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from minigpt.errors import CheckpointError, shown
from minigpt.runs.archive import is_complete, load_safely

_OF_THE_SYSTEM = re.compile(r"I/O error: (.+?) \(os error")
"""Where in a message of safetensors the reason stands."""


def read_json(path: Path) -> Any:
    """Read a JSON file. CheckpointError, one line, for one that is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors, mapped from the file, and its metadata. CheckpointError for a missing or damaged file."""
    from safetensors import safe_open

    try:
        path.open("rb").close()  # safetensors says of a file without permission that there is none
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error.strerror}") from None
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # SafetensorError, OSError, and whatever a damaged header leads to
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as safetensors: {reason}") from None


def write_safetensors(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `weights`, none of which may share memory with another; CheckpointError when the disk does not take it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(weights), path, metadata={"format": "pt", **metadata})
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        system = _OF_THE_SYSTEM.search(reason)
        raise CheckpointError(f"cannot write {path}: {system[1] if system else reason}") from error


def check_is_file(path: Path, form: str) -> None:
    """Raise CheckpointError if the source of an import of `form` is missing, or a folder."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: --format {form} takes a file, and hf a folder")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")


def read_torch(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a file of torch.save without its code; CheckpointError for anything else."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    return state_dict_of(load_safely(path, mmap=is_complete(path)), path)


def state_dict_of(content: Any, source: object) -> dict[str, Tensor]:
    """Return `content` if it is a state dict, else raise CheckpointError."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{source}: the weights must be tensors under names, not a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{source}: '{name}' among the weights is not a tensor under a name")
    return content


def read_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """Read the weights of a Hugging Face folder; gives the file that lists them too.

    safetensors come before pickles, a whole file before an index of parts.
    """
    for name, read in WEIGHT_FILES.items():
        path = folder / name
        if path.exists():
            return read(path), path
    raise CheckpointError(f"{folder}: no weights there: none of {', '.join(WEIGHT_FILES)}")


def parts_of(path: Path) -> list[str]:
    """Return the names of the files that hold the weights of an index. CheckpointError for an index that is damaged."""
    return sorted(set(_weight_map(path).values()))


def _weight_map(path: Path) -> dict[str, str]:
    index = read_json(path)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict):
        raise CheckpointError(f"{path}: an index of weights needs a `weight_map`")
    for file in files.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{path}: {shown(file)} in its weight_map is not the name of a file beside it")
    return files


def _read_parts(path: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read the weights of all files that an index names, and check that each holds what the index says."""
    files, weights = _weight_map(path), dict[str, Tensor]()
    missing = [file for file in parts_of(path) if not (path.parent / file).exists()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{path}: {missing[0]}{more}, which it names, is missing: put it there, or import by the name of the "
            "repository, which fetches what is missing"
        )
    for file in parts_of(path):
        weights |= read(path.parent / file)
    lost = files.keys() - weights.keys()
    if lost:
        raise CheckpointError(f"{path}: weight '{min(lost)}' is not in {files[min(lost)]}, where it should be")
    return weights


def _safetensors(path: Path) -> dict[str, Tensor]:
    return read_safetensors(path)[0]


WEIGHT_FILES: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "model.safetensors": _safetensors,
    "model.safetensors.index.json": lambda path: _read_parts(path, _safetensors),
    "pytorch_model.bin": read_torch,
    "pytorch_model.bin.index.json": lambda path: _read_parts(path, read_torch),
}
"""What the weights of a Hugging Face folder are called, and how each is read, in the order of trust."""
