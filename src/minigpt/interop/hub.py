"""Find a Hugging Face model in a folder, in this machine's cache, or on the hub."""

import re
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.interop.weight_files import WEIGHT_FILES, parts_of
from minigpt.system.files import home_path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", flags=re.ASCII)
_SETTINGS = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "minigpt_tokenizer.json",
]  # fmt: skip
_SAFE = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]
"""Fetched only where a repository has nothing else."""


def find_folder(source: str) -> Path:
    """Return the folder of a path or of a repository's name, which is downloaded if this machine does not have it.

    Raises CheckpointError, one line that says what to do, for what is neither, or cannot be fetched.
    """
    path = home_path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{source} is a file: --format hf takes the folder with config.json and the weights")
    if not _NAME.fullmatch(source):
        raise CheckpointError(f"{source}: no such folder, and no name of a Hugging Face repository (OWNER/NAME)")
    lacking: list[str] = []
    try:
        folder = _snapshot(source, [*_SETTINGS, *_SAFE, *_PICKLED], local_files_only=True)
        if folder is not None and not (lacking := _lacking(folder)):
            return folder
        for patterns in (_SAFE, _PICKLED):
            folder = _snapshot(source, [*_SETTINGS, *patterns], local_files_only=False)
            parts = _lacking(folder) if folder else []
            if parts and _has_index(folder):  # of another name than is usual
                folder = _snapshot(source, parts, local_files_only=False)
            if folder is not None and not _lacking(folder):
                return folder
    except Exception as error:  # no network, no such name, no right to it, a full disk: each has its own exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(_not_fetched(source, lacking, f" ({reason})")) from None
    if folder is not None and lacking == _lacking(folder):  # off line the library gives what there is
        raise CheckpointError(_not_fetched(source, lacking, ""))
    if folder is not None and _has_index(folder):
        raise CheckpointError(f"{source}: the repository lacks {_some(_lacking(folder))}, which its index names")
    raise CheckpointError(f"{source}: the repository has no config.json with weights ({', '.join(WEIGHT_FILES)})")


def _not_fetched(source: str, lacking: list[str], reason: str) -> str:
    """Say what to do about a model that is not on this machine, or not whole."""
    if lacking:
        what = f"{source}: this machine's Hugging Face cache lacks {_some(lacking)}, which could not be fetched{reason}"
        return f"{what}: run `hf download {source}` where there is a network, which fetches what is missing"
    what = f"{source} is neither a folder nor in this machine's Hugging Face cache, and could not be fetched{reason}"
    return f"{what}: run `hf download {source}` where there is a network, and give the folder that it prints"


def _snapshot(name: str, patterns: list[str], *, local_files_only: bool) -> Path | None:
    """Return the folder of a repository's files; None if it is not cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=local_files_only))
    except LocalEntryNotFoundError:
        if local_files_only:
            return None
        raise


def _lacking(folder: Path) -> list[str]:
    """Return the files that a model's folder lacks: config.json, weights, or parts that their index names."""
    lacking = [] if (folder / "config.json").exists() else ["config.json"]
    first = next((name for name in WEIGHT_FILES if (folder / name).exists()), None)
    if first is None:
        return [*lacking, "model.safetensors"]
    parts = parts_of(folder / first) if first.endswith(".index.json") else []
    return [*lacking, *(part for part in parts if not (folder / part).exists())]


def _has_index(folder: Path | None) -> bool:
    return folder is not None and any((folder / name).exists() for name in WEIGHT_FILES if name.endswith(".index.json"))


def _some(names: list[str]) -> str:
    """Join the first three names and the number of the others."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
