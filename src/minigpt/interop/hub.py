"""Where a Hugging Face model lies: a folder, this machine's cache, or else the hub."""

import re
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.interop.weight_files import WEIGHT_FILES

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", flags=re.ASCII)
_SETTINGS = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "minigpt_tokenizer.json",
]  # fmt: skip
_SAFE = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]
"""Fetched only where a repository has nothing else."""


def find_folder(source: str) -> Path:
    """The folder meant by a path or by the name of a repository, which is fetched if this machine does not have it.

    Raises CheckpointError, one line that says what to do, for what is neither, or cannot be fetched.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{source} is a file: --format hf takes the folder with config.json and the weights")
    if not _NAME.fullmatch(source):
        raise CheckpointError(f"{source}: no such folder, and no name of a Hugging Face repository (OWNER/NAME)")
    try:
        cached = _snapshot(source, [*_SETTINGS, *_SAFE, *_PICKLED], local_files_only=True)
        if cached is not None and _is_whole(cached):
            return cached
        fetched = _snapshot(source, [*_SETTINGS, *_SAFE], local_files_only=False)
        if fetched is not None and not _is_whole(fetched):
            fetched = _snapshot(source, [*_SETTINGS, *_PICKLED], local_files_only=False)
    except Exception as error:  # no network, no such name, no right to it, a full disk: each has its own exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{source} is neither a folder nor in this machine's Hugging Face cache, and could not be fetched "
            f"({reason}): run `hf download {source}` where there is a network, and give the folder that it prints"
        ) from None
    if fetched is None or not _is_whole(fetched):
        raise CheckpointError(f"{source}: the repository has no config.json with weights ({', '.join(WEIGHT_FILES)})")
    return fetched


def _snapshot(name: str, patterns: list[str], *, local_files_only: bool) -> Path | None:
    """The folder of a repository's files; None for one that the cache lacks."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=local_files_only))
    except LocalEntryNotFoundError:
        if local_files_only:
            return None
        raise


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").exists() and any((folder / name).exists() for name in WEIGHT_FILES)
