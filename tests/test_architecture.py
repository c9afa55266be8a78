"""The floors of the house: a file imports from below or from its own package, never up and never sideways.

Read from the imports with ast, nothing is run. DESIGN's table of floors stands here once more, as data.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import minigpt

ROOT = Path(minigpt.__file__).parent
FLOORS = {
    "cli": 5, "__main__": 5,
    "bench": 4,
    "training": 3, "api": 3, "interop": 3, "study": 3,
    "batches": 2, "checkpoint": 2, "sampling": 2, "sampling_batch": 2, "sampling_options": 2, "evaluation": 2,
    "divergence": 2, "replay": 2, "restorable": 2, "records": 2, "inspection": 2, "last_validation": 2,
    "text": 1, "model": 1, "optim": 1, "archive": 1, "randomness": 1, "weights": 1, "hardware": 1,
    "metrics_csv": 1, "run_state": 1, "sessions": 1,
    "errors": 0, "output": 0, "units": 0, "status_bar": 0, "files": 0, "settings": 0, "precision": 0, "layout": 0,
    "ownership": 0, "host": 0, "eager": 0,
}  # fmt: skip
SAME_FLOOR = {
    ("checkpoint", "restorable"),
    ("divergence", "restorable"),
    ("replay", "divergence"),
    ("settings", "errors"),
    ("precision", "errors"),
    ("output", "errors"),
    ("files", "output"),
    ("status_bar", "units"),
    ("ownership", "files"),
    ("ownership", "layout"),
    ("inspection", "batches"),
    ("inspection", "sampling"),
    ("inspection", "sampling_options"),
    ("sampling", "sampling_options"),
    ("sampling_batch", "sampling"),
    ("sampling_batch", "sampling_options"),
    ("records", "checkpoint"),
    ("records", "last_validation"),
    ("last_validation", "checkpoint"),
    ("__main__", "cli"),
}
"""One idea in two files, apart because one of them needs no torch."""
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(module: str) -> str:
    """`minigpt.model.gpt` -> `model`."""
    return module.split(".")[1]


def module_of(path: Path) -> str:
    return ".".join(["minigpt", *path.relative_to(ROOT).with_suffix("").parts])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, at its top or inside a function.

    What stands under `if TYPE_CHECKING` is left out: it names a type and is never run.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    names_only = {id(child) for guard in guards for child in ast.walk(guard)}
    for node in ast.walk(tree):
        if id(node) in names_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.lineno, node.module


def test_every_part_has_a_floor() -> None:
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert parts == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    here = part_of(module_of(path))
    for line, name in imports(path):
        if not name.startswith("minigpt.") or part_of(name) == here:
            continue
        there = part_of(name)
        downwards = FLOORS[there] < FLOORS[here]
        assert downwards or (here, there) in SAME_FLOOR, f"{path}:{line}: {here} imports {there}"


@pytest.mark.parametrize(
    ("part", "banned"),
    [
        ("text", {"torch", "lightning", "jsonargparse"}),
        ("model", {"lightning", "jsonargparse", "numpy", "os", "pathlib", "logging", "random"}),
        ("optim", {"lightning", "jsonargparse", "numpy", "os", "pathlib", "logging", "random"}),
    ],
)
def test_packages_know_only_what_they_need(part: str, banned: set[str]) -> None:
    for path in (ROOT / part).rglob("*.py"):
        for line, name in imports(path):
            assert name.split(".")[0] not in banned, f"{path}:{line}: {part} imports {name}"


def test_only_training_and_cli_know_the_trainer() -> None:
    for path in FILES:
        if part_of(module_of(path)) in {"training", "cli"}:
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


def test_configs_are_light() -> None:
    """What the command line checks first imports neither torch nor numpy nor lightning."""
    import subprocess
    import sys

    code = (
        "import sys; import minigpt.cli.keys, minigpt.model.config, minigpt.training.config, minigpt.text.options;"
        "heavy = {'torch', 'numpy', 'lightning', 'tokenizers', 'jsonargparse'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_cycles_within_a_package() -> None:
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


def test_a_type_of_study_has_one_meaning() -> None:
    """Its files import from each other: State, Listed and Source were two things each."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "study").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [node.name] if isinstance(node, ast.ClassDef) else [ast.unparse(target) for target in targets]
            for name in names:
                if not name.startswith("_") and not name.isupper():
                    found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
