"""The report: everything in one file, every word of a run escaped; pictures that can be read."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lab.folders import write_run, write_sweep
from minigpt.errors import ConfigError
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.picture import PALETTE, colours, draw_curves, draw_differences
from minigpt.lab.compare.report import write_report
from minigpt.lab.compare.samples import SampledText, last_samples
from minigpt.lab.compare.table import ranked
from minigpt.system.marks import MARK

HOSTILE = "<script>alert('$x$ & \"y\"')</script>"


class Page(HTMLParser):
    """Tags that are opened, words outside of them, and whether all are closed in turn."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    cells = []
    for group, loss in (("base", 2.0), (HOSTILE, 1.9), ("$\\frac{$", 2.1), ("你好\x1b[31m", 2.2)):
        for n in (1, 2, 3):
            name = f"cell{len(cells)}"
            write_run(tmp_path / "sweep" / name, [3.0, 2.5, 2.2, loss + n / 100], {"model.position": group}, seed=n)
            cells.append({"name": name, "group": group, "seed": n, "state": "finished"})
    cells.append({"name": "lost", "group": HOSTILE, "state": "failed", "reason": HOSTILE})
    return write_sweep(tmp_path / "sweep", cells)


def test_page_needs_nothing_else_and_runs_nothing(sweep: Path, tmp_path: Path) -> None:
    for number, content in enumerate(sweep.glob("cell*/config.yaml")):
        content.write_text(content.read_text().replace("name: cell", f"name: other{number}"))
    # a model's settings must be valid for its size to be known
    for config in sweep.glob("cell*/config.yaml"):
        config.write_text(re.sub(r"position: .*", "position: rotary", config.read_text()))
    written = write_report(compare([sweep]), tmp_path / "deep" / "report")
    names = {"report.html", "comparison.json", "curves.svg", "curves.png", "differences.svg", "differences.png"}
    assert {path.name for path in written} == names
    assert {path.name for path in (tmp_path / "deep" / "report").iterdir()} == {*names, MARK}
    text = written[0].read_text()
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "style_"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), attributes
    assert "@import" not in text
    assert HOSTILE in page.words  # as text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert json.loads((tmp_path / "deep" / "report" / "comparison.json").read_text())["baseline"] == "base"


def test_pictures_are_whole(sweep: Path) -> None:
    for config in sweep.glob("cell*/config.yaml"):
        config.write_text(re.sub(r"position: .*", "position: rotary", config.read_text()))
    found = compare([sweep])
    for picture in (draw_curves(found), draw_differences(found)):
        assert picture is not None
        assert picture.png.startswith(b"\x89PNG")
        assert picture.svg.startswith("<?xml")
        assert "prefers-color-scheme: dark" in picture.svg
        assert "<script>" not in picture.svg
        assert "currentColor" in picture.inline
        assert "#ffffff" not in picture.inline  # the page's own colour shows through
        again = draw_curves(found) if picture.name == "curves" else draw_differences(found)
        assert again == picture


def many(tmp_path: Path, n_groups: int) -> list[Path]:
    return [
        write_run(tmp_path / f"g{n:02}", [3.0, 2.5, 2.2, 2.0 + n / 100], {"optim.lr": n + 1.0}) for n in range(n_groups)
    ]


def test_every_group_has_a_colour_of_its_own_while_they_last(tmp_path: Path) -> None:
    found = compare(many(tmp_path, len(PALETTE)))
    assert len(set(colours(found).values())) == len(PALETTE)
    assert list(colours(found)) == [group.name for group in ranked(found)]


def test_of_many_groups_the_best_the_worst_and_the_baseline_stand_out(tmp_path: Path) -> None:
    found = compare(many(tmp_path, 20), baseline="g10")
    tones = colours(found)
    bright = [name for name, tone in tones.items() if tone]
    assert len(bright) == len(PALETTE)
    assert {"lr=11.0", "lr=1.0", "lr=20.0"} <= set(bright)
    assert "12 more" in draw_curves(found).svg


def test_one_run_has_no_differences_to_draw(tmp_path: Path) -> None:
    assert draw_differences(compare(many(tmp_path, 1))) is None


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match="out is a file: it must be a folder"):
        write_report(compare(many(tmp_path, 1)), tmp_path / "out")


def test_samples_are_the_last_ones_of_each_group(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    first, second = many(tmp_path, 2)
    with SummaryWriter(first) as writer:
        writer.add_text("sample", "    early", 1)
        writer.add_text("sample", "    To be\n        or <b>not</b>\n    ", 40)
    found = compare([first, second])
    assert last_samples(found) == [SampledText("lr=1.0", "g00", 40, "To be\n    or <b>not</b>\n")]
    page = write_report(found, tmp_path / "out")[0].read_text()
    assert "or &lt;b&gt;not&lt;/b&gt;" in page
    next(first.glob("events*")).write_bytes(b"damaged")
    assert last_samples(found) == []


def test_many_numbers_have_their_intervals_below_them(tmp_path: Path) -> None:
    """Eight columns of numbers are wider than a window of 1200 pixels unless each is as narrow as its mean."""
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a-s{seed}", [3.0, 2.0 + seed / 100], {"trainer.max_steps": 20}, seed=seed)
        longer = {"trainer.max_steps": 30, "model.n_layer": 2}
        write_run(tmp_path / f"b-s{seed}", [3.0, 2.0, 2.1 + seed / 100], longer, seed=seed, milliseconds=130.0)
    text = write_report(compare([tmp_path]), tmp_path / "report")[0].read_text()
    assert text.count('<table class="many">') == 1
    assert '<td class="number">2.0200 <span class="half">± 0.0248</span></td>' in text
    assert '<p class="interval-note">±: half of a 95% interval' in text
    for path in tmp_path.glob("b-*"):
        shutil.rmtree(path)
    text = write_report(compare([tmp_path]), tmp_path / "report")[0].read_text()
    assert 'class="many"' not in text


def test_a_single_validation_is_a_mark(tmp_path: Path) -> None:
    """A line of one point would be an empty grid; the spread of its seeds is a line upwards."""
    for seed in (1, 2):
        write_run(tmp_path / f"a-s{seed}", [2.0 + seed / 100], seed=seed)
        write_run(tmp_path / f"b-s{seed}", [3.0 + seed / 100], {"optim.lr": 0.1}, seed=seed)
    one = draw_curves(compare([tmp_path]))
    assert one.svg.count("<use ") > draw_curves(compare([longer(tmp_path)])).svg.count("<use ")


def longer(folder: Path) -> Path:
    for seed in (1, 2):
        write_run(folder / "more" / f"a-s{seed}", [3.0, 2.0 + seed / 100], seed=seed)
        write_run(folder / "more" / f"b-s{seed}", [3.0, 3.0 + seed / 100], {"optim.lr": 0.1}, seed=seed)
    return folder / "more"
