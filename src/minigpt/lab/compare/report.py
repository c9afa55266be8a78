"""The report of a comparison: one HTML file that needs nothing else, with its pictures and numbers beside it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minigpt.errors import ConfigError
from minigpt.lab.compare.picture import Picture, draw_curves, draw_differences
from minigpt.lab.compare.result import Comparison, as_plain
from minigpt.lab.compare.samples import SampledText, last_samples
from minigpt.lab.compare.table import SINGLE_GROUP, all_tables, findings, interval_note, undecided_table
from minigpt.system.files import atomic_write
from minigpt.system.marks import has_mark, write_mark
from minigpt.system.output import symbols

REPORT = "report.html"
_KIND = '<p class="kind">minigpt compare</p>'
"""A line of every report, also of those written before folders were marked."""


def write_report(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `report.html`, `comparison.json` and each picture as SVG and PNG into `folder`, and return their paths.

    An earlier report is replaced, each file as a whole; other files of these names are not. Raises ConfigError where
    `folder` is a file, cannot be written, or holds such a file that another program wrote.
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
        _refuse_other_files(folder, contents)
        write_mark(folder, "report")
        for name, content in contents.items():
            atomic_write(folder / name, content)
    except OSError as error:
        raise ConfigError(f"--out {folder} must be a folder that can be written: {error.strerror}") from error
    return [folder / name for name in contents]


def _refuse_other_files(folder: Path, names: Iterable[str]) -> None:
    """Raise ConfigError if one of `names` is in `folder`, and `minigpt compare` did not write it."""
    page = folder / REPORT
    known = page.is_file() and _KIND.encode() in page.read_bytes()
    taken = next((name for name in names if (folder / name).exists()), None)
    if taken is not None and not known and not has_mark(folder, "report"):
        raise ConfigError(f"--out {folder} holds {taken}, which minigpt compare did not write: name another folder")


def as_html(comparison: Comparison, pictures: Sequence[Picture], samples: Sequence[SampledText]) -> str:
    """Render the page; every word that comes from a run is escaped."""
    import jinja2

    def shown(value: Any) -> Any:
        return symbols(value) if isinstance(value, str) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("minigpt.lab.compare", ""), autoescape=True, finalize=shown,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        subtitle=_subtitle(comparison),
        findings=findings(comparison),
        undecided=undecided_table(comparison),
        single_group=SINGLE_GROUP,
        pictures=pictures,
        captions={"curves": _curves_caption(comparison), "differences": _differences_caption(comparison)},
        tables=all_tables(comparison),
        interval_note=interval_note(comparison),
        samples=samples,
    )


def _subtitle(comparison: Comparison) -> str:
    n_runs, n_groups = len(comparison.runs), len(comparison.groups)
    compared = {"loss": "validation loss in nats per token", "bits_per_byte": "validation bits per byte"}
    at = {"final": "at the end", "best": "at its lowest", "tokens": "at equal tokens", "flops": "at equal FLOPs"}
    where = at.get(comparison.by, "at equal training time")
    by = f"the last {comparison.unit}" if comparison.metric else f"{compared[comparison.measure]} {where}"
    return (
        f"{n_runs} run{'s' * (n_runs != 1)} in {n_groups} group{'s' * (n_groups != 1)}, "
        f"compared by {by}; baseline: {comparison.baseline}"
    )


def _curves_caption(comparison: Comparison) -> str:
    banded = any(len(group.seeds) > 1 for group in comparison.groups)
    band = " Lines are means over the seeds, bands reach from the lowest to the highest of them." if banded else ""
    return f"The groups are sorted by their values, the best first; the baseline is dashed.{band}"


def _differences_caption(comparison: Comparison) -> str:
    tests = sum(verdict.p is not None for verdict in comparison.verdicts)
    many = f"; p-values are corrected for {tests} comparisons (Holm), intervals are not" if tests > 1 else ""
    return f"Bars are 95% intervals over the seeds. Grey: no difference can be claimed{many}."
