"""Make the .ipynb of each notebook from its .py, with everything in it executed.

    python notebooks/build.py                  write them all
    python notebooks/build.py 2_model          only those whose names begin so
    python notebooks/build.py --check          execute without writing; fail where an .ipynb is not its .py

A notebook takes the run `runs/base`, or the sweep `runs/ablation` or `runs/scaling`, where there is one, and trains a small
one otherwise.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NO_CONVERT, NotebookNode, read, write, writes

FOLDER = Path(__file__).resolve().parent
MOST_BYTES = 400_000
LONGEST_SECONDS = 600


def main() -> int:
    """Build or check; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; none: all notebooks")
    parser.add_argument("--check", action="store_true", help="execute and compare, write nothing")
    arguments = parser.parse_args()
    wrong: list[str] = []
    for source in sources(arguments.names):
        print(source.stem, flush=True)
        built = execute(read_source(source))
        wrong += faults(built, source.stem)
        if arguments.check:
            wrong += differences(source)
        else:
            write(built, source.with_suffix(".ipynb"))
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return bool(wrong)


def sources(names: list[str]) -> list[Path]:
    """The notebooks' .py files, in order; with `names` those that begin with one of them."""
    return [path for path in sorted(FOLDER.glob("[0-9]_*.py")) if path.name.startswith(tuple(names) or "")]


def read_source(path: Path) -> NotebookNode:
    """A percent-format .py as a notebook without outputs, in which nothing depends on when and where it was made."""
    notebook = jupytext.read(path, fmt="py:percent")
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
    return plain(notebook)


def read_executed(path: Path) -> NotebookNode:
    """An .ipynb as it is."""
    return read(path, as_version=NO_CONVERT)


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run all cells, in a fresh kernel, in this folder."""
    client = NotebookClient(
        notebook,
        timeout=LONGEST_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        record_timing=False,  # else every build would differ
    )
    client.execute()
    return plain(notebook)


def plain(notebook: NotebookNode) -> NotebookNode:
    """Keep of the metadata what a viewer needs, and nothing of this machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    }
    return notebook


def faults(notebook: NotebookNode, name: str) -> list[str]:
    """What a built notebook must not hold: a path of this machine, something on stderr, too many bytes."""
    here = {str(path) for path in (FOLDER.parent, Path.home(), Path(sys.prefix), Path(sys.base_prefix))}
    here.add(str(Path(tempfile.gettempdir(), "minigpt-")))
    found = []
    for cell in notebook.cells:
        outputs = json.dumps(cell.get("outputs", []))
        found += [f"{name}: {cell.id} shows {path}" for path in sorted(here) if len(path) > 1 and path in outputs]
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            found.append(f"{name}: {cell.id} writes to stderr")
    size = len(writes(notebook).encode())
    return [*found, *([f"{name}: {size:,} bytes, more than {MOST_BYTES:,}"] if size > MOST_BYTES else [])]


def differences(source: Path) -> list[str]:
    """Where the committed .ipynb has other cells than its .py, or cells that were not executed."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} is missing: python notebooks/build.py makes it"]
    wanted, found = read_source(source).cells, read_executed(target).cells
    if [(cell.cell_type, cell.source) for cell in wanted] != [(cell.cell_type, cell.source) for cell in found]:
        return [f"{target.name} is not {source.name}: python notebooks/build.py brings it up to date"]
    if any(cell.cell_type == "code" and cell.execution_count is None for cell in found):
        return [f"{target.name} was not executed: python notebooks/build.py does it"]
    return []


if __name__ == "__main__":
    sys.exit(main())
