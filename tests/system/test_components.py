"""Components of the user's own: found, refused in one line, and shown with their own line where they fail."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.errors import ConfigError
from minigpt.system.components import (
    check_choice,
    error_line,
    file_hashes,
    import_component,
    importing_from,
    is_dotted,
    user_files,
    user_frame,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder; what was imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a.B", True), ("pakete.größe.B", True), ("rotary", False), ("a.", False), (".a", False), ("1.5", False)]
    + [(value, False) for value in ("a..b", "a b.c", "./a.b", "", None, 3)],
)
def test_dotted_names(value: object, expected: bool) -> None:
    assert is_dotted(value) is expected


def test_a_choice_is_built_in_or_dotted() -> None:
    check_choice("model.position", "rotary", ["rotary", "alibi"])
    check_choice("model.position", "my_ideas.Spiral", ["rotary", "alibi"])
    with pytest.raises(ConfigError, match=r"^model\.position='rotray' must be one of rotary, alibi, .*mean rotary\?$"):
        check_choice("model.position", "rotray", ["rotary", "alibi"])


def test_components_come_from_the_working_folder_and_the_environment(folder: Path) -> None:
    (folder / "my_ideas.py").write_text("from my_parts import number\n\n\nclass Spiral:\n    size = number\n")
    (folder / "my_parts.py").write_text("number = 3\n")
    (folder / "unused.py").write_text("raise ValueError\n")
    assert import_component("model.position", "my_ideas.Spiral").size == 3
    assert import_component("optim.name", "collections.OrderedDict").__name__ == "OrderedDict"
    files = user_files(["my_ideas.Spiral", "collections.OrderedDict"])
    assert files == {"my_ideas.py": folder / "my_ideas.py", "my_parts.py": folder / "my_parts.py"}
    assert len(file_hashes(files)["my_ideas.py"]) == 64
    assert sys.path[0] != str(folder)  # a file of the user's named as a library does not take its place


def test_files_of_a_package_keep_their_folder(folder: Path) -> None:
    (folder / "mine" / "deep").mkdir(parents=True)
    for name in ("mine", "mine/deep"):
        (folder / name / "__init__.py").touch()
    (folder / "mine" / "deep" / "ideas.py").write_text("Spiral = 1\n")
    assert import_component("model.position", "mine.deep.ideas.Spiral") == 1
    files = user_files(["mine.deep.ideas.Spiral"])
    assert list(files) == ["mine/__init__.py", "mine/deep/__init__.py", "mine/deep/ideas.py"]


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("", "my_ideas.Spiral", r"my_ideas\.py has no Spiral$"),
        ("class Spirale: ...", "my_ideas.Spiral", r"my_ideas\.py has no Spiral, did you mean Spirale\?$"),
        ("", "my_idea.Spiral", r"there is no module my_idea in .*, did you mean my_ideas\?$"),
        ("import no_such", "my_ideas.Spiral", r"my_ideas\.py, line 1: import no_such: ModuleNotFoundError: No module"),
        ("\n1 / 0", "my_ideas.Spiral", r"my_ideas\.py, line 2: 1 / 0: ZeroDivisionError: division by zero$"),
        ("def f(:", "my_ideas.Spiral", r"my_ideas\.py, line 1: def f\(:: SyntaxError: "),
    ],
)
def test_what_fails_is_told_in_one_line(folder: Path, source: str, name: str, message: str) -> None:
    (folder / "my_ideas.py").write_text(source)
    with pytest.raises(ConfigError, match=rf"^model\.position={name}: .*{message}") as error:
        import_component("model.position", name)
    assert "\n" not in str(error.value)


def test_an_error_shows_the_innermost_line_of_the_users_own(folder: Path) -> None:
    (folder / "my_ideas.py").write_text("import json\n\n\ndef fails():\n    return json.loads('{')\n")
    fails = import_component("run.evaluations", "my_ideas.fails")
    with pytest.raises(ValueError, match="Expecting") as error:
        fails()
    assert "my_ideas.py, line 5: return json.loads('{'): JSONDecodeError: Expecting" in error_line(error.value)


def test_a_package_that_is_installed_for_this_user_is_not_the_users_own(folder: Path) -> None:
    code = compile("1 / 0", str(folder / "site-packages" / "theirs.py"), "exec")
    with pytest.raises(ZeroDivisionError) as error:
        exec(code)
    frame = user_frame(error.value)
    assert frame is not None
    assert frame.filename == __file__


def test_an_edited_file_is_imported_again_with_what_imports_it(folder: Path) -> None:
    (folder / "my_ideas.py").write_text("from my_parts import number\n\ntwice = 2 * number\n")
    (folder / "my_parts.py").write_text("number = 3\n")
    first = import_component("data.corpus", "collections.OrderedDict"), import_component("a.b", "my_ideas.twice")
    module = sys.modules["my_ideas"]
    assert import_component("a.b", "my_ideas.twice") == 6
    assert sys.modules["my_ideas"] is module
    (folder / "my_parts.py").write_text("number = 5 + 0\n")
    assert import_component("a.b", "my_ideas.twice") == 10
    assert import_component("data.corpus", "collections.OrderedDict") is first[0]


def test_within_a_block_components_come_from_another_folder(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "my_ideas.py").write_text("number = 1\n")
    (folder / "code" / "my_ideas.py").write_text("number = 2\n")
    assert import_component("a.b", "my_ideas.number") == 1
    module = sys.modules["my_ideas"]
    with importing_from(folder / "code"):
        assert import_component("a.b", "my_ideas.number") == 2
        assert user_files(["my_ideas.number"]) == {"my_ideas.py": folder / "code" / "my_ideas.py"}
    assert sys.modules["my_ideas"] is module
    assert import_component("a.b", "my_ideas.number") == 1
    assert not (folder / "code" / "__pycache__").exists()


def test_a_file_of_the_same_name_elsewhere_does_not_forget_other_components(folder: Path) -> None:
    before, now = folder / "before", folder / "now"
    for place in (before, now):
        place.mkdir()
        (place / "my_ideas.py").write_text(f"place = {place.name!r}\n")
    (now / "my_texts.py").write_text("texts = 1\n")
    assert import_component("run.evaluations", "my_ideas.place", before) == "before"
    assert import_component("data.corpus", "my_texts.texts", now) == 1
    assert import_component("run.evaluations", "my_ideas.place", now) == "now"
    assert list(user_files(["my_texts.texts", "my_ideas.place"])) == ["my_ideas.py", "my_texts.py"]
