"""Numbers as a person reads them."""

_TIMES = ((2 * 86_400, 86_400, "days"), (3600, 3600, "h"), (90, 60, "min"))
"""From which value on, in how many seconds, with which unit."""


def count_text(number: float) -> str:
    """In three digits: `874`, `52.1k`, `124M`, `2.5B`, `4.2e+15`."""
    value, unit = _scaled(number, "kMBT")
    return f"{value:.3g}{unit}"


def bytes_text(n_bytes: float) -> str:
    """`874 B`, `33.9 MB`, `1.2 GB`, in powers of 1000; `unknown` for infinity."""
    if n_bytes == float("inf"):
        return "unknown"
    value, unit = _scaled(n_bytes, "kMGT")
    return f"{value:.3g} {unit}B"


def seconds_text(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `12 days`."""
    for least, size, unit in _TIMES:
        if seconds >= least:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"


def times_text(factor: float) -> str:
    """In two digits and without an exponent, of a factor of 1 or more: `1.4`, `25`, `170`, `1,300,000`."""
    return f"{factor:.2g}" if not 9.95 <= factor < 1e15 else f"{float(f'{factor:.2g}'):,.0f}"


def _scaled(number: float, letters: str) -> tuple[float, str]:
    """`52_140` -> `(52.1, "k")`: rounded to three digits first, so that no 999,999 becomes 1000k."""
    rounded = float(f"{number:.3g}")
    for power, letter in zip((1e12, 1e9, 1e6, 1e3), reversed(letters), strict=True):
        if power <= abs(rounded) < 1e15:
            return rounded / power, letter
    return rounded, ""
