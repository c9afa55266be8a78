"""The fenced blocks of the README and the manual.

A block of bash or python is a command or a program, and tests run it, unless a comment stands in front of it:
`<!-- not run: WHY -->`, or `<!-- fails: CODE -->` for one that ends with that exit code. A block with a title is a file
of that name, for the blocks below it on the page. A block of text is what something printed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)[ ]*(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str | None
    mark: str
    """The comment in front of it; empty: none."""
    text: str

    @property
    def why_not(self) -> str | None:
        """Why it is not run, or None."""
        return self.mark.removeprefix("not run:").strip() if self.mark.startswith("not run:") else None

    @property
    def exit_code(self) -> int:
        """What it ends with."""
        return int(self.mark.removeprefix("fails:")) if self.mark.startswith("fails:") else 0

    @property
    def place(self) -> str:
        """`docs/data.md:12`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["rest"])
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start("indent")) + 1,
            language=match["language"],
            title=title[1] if title else None,
            mark=match["mark"] or "",
            text=match["text"],
        )


def commands_of(block: Block) -> Iterator[str]:
    """The `minigpt` commands of a block of bash, loops unrolled once, comments gone."""
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        bare = re.sub(r"^for \w+ in .*?; do | ?; done$|\s#.*$", "", line).strip()
        for part in re.split(r"&&|;|>", bare):
            if part.strip().startswith("minigpt "):
                yield part.strip().replace("$seed", "1")
