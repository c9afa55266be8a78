"""A comparison as tables: settings that differ, results, and runs that are not compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from minigpt.lab.compare.labels import yaml_text
from minigpt.lab.compare.result import Comparison, Group, Verdict, field_of
from minigpt.lab.compare.statistics import Estimate
from minigpt.system.tables import Table
from minigpt.system.units import count_text, flops_text, seconds_text

SINGLE_GROUP = "one group: nothing to compare it with"
"""Shown in place of verdicts."""
_FEW = 4  # columns of settings, or of groups
_FEW_SENTENCES = 2  # verdicts without a claim


def ranked(comparison: Comparison) -> list[Group]:
    """The groups, sorted by what the verdicts are about: the lowest first, which is the best for a loss."""
    field, worst = comparison.field, float("inf")
    return sorted(
        comparison.groups, key=lambda group: group.estimates[field].mean if field in group.estimates else worst
    )


def settings_table(comparison: Comparison) -> Table | None:
    """The settings that differ: a column for each, or a row each if they outnumber the groups; if there are many of
    both, each group's changes in one cell. None if nothing differs."""
    groups = ranked(comparison)
    keys = list(dict.fromkeys(key for group in groups for key in group.settings))
    if not keys:
        return None
    title = "settings that differ"
    rows: list[Sequence[str]]
    if len(keys) <= _FEW:
        rows = [(_display_name(group, comparison), *(_value(group.settings, key) for key in keys)) for group in groups]
        table = Table(title=title, columns=("group", *keys), rows=rows, reads_down=True)
        return _emphasised(table, groups, comparison)
    if len(groups) <= _FEW:
        rows = [(key, *(_value(group.settings, key) for group in groups)) for key in keys]
        columns = ("setting", *(_display_name(group, comparison) for group in groups))
        return Table(title=title, columns=columns, rows=rows, reads_down=True)
    baseline = next(group for group in groups if group.name == comparison.baseline)
    rows = [(_display_name(group, comparison), _changes(group, baseline, keys)) for group in groups]
    table = Table(title=title, columns=("group", "settings"), rows=rows, prose=frozenset({"settings"}))
    return _emphasised(table, groups, comparison)


def outcome_table(comparison: Comparison) -> Table:
    """The results, the best group first: means over the seeds with their 95% intervals."""
    groups = ranked(comparison)
    columns = {"group": [_display_name(group, comparison) for group in groups]}
    columns["seeds"] = [str(len(group.seeds)) for group in groups]
    for title, field, text in _columns(comparison):
        if _is_worth_a_column(field, comparison):
            columns[title] = [_estimate(group.estimates.get(field), text) for group in groups]
    table = Table(
        title="results",
        columns=tuple(columns),
        rows=list(zip(*columns.values(), strict=True)),
        numbers=frozenset(columns) - {"group"},
        reads_down=True,
    )
    return _emphasised(table, groups, comparison)


def findings(comparison: Comparison) -> list[Verdict]:
    """The verdicts to be shown as sentences, claims first: all of them if few are without a claim."""
    order = [group.name for group in ranked(comparison)]
    verdicts = sorted(comparison.verdicts, key=lambda each: (each.claim == "none", order.index(each.group)))
    return [each for each in verdicts if each.claim != "none" or undecided_table(comparison) is None]


def undecided_table(comparison: Comparison) -> Table | None:
    """The groups without a claim, if they are so many that sentences would hide the others."""
    order = [group.name for group in ranked(comparison)]
    rest = sorted((each for each in comparison.verdicts if each.claim == "none"), key=lambda x: order.index(x.group))
    if len(rest) <= _FEW_SENTENCES:
        return None
    columns: tuple[str, ...] = ("group", f"difference, {comparison.unit}", "p", "why")
    rows = [(each.group, each.size or "–", _p(each), each.why) for each in rest]
    if not any(each.why for each in rest):
        columns, rows = columns[:-1], [row[:-1] for row in rows]  # type: ignore[misc]
    tests = sum(each.p is not None for each in comparison.verdicts)
    corrected = f" (p: corrected for {tests} comparisons)" if tests > 1 else ""
    return Table(
        title=f"no difference to {comparison.baseline} can be claimed{corrected}",
        columns=columns,
        rows=list(rows),
        numbers=frozenset(columns[1:3]),
        prose=frozenset({"why"}),
        reads_down=True,
    )


