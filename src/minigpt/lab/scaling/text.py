"""A scaling study as text: runs, law with intervals, budgets, and the recommendation."""

import json
import shlex
from collections.abc import Sequence

from minigpt.lab.scaling.advice import Advice
from minigpt.lab.scaling.fits import COEFFICIENTS, Fit
from minigpt.lab.scaling.isoflop import Frontier, Parabola
from minigpt.lab.scaling.law import Interval
from minigpt.lab.scaling.result import ScalingResult
from minigpt.lab.scaling.runs import ScalingSweep
from minigpt.system.tables import Table
from minigpt.system.units import count_text, flops_text

COLUMNS = ("run", "parameters", "tokens", "FLOPs", "loss", "by the law")


def result_text(result: ScalingResult, how: str) -> str:
    """The whole study; `how` says where the budget comes from."""
    left_out = [f"left out: {each}" for each in result.sweep.left_out]
    if result.sweep.unknown_text:
        left_out.append("note: it is not recorded for every run which text it was validated on: only the names agree")
    blocks = [
        [*left_out, run_table(result.sweep, result.fit).plain()],
        law_lines(result.fit),
        parabola_lines(result.parabolas, result.frontier),
        advice_lines(result.advice, how),
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def run_table(sweep: ScalingSweep, fit: Fit) -> Table:
    """The loss of each run and the loss that the law predicts, the cheapest run first."""
    rows: list[Sequence[str]] = []
    for point in sorted(sweep.points, key=lambda point: (point.flops, point.n_parameters)):
        law = fit.law.loss(point.n_parameters, point.n_tokens)
        sizes = (count_text(point.n_parameters), count_text(point.n_tokens), flops_text(point.flops))
        rows.append((point.name, *sizes, f"{point.loss:.4f}", f"{law:.4f}"))
    return Table(columns=COLUMNS, rows=rows, numbers=frozenset(COLUMNS[1:]))


def law_lines(fit: Fit) -> list[str]:
    """The formula, and each coefficient with its 90 % bootstrap interval."""
    law = fit.law
    lines = [f"L(N, D) = {law.E:.4g} + {law.A:.4g} / N^{law.alpha:.3g} + {law.B:.4g} / D^{law.beta:.3g} nats a token"]
    lines += [f"{name:<6}{getattr(law, name):<10.4g}{_between(fit.interval(name))}" for name in COEFFICIENTS]
    lines.append(f"{'a':<6}{fit.exponent:<10.3g}{_between(fit.exponent_interval())}: the best N grows as C^a")
    lines.append(f"residual {fit.residual:.2%} (root mean square); {fit.flops_per_pair:.3g} FLOPs / (N D)")
    return lines


def parabola_lines(found: list[Parabola], line: Frontier | None) -> list[str]:
    """A line for each budget, and the frontier."""
    if not found:
        return ["no budget has three sizes or more: no parabolas"]
    lines = []
    for each in found:
        lowest = f"the lowest loss, {each.best_loss:.4f}, at {count_text(each.best_parameters)} ({_best_between(each)})"
        line_text = lowest if each.is_inside else "no minimum within the range of sizes"
        lines.append(f"{flops_text(each.flops)} FLOPs: {line_text}")
    if line is not None:
        interval = line.exponent_interval
        between = "(two budgets: no interval)" if interval is None else _between(interval)
        lines.append(f"the best N grows as C^{line.exponent:.3g} {between}")
    return lines


def _best_between(found: Parabola) -> str:
    if found.freedom == 0:
        return "three runs: no interval"
    if not found.interval.is_bounded:
        return f"no interval: {len(found.points)} runs with so much scatter may have no minimum"
    return f"{count_text(found.interval.low)} to {count_text(found.interval.high)}"


def advice_lines(advice: Advice, how: str) -> list[str]:
    """The recommendation and its warnings."""
    low, high = advice.interval.low, advice.interval.high
    loss = advice.loss_interval
    lines = [
        f"for {flops_text(advice.flops)} FLOPs{how}: {count_text(advice.n_parameters)} parameters "
        f"({count_text(low)} to {count_text(high)}) and {count_text(advice.n_tokens)} tokens, "
        f"{advice.n_tokens / advice.n_parameters:.3g} a parameter; loss {advice.loss:.3f} "
        f"({loss.low:.3f} to {loss.high:.3f})",
        f"  {command(advice)}",
    ]
    if advice.by_parabolas is not None:
        lines.append(f"  the parabolas say {count_text(advice.by_parabolas)} parameters")
    return [*lines, *(f"  warning: {each}" for each in advice.warnings)]


def command(advice: Advice) -> str:
    """The command that trains it, to paste into a shell."""
    words = ["minigpt", "fit", "--config", str(advice.base)]
    for key, value in advice.settings.items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def _between(interval: Interval) -> str:
    return f"({interval.low:.4g} to {interval.high:.4g})"
