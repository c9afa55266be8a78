"""The JSON file of a fitted law: written by `minigpt scaling`, read by `minigpt plan`."""

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from minigpt.data.identity import DataIdentity
from minigpt.errors import DataError, shown
from minigpt.lab.scaling.law import FittedLaw, Law, TextInTokens
from minigpt.system.files import atomic_write

FILE_NAME = "scaling.json"
FORMAT = 2
"""2: with the resampled laws and the noise, from which a forecast has its interval."""


def write_law(path: Path, fitted: FittedLaw, more: dict[str, Any] | None = None) -> None:
    """Write `fitted`, and `more` (plain values) for other readers."""
    values = asdict(fitted)
    resampled = values.pop("resampled")  # last: it is long
    content = {"format": FORMAT, **values, **(more or {}), "resampled": resampled}
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def read_law(path: Path) -> FittedLaw:
    """Read the law in `path`; raises DataError, one line, if it is missing, damaged or not a law."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; minigpt scaling SWEEP writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a law: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = shown(content.get("format") if isinstance(content, dict) else content)
        raise DataError(f"{path}: its format is {found}, expected {FORMAT}: minigpt scaling SWEEP writes it")
    data = content.get("data")
    data = data if isinstance(data, dict) else {}  # an older version wrote none
    try:
        return FittedLaw(
            law=_law(content["law"]),
            **{name: str(content[name]) for name in ("name", "corpus", "tokenizer")},
            vocab_size=int(content["vocab_size"]),
            data=DataIdentity.of(data, data.get("fingerprint")),
            tokenizer_fingerprint=str(content.get("tokenizer_fingerprint") or ""),
            parameters=_range(content["parameters"]),
            tokens=_range(content["tokens"]),
            flops_per_pair=_positive(content["flops_per_pair"]),
            resampled=tuple(_law(each) for each in content["resampled"]),
            noise=_at_least_0(content["noise"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged: {error!r}") from None


def find_law(root: Path, text: TextInTokens) -> FittedLaw | None:
    """The newest law below `root` (runs/SWEEP/scaling.json) for this text and tokenizer.

    If none is known to be, the newest whose names agree.
    """
    named = None
    for path in sorted(root.glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            fitted = read_law(path)
        except DataError:  # not requested by name
            continue
        holds = fitted.holds_for(text)
        if holds:
            return fitted
        named = fitted if holds is None and named is None else named
    return named


def _law(values: Any) -> Law:
    return Law(**{field.name: _positive(values[field.name]) for field in fields(Law)})


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{number} is not a finite number above 0")
    return number


def _at_least_0(value: Any) -> float:
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{number} is not a finite number, 0 or more")
    return number


def _range(values: Any) -> tuple[float, float]:
    low, high = values
    return _positive(low), _positive(high)
