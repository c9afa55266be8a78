"""Numbers, sizes and times as the house writes them, on terminals, in reports and in messages.

Counts that matter to the last digit (steps, parameters of a model) are written out: `12,345`. All else has three digits
and a unit.
"""

_TIMES = ((2 * 86_400, 86_400, "days"), (3600, 3600, "h"), (90, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"))
"""From which value on, in how many seconds, with which unit."""


def count_text(number: float) -> str:
    """In three digits: `874`, `52.1k`, `124M`, `2.5B`, `4.2e15`."""
    value, unit = _scaled(number, "kMBT")
    return f"{_digits(value)}{unit}"


def bytes_text(n_bytes: float) -> str:
    """`874 B`, `33.9 MB`, `1.2 GB`, in powers of 1000; `unknown` for infinity."""
    return "unknown" if n_bytes == float("inf") else _with_unit(n_bytes, "B")


def flops_text(flops: float) -> str:
    """Floating-point operations, as papers write them: `6.91e11`."""
    mantissa, _, exponent = f"{flops:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if abs(flops) >= 1e6 else _digits(flops)


def speed_text(flops_per_second: float) -> str:
    """`989 TFLOP/s`."""
    return _with_unit(flops_per_second, "FLOP/s")


def rate_text(tokens_per_second: float) -> str:
    """`52.1k tokens/s`."""
    return f"{count_text(tokens_per_second)} tokens/s"


def seconds_text(seconds: float) -> str:
    """`3.1 ms`, `45 s`, `12 min`, `3.4 h`, `12 days`."""
    for least, size, unit in _TIMES:
        if float(f"{seconds:.3g}") >= least:
            return f"{float(f'{seconds / size:.3g}'):,g} {unit}"
    return f"{1e3 * seconds:.3g} ms" if seconds > 0 else "0 s"


def clock_text(seconds: float) -> str:
    """A time that a person watches passing: as `seconds_text`, without fractions of a second."""
    return seconds_text(round(seconds) if seconds < 90 else seconds)


def times_text(factor: float) -> str:
    """In two digits and without an exponent, of a factor of 1 or more: `1.4`, `25`, `170`, `1,300,000`."""
    return f"{factor:.2g}" if not 9.95 <= factor < 1e15 else f"{float(f'{factor:.2g}'):,.0f}"


def _with_unit(number: float, unit: str) -> str:
    value, letter = _scaled(number, "kMGTPE")
    return f"{_digits(value)} {letter}{unit}"


def _digits(number: float) -> str:
    """Three digits, and an exponent without plus and zeros."""
    mantissa, sign, exponent = f"{number:.3g}".partition("e")
    return f"{mantissa}{sign}{int(exponent)}" if sign else mantissa


def _scaled(number: float, letters: str) -> tuple[float, str]:
    """`52_140` -> `(52.1, "k")`: rounded to three digits first, so that no 999,999 becomes 1000k."""
    rounded = float(f"{number:.3g}")
    for place in range(len(letters), 0, -1):
        power = 1000.0**place
        if power <= abs(rounded) < 1000 * 1000.0 ** len(letters):
            return rounded / power, letters[place - 1]
    return rounded, ""