def _p(verdict: Verdict) -> str:
    return "–" if verdict.p_corrected is None else f"{verdict.p_corrected:.2g}"


def column_notes(comparison: Comparison) -> list[str]:
    """A note on the numbers that too few groups have, if there are any."""
    titles = [title for title, field, _ in _columns(comparison) if not _is_worth_a_column(field, comparison)]
    return [f"Left out, as fewer than two groups have a value there: {', '.join(titles)}."] if titles else []


def interval_note(comparison: Comparison) -> str:
    """What ± means in the results and the verdicts; empty if it is not used."""
    if any("±" in verdict.size for verdict in comparison.verdicts):
        return "±: half of a 95% interval over the seeds, of each comparison by itself"
    shown = any("±" in cell for row in outcome_table(comparison).rows for cell in row)
    return "±: half of a 95% interval over the seeds" if shown else ""


def left_out_table(comparison: Comparison) -> Table | None:
    """The runs that are not compared, each with its reason."""
    if not comparison.left_out:
        return None
    rows = [(each.name, each.state, each.reason) for each in comparison.left_out]
    columns = ("run", "state", "reason")
    return Table(title="not compared", columns=columns, rows=list(rows), prose=frozenset({"reason"}))


def all_tables(comparison: Comparison) -> list[Table]:
    """The tables that have rows: settings that differ, results, and runs that are not compared."""
    tables = (settings_table(comparison), outcome_table(comparison), left_out_table(comparison))
    return [table for table in tables if table is not None]


def _columns(comparison: Comparison) -> list[tuple[str, str, Callable[[float], str]]]:
    """Title, field and format of each number; one that equals the final one for all runs is left out."""
    final = field_of("final", comparison.measure)
    ends: dict[str, Callable[[float], str]] = {
        "tokens": lambda x: f"at {count_text(x)} tokens",
        "flops": lambda x: f"at {flops_text(x)} FLOPs",
        "time": lambda x: f"at {seconds_text(x)} of training",
    }
    columns: list[tuple[str, str, Callable[[float], str]]] = [("final loss", "final_loss", _loss)]
    if any(run.best_loss != run.final_loss for run in comparison.runs):
        columns.append(("best loss", "best_loss", _loss))
    columns.append(("bits per byte", "final_bits_per_byte", _loss))
    if comparison.measure != "loss" and any(
        run.best_bits_per_byte != run.final_bits_per_byte for run in comparison.runs
    ):
        columns.append(("best bits per byte", "best_bits_per_byte", _loss))
    for name, end in ends.items():
        x, field = comparison.equal[name], f"at_equal_{name}"
        if x is not None and any(getattr(run, field) != getattr(run, final) for run in comparison.runs):
            columns.append((end(x), field, _loss))
    evaluations = dict.fromkeys(name for run in comparison.runs for name in run.evaluations)
    return [
        *columns,
        *((name.removeprefix("eval/"), name, lambda x: f"{x:.4g}") for name in evaluations),
        ("tokens/s", "tokens_per_second", count_text),
        ("parameters", "parameters", lambda n: f"{n:,.0f}"),
    ]


def _is_worth_a_column(field: str, comparison: Comparison) -> bool:
    """Whether two groups have a value there, or the only group has one."""
    return sum(field in group.estimates for group in comparison.groups) >= min(2, len(comparison.groups))


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _estimate(value: Estimate | None, text: Callable[[float], str]) -> str:
    if value is None:
        return "–"
    if value.half_width:
        return f"{text(value.mean)} ± {text(value.half_width)}"
    return text(value.mean)


def _display_name(group: Group, comparison: Comparison) -> str:
    return (
        f"{group.name} (baseline)" if group.name == comparison.baseline and len(comparison.groups) > 1 else group.name
    )


def _value(settings: dict[str, Any], key: str) -> str:
    return yaml_text(settings[key]) if key in settings else "–"


def _changes(group: Group, baseline: Group, keys: Sequence[str]) -> str:
    """`model.position=rotary`; for the baseline all keys that any other group changes."""
    changed = [
        key for key in keys if group is baseline or _value(group.settings, key) != _value(baseline.settings, key)
    ]
    return ", ".join(f"{key}={_value(group.settings, key)}" for key in changed)


def _emphasised(table: Table, groups: Sequence[Group], comparison: Comparison) -> Table:
    position = [group.name for group in groups].index(comparison.baseline)
    return replace(table, emphasised=frozenset({position}))
