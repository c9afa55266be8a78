"""Bring pages from outside docs/ into the manual: the results of the benchmarks, CONTRIBUTING.md and CHANGELOG.md.

Links in the pages are those that work on GitHub (`../benchmarks/results/ablation.md`). Here they are turned to where
the page stands in the manual. A link to a file that is no page (a source file, a config) leads to the repository that
pyproject.toml names. (`repo_url` of mkdocs.yml would make each page ask that site for its stars.)
"""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
REPOSITORY = (
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    .get("urls", {})
    .get("Repository", "")
)
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def _page_of(path: str) -> str | None:
    """Where a file of the repository stands in the manual, or None."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("benchmarks/results/"):
        return path.removeprefix("benchmarks/")
    return {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}.get(path)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that lie outside docs/."""
    outside = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "benchmarks/results").iterdir())]
    for path in outside:
        page = _page_of(path.relative_to(ROOT).as_posix())
        if page is not None and path.suffix in {".md", ".png", ".svg"}:
            files.append(File.generated(config, page, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    here = posixpath.dirname(page.file.src_uri)

    def turn(match: re.Match[str]) -> str:
        before, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page_path = _page_of(path)
        if page_path is None:
            return f"{before}({REPOSITORY}/blob/main/{path})"
        return f"{before}({posixpath.relpath(page_path, here or '.')}{hash_}{anchor})"

    return _LINK.sub(turn, markdown)
