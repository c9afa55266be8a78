"""The user's own files in a run's folder: copies in `code/`, which run only where the user trusts them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minigpt.errors import CheckpointError
from minigpt.runs.paths import CHECKPOINTS, CODE, DIVERGENCES
from minigpt.system.components import (
    MissingFunctionError,
    MissingModuleError,
    file_hashes,
    importing_from,
    is_dotted,
    user_files,
)
from minigpt.system.files import atomic_write
from minigpt.system.output import note


def keep_code(run: Path, files: Mapping[str, Path]) -> None:
    """Copy the user's files into the run's folder. What differs there already stays beside its successor, under its
    hash."""
    for name, path in files.items():
        copy, content = run / CODE / name, path.read_bytes()
        earlier = copy.read_bytes() if copy.exists() else content
        if earlier != content:
            atomic_write(copy.with_name(f"{copy.stem}-{hashlib.sha256(earlier).hexdigest()[:8]}.py"), earlier)
        copy.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(copy, content)


def changed_files(recorded: Any, now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The files whose sha256 is another than `recorded` in a provenance: name -> (sha256 then, sha256 now)."""
    then = recorded if isinstance(recorded, Mapping) else {}
    return {name: (str(then[name]), sha256) for name, sha256 in now.items() if then.get(name, sha256) != sha256}


@contextmanager
def run_code(run_or_checkpoint: Path, *, trust: bool) -> Iterator[None]:
    """Within the block, components are imported from the copies that the run keeps, if the user trusts them.

    Otherwise they come from the working folder and the environment; CheckpointError where a module is in neither, which
    says where the run's copy is. A run without components has no copies, and none are needed.
    """
    path = run_or_checkpoint
    inside = path.absolute().parent if path.is_file() else path
    code = (inside.parent if inside.name in {CHECKPOINTS, DIVERGENCES} else inside) / CODE
    if trust and code.is_dir():
        with importing_from(code):
            yield
        return
    try:
        yield
    except (MissingModuleError, MissingFunctionError) as error:
        copies = f"the run keeps its own copy in {code}: --trust_code (trust_code=True in Python) runs that"
        hint = copies if code.is_dir() else "put its file into the working folder"
        raise CheckpointError(f"{path}: {error}; {hint}") from error


def note_changed_files(run_or_checkpoint: Path, settings: Iterable[Any], recorded: Any) -> None:
    """Say on stderr which files behind the dotted names among `settings` are not those that the run recorded."""
    now = file_hashes(user_files(filter(is_dotted, settings)))
    for name in changed_files(recorded, now):
        note(f"{name} is another file than {run_or_checkpoint} was trained with: --trust_code runs the run's own copy")
