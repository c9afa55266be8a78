"""The configs that come with minigpt, found by their bare name: `--config base`."""

from pathlib import Path

from minigpt.errors import ConfigError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent.parent
_IN_WHEEL = _PACKAGE / "configs"
FOLDER = _IN_WHEEL if _IN_WHEEL.is_dir() else _PACKAGE.parent.parent / "configs"
"""Inside the package where it was installed from a wheel, at the top of the repository in a clone."""


def shipped_configs() -> dict[str, Path]:
    """Return the shipped YAML files by name, those of sweeps too: `base`, `ablation`."""
    return {path.stem: path for path in sorted(FOLDER.rglob("*.yaml"), key=lambda path: (len(path.parts), path))}


def find_config(given: str | Path, named: str = "--config ") -> Path:
    """Return the file that `given` names: a path, or the bare name of a shipped config where there is no such path.

    A path that does not exist is returned as it is. `named` is what stands before the name on the command line. Raises
    ConfigError for a bare name that is neither.
    """
    path = Path(given)
    shipped = shipped_configs()
    if path.is_file() or path.suffix or len(path.parts) != 1 or (path.exists() and path.name not in shipped):
        return path
    if path.name not in shipped:
        near = did_you_mean(path.name, shipped) or ": minigpt configs lists those that come with minigpt"
        raise ConfigError(f"{named}{given}: there is no such file and no such config{near}")
    return shipped[path.name]
