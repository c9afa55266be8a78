"""The floors of the house: a file imports from below or from its own package, never up and never sideways.

Read from the imports with ast, nothing is run. Imports under TYPE_CHECKING count. There are no exceptions.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minigpt

ROOT = Path(minigpt.__file__).parent
FLOORS = {
    "commands": 8, "__main__": 8,
    "cli": 7,
    "api": 6,
    "lab": 5,
    "training": 4, "interop": 4,
    "runs": 3, "evaluate": 3, "interpret": 3,
    "generate": 2, "data.batches": 2,
    "data": 1, "model": 1, "optim": 1,
    "system": 0, "errors": -1,
}  # fmt: skip
"""By package, or by a file that stands higher than its package."""
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
MODULES = {".".join(["minigpt", *path.relative_to(ROOT).with_suffix("").parts]) for path in FILES}


def package_of(module: str) -> str:
    """`minigpt.model.gpt` -> `model`."""
    return module.split(".")[1]


def floor_of(module: str) -> int:
    """The floor of a file, else of its package."""
    return FLOORS.get(module.removeprefix("minigpt."), FLOORS[package_of(module)])


def module_of(path: Path) -> str:
    return ".".join(["minigpt", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports: at its top, inside a function, under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield node.lineno, inside if inside in MODULES else node.module


def test_every_package_has_a_floor() -> None:
    packages = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert packages == {name for name in FLOORS if "." not in name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    here = module_of(path)
    for line, there in imports(path):
        if there == "minigpt" or not there.startswith("minigpt.") or package_of(there) == package_of(here):
            continue
        assert floor_of(there) < floor_of(here), f"{path}:{line}: {here} imports {there}"


@pytest.mark.parametrize(
    ("part", "banned"),
    [
        ("data", {"torch", "lightning", "jsonargparse"}),
        ("model", {"lightning", "jsonargparse", "numpy", "os", "pathlib", "logging", "random"}),
        ("optim", {"lightning", "jsonargparse", "numpy", "os", "pathlib", "logging", "random"}),
    ],
)
def test_packages_know_only_what_they_need(part: str, banned: set[str]) -> None:
    for path in set((ROOT / part).rglob("*.py")) - {ROOT / "data" / "batches.py"}:
        for line, name in imports(path):
            assert name.split(".")[0] not in banned, f"{path}:{line}: {part} imports {name}"


def test_only_training_lab_and_cli_know_the_trainer() -> None:
    for path in FILES:
        if package_of(module_of(path)) in {"training", "lab", "cli"}:
            continue
        for line, name in imports(path):
            assert name.split(".")[0] not in {"lightning", "jsonargparse"}, f"{path}:{line}: imports {name}"


def test_model_prints_nothing_and_asks_nothing() -> None:
    """No print, no seed, no device choice in the transformer: it computes."""
    for path in (ROOT / "model").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"print", "input", "torch.manual_seed", "torch.cuda.is_available"}, (
                    f"{path}:{node.lineno}"
                )


@pytest.mark.parametrize("words", [["--model.n_hed=3"], ["--model.n_head=x"], ["--help"]])
def test_a_command_line_is_checked_without_heavy_imports(words: list[str]) -> None:
    """Before it is right, `minigpt fit` imports neither torch nor numpy nor lightning."""
    code = (
        "import sys; from minigpt.cli.main import main; main(['fit', '--config', 'base', *sys.argv[1:]]);"
        "heavy = {'torch', 'numpy', 'lightning', 'tokenizers', 'scipy'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph[module_of(path)] = {name for _, name in imports(path) if name.startswith("minigpt.")}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module in done:
            return
        for target in graph.get(module, ()):
            visit(target, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_a_type_of_lab_has_one_meaning() -> None:
    """Its files import from each other: State, Listed and Source were two things each."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "lab").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [node.name] if isinstance(node, ast.ClassDef) else [ast.unparse(target) for target in targets]
            for name in names:
                if not name.startswith("_") and not name.isupper():
                    found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
