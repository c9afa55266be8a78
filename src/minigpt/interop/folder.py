"""The folder that an export writes: its files, and the mark by which it is known again before it is replaced.

No heavy import: the command line asks before anything is loaded.
"""

import json
from pathlib import Path

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
GENERATION = "generation_config.json"
LIBRARY_TOKENIZER = "tokenizer.json"
LIBRARY_SETTINGS = "tokenizer_config.json"
TOKEN_NAMES = "special_tokens_map.json"
TOKENIZER = "minigpt_tokenizer.json"
"""Our own tokenizer, beside the one for `transformers`: read again, it is the very same."""

FILES = frozenset({CONFIG, WEIGHTS, GENERATION, LIBRARY_TOKENIZER, LIBRARY_SETTINGS, TOKEN_NAMES, TOKENIZER})
MARK = {"written_by": "minigpt export"}
"""In the metadata of the weights: `transformers` drops it when it saves other weights over ours."""
_LONGEST_HEADER = 100_000_000
"""Bytes; what the safetensors format allows."""


def why_not_ours(folder: Path) -> str | None:
    """Say why `folder` is not as an export left it, to complete a sentence; None if it is.

    Nothing but the files of an export may lie there, all its files that every export has, and weights with our mark:
    replacing such a folder loses nothing that another export does not write again.
    """
    for path in sorted(folder.iterdir()):
        if path.name not in FILES or path.is_symlink() or not path.is_file():
            return f"it holds {path.name}, which no export writes"
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if not (folder / name).exists():
            return f"it lacks {name}, so no export wrote it"
    if _mark_of(folder / WEIGHTS) != MARK:
        return f"its {WEIGHTS} lacks the mark of an export, so another program wrote it"
    return None


def is_our_file(path: Path) -> bool:
    """Whether `path` is a safetensors file that an export wrote, by the metadata that each has."""
    return {"config", "tokenizer", "facts"} <= _metadata(path).keys()


def _mark_of(path: Path) -> dict[str, object]:
    metadata = _metadata(path)
    return {name: metadata.get(name) for name in MARK}


def _metadata(path: Path) -> dict[str, object]:
    """Read the metadata in the header of a safetensors file (8 bytes of length, then JSON); none if it is broken."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= _LONGEST_HEADER else b""
    try:
        return dict(json.loads(header)["__metadata__"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
