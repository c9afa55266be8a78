"""Numbers as a person reads them, and tables of them."""

_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_TIMES = ((2 * 86_400, 86_400, "days"), (3600, 3600, "h"), (90, 60, "min"))
"""From which value on, in how many seconds, with which unit."""


def seconds_text(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `12 days`"""
    for least, size, unit in _TIMES:
        if seconds >= least:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"


def bytes_text(n_bytes: float) -> str:
    """`619 MB`, `1.2 GB`"""
    if n_bytes == float("inf"):
        return "unknown"
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes / 1e3:.3g} kB"


def count_text(number: float) -> str:
    """`124M`, `2.5B`"""
    for size, unit in _COUNTS:
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def columns_text(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
