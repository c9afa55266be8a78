"""The report of a comparison: one HTML file that needs nothing else, with its pictures and numbers beside it."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from minigpt.errors import ConfigError
from minigpt.lab.compare.picture import Picture, draw_curves, draw_differences
from minigpt.lab.compare.result import Comparison, Verdict, as_plain
from minigpt.lab.compare.samples import SampledText, last_samples
from minigpt.lab.compare.table import (
    ALONE,
    explanation,
    findings,
    left_out_table,
    outcome_table,
    settings_table,
    undecided_table,
)
from minigpt.lab.tables import Table
from minigpt.system.files import atomic_write
from minigpt.system.marks import has_mark, write_mark
from minigpt.system.output import symbols

REPORT = "report.html"
_MANY = 7  # columns of numbers that have room beside each other in a window of 1200 pixels
_MARKS = {"better": "▲", "worse": "▼", "none": "–"}


def write_report(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `report.html`, `comparison.json` and each picture as SVG and PNG into `folder`; gives their paths.

    An earlier report is replaced, each file as a whole; anything else of these names is not. Raises ConfigError where
    `folder` cannot be one, cannot be written, or has such a file of another program's.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file: it must be a folder")
    pictures = [picture for picture in (draw_curves(comparison), draw_differences(comparison)) if picture is not None]
    contents: dict[str, str | bytes] = {REPORT: as_html(comparison, pictures, last_samples(comparison))}
    for picture in pictures:
        contents |= {f"{picture.name}.svg": picture.svg, f"{picture.name}.png": picture.png}
    contents["comparison.json"] = json.dumps(as_plain(comparison), indent=1, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(folder, contents)
        write_mark(folder, "report")
        for name, content in contents.items():
            atomic_write(folder / name, content)
    except OSError as error:
        raise ConfigError(f"--out {folder} must be a folder that can be written: {error.strerror}") from error
    return [folder / name for name in contents]


def _refuse_strangers(folder: Path, names: Iterable[str]) -> None:
    """Raise ConfigError for a file that would be replaced and is no report's."""
    page = folder / REPORT
    known = page.is_file() and _KIND.encode() in page.read_bytes()  # also one of before there were marks
    taken = next((name for name in names if (folder / name).exists()), None)
    if taken is not None and not known and not has_mark(folder, "report"):
        raise ConfigError(f"--out {folder} holds {taken}, which minigpt compare did not write: name another folder")


def as_html(comparison: Comparison, pictures: Sequence[Picture], samples: Sequence[SampledText]) -> str:
    """The page; every word that comes from a run is escaped."""
    style = (files("minigpt.lab.compare") / "report.css").read_text(encoding="utf-8")
    tables = [settings_table(comparison), outcome_table(comparison), left_out_table(comparison)]
    captions = {"curves": _curves_caption(comparison), "differences": _differences_caption(comparison)}
    sections = [
        _section("Verdicts", _verdicts(comparison)),
        *(_section(picture.name.capitalize(), _figure(picture, captions[picture.name])) for picture in pictures),
        *(_section(table.title.capitalize(), _table(table)) for table in tables if table is not None),
        f'<p class="sign">{_text(explanation(comparison))}</p>' if explanation(comparison) else "",
        _section("To be read with", "".join(f"<li>{_text(note)}</li>" for note in comparison.notes), tag="ul"),
        _section("Samples", "".join(map(_sample, samples)), tag="div", kind="samples"),
    ]
    return _PAGE.format(
        title=_text(comparison.name),
        style=style,
        facts=_text(_facts(comparison)),
        sections="\n".join(filter(None, sections)),
    )


_KIND = '<p class="kind">minigpt compare</p>'


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}: comparison</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="kind">minigpt compare</p>
<h1>{title}</h1>
<p class="facts">{facts}</p>
</header>
{sections}
</main>
</body>
</html>
"""


def _section(title: str, content: str, tag: str = "div", kind: str = "") -> str:
    """Nothing, where there is no content."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<section>\n<h2>{_text(title)}</h2>\n<{tag}{attribute}>{content}</{tag}>\n</section>" if content else ""


def _verdicts(comparison: Comparison) -> str:
    if len(comparison.groups) == 1:
        return f'<p class="verdict none">{_text(ALONE)}</p>\n'
    rest = undecided_table(comparison)
    table = f'<p class="verdict none">{_text(rest.title)}</p>\n{_table(rest)}' if rest else ""
    return "".join(map(_verdict, findings(comparison))) + table


def _verdict(verdict: Verdict) -> str:
    mark = f'<span class="mark" aria-hidden="true">{_MARKS[verdict.claim]}</span>'
    return f'<p class="verdict {verdict.claim}">{mark}<span>{_text(verdict.text)}</span></p>\n'


def _figure(picture: Picture, caption: str) -> str:
    return f"<figure>{picture.inline}<figcaption>{_text(caption)}</figcaption></figure>"


def _table(table: Table) -> str:
    classes = [' class="number"' if name in table.numbers else "" for name in table.columns]
    head = "".join(f"<th{kind}>{_text(name)}</th>" for name, kind in zip(table.columns, classes, strict=True))
    many = ' class="many"' if len(table.numbers) > _MANY else ""
    body = ""
    for position, row in enumerate(table.rows):
        cells = "".join(f"<td{kind}>{_cell(cell, kind)}</td>" for cell, kind in zip(row, classes, strict=True))
        kind = ' class="baseline"' if position in table.emphasised else ""
        body += f"<tr{kind}>{cells}</tr>\n"
    return f'<div class="wide"><table{many}><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(text: str, kind: str) -> str:
    """The half of an interval is smaller than the number before it, so that many columns fit."""
    mean, sign, half = text.partition(" ± ")
    return f'{_text(mean)} <span class="half">± {_text(half)}</span>' if kind and sign else _text(text)


def _sample(sample: SampledText) -> str:
    head = f"<h3>{_text(sample.group)}</h3><p>{_text(sample.run)}, step {sample.step:,}</p>"
    return f"<article>{head}<pre>{_text(sample.text)}</pre></article>\n"


def _facts(comparison: Comparison) -> str:
    n_runs, n_groups = len(comparison.runs), len(comparison.groups)
    compared = {"loss": "validation loss in nats per token", "bits_per_byte": "validation bits per byte"}
    at = {"final": "at the end", "best": "at its lowest", "tokens": "at equal tokens", "flops": "at equal FLOPs"}
    where = at.get(comparison.by, "at equal training time")
    return (
        f"{n_runs} run{'s' * (n_runs != 1)} in {n_groups} group{'s' * (n_groups != 1)}, "
        f"compared by {compared[comparison.measure]} {where}; baseline: {comparison.baseline}"
    )


def _curves_caption(comparison: Comparison) -> str:
    banded = any(len(group.seeds) > 1 for group in comparison.groups)
    band = " Lines are means over the seeds, bands reach from the lowest to the highest of them." if banded else ""
    return f"The groups stand in the order of their values, the best first; the baseline is dashed.{band}"


def _differences_caption(comparison: Comparison) -> str:
    tests = sum(verdict.p is not None for verdict in comparison.verdicts)
    many = f"; p-values are corrected for {tests} comparisons (Holm), intervals are not" if tests > 1 else ""
    return f"Bars are 95% intervals over the seeds. Grey: no difference can be claimed{many}."


def _text(text: str) -> str:
    """`text` as HTML, control characters as symbols."""
    return escape(symbols(text))
