"""A corpus that is a function of the user's own."""

import shutil
from pathlib import Path

import pytest

from minigpt.data.corpus import open_corpus
from minigpt.data.corpus_function import is_function
from minigpt.data.options import PrepareOptions
from minigpt.data.prepare import prepare, prepare_cached
from minigpt.errors import ConfigError, DataError, MinigptError


def write(folder: Path, body: str) -> None:
    (folder / "my_ideas.py").write_text(f"from pathlib import Path\n\n\ndef documents():\n    {body}\n")


def options(**changes: object) -> PrepareOptions:
    return PrepareOptions(**{"corpus": "my_ideas.documents", "tokenizer": "byte"} | changes)  # type: ignore[arg-type]


POEMS = "yield from (f'poem {n}\\n' + 'roses are red\\n' * n for n in range(40))"


def test_the_texts_of_a_function_are_the_documents(own_folder: Path) -> None:
    write(own_folder, "yield 'one\\n\\u2028'; yield ''; yield 'two'")
    corpus = open_corpus("my_ideas.documents")
    assert list(corpus.documents()) == ["one\n\u2028", "two"]
    assert corpus.name == "my_ideas.documents"


def test_the_cache_follows_the_texts_and_not_the_code(own_folder: Path, cache: Path) -> None:
    (own_folder / "poems.txt").write_text("roses\n" * 50)
    write(own_folder, "yield from [Path('poems.txt').read_text() + str(n) for n in range(9)]")
    first = prepare_cached(options())
    assert prepare_cached(options()).folder == first.folder
    (own_folder / "poems.txt").write_text("violets\n" * 50)  # the code is the same, its texts are not
    second = prepare_cached(options())
    assert second.fingerprint != first.fingerprint
    write(own_folder, "yield from ('violets\\n' * 50 + str(n) for n in range(9))")  # and the other way round
    third = prepare_cached(options())
    assert (third.folder, third.identity) == (second.folder, second.identity)
    assert len(list((cache / "corpora").iterdir())) == 2


def test_a_function_and_a_file_of_the_same_texts_are_one_corpus(own_folder: Path) -> None:
    write(own_folder, POEMS)
    ours = prepare(options(tokenizer="bpe", vocab_size=270), own_folder / "out")
    texts = open_corpus("my_ideas.documents").files[0]
    shutil.copyfile(texts, own_folder / "poems.jsonl")
    theirs = prepare(options(corpus="poems.jsonl", tokenizer="bpe", vocab_size=270), own_folder / "out2")
    assert ours.identity == theirs.identity
    assert ours.train.n_documents + ours.val.n_documents == 40


def test_a_function_may_yield_files(own_folder: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (own_folder / name).write_text(name)
    (own_folder / "c.jsonl").write_text('{"text": "c"}\n')
    write(own_folder, "yield from sorted(Path().glob('*.*'))[:3]")
    assert list(open_corpus("my_ideas.documents").documents()) == ["a.txt", "b.txt", "c"]


def test_a_file_of_that_name_comes_first(own_folder: Path) -> None:
    write(own_folder, "yield 'one'")
    (own_folder / "my_ideas.documents").write_text("a file")
    assert list(open_corpus("my_ideas.documents").documents()) == ["a file"]
    assert not is_function("code.txt")  # the standard library has a module code
    with pytest.raises(DataError, match=r"^corpus code.txt: no such file or folder"):
        open_corpus("code.txt")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "yield 'a'; yield 3",
            r"must yield texts \(str\), and item 2 is 3: .*my_ideas.py, line 5: yield 'a'; yield 3$",
        ),
        ("yield 'a'\n    1 / 0", r"my_ideas.py, line 6: 1 / 0: ZeroDivisionError: division by zero$"),
        ("yield from []", r"yields no text: .*my_ideas.py, line 4: def documents\(\):$"),
        ("return 'a text'", r"must yield texts, not return 'a text': .*my_ideas.py, line 4: def documents\(\):$"),
        ("return 3", r"must yield texts, not return 3: .*line 4"),
        ("return ['a', b'b']", r"must yield texts \(str\), and item 2 is <bytes>: .*line 4"),
        ("yield 'a\\ud800'", r"item 1: the text holds U\+D800 at character 1, half a surrogate .*: .*line 5"),
        ("yield Path('none.txt')", r"there is no file none.txt, item 1: .*line 5"),
        ("yield Path('my_ideas.py'); yield 'a'", r"must yield either texts or files \(pathlib.Path\), not both$"),
        ("yield Path('.')", r"\.: a folder: write its content into an ordinary file"),
        ("yield ('question', 'answer')", r"item 1 is \('question', 'answer'\): .*line 5"),
    ],
)
def test_what_a_function_does_wrong_is_one_line(own_folder: Path, body: str, message: str) -> None:
    write(own_folder, body)
    with pytest.raises(DataError, match=message) as error:
        open_corpus("my_ideas.documents")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "my_ideas.document",
            r"data.corpus=my_ideas.document: .*my_ideas.py has no document, did you mean documents\?$",
        ),
        ("my_idea.documents", r"nor a module my_idea to import, did you mean my_ideas.documents\?$"),
        ("my_ideas.Path.home", r"there is no module my_ideas.Path"),
        ("my_ideas.NUMBER", r"my_ideas.NUMBER is 3, and must be a function that yields texts$"),
        ("my_ideas.needs", r"missing 1 required positional argument: 'number'$"),
    ],
)
def test_what_is_no_function_is_one_line(own_folder: Path, spec: str, message: str) -> None:
    write(own_folder, "yield 'a'\n\n\nNUMBER = 3\n\n\ndef needs(number):\n    yield number")
    with pytest.raises(MinigptError, match=message) as error:
        open_corpus(spec)
    assert "\n" not in str(error.value)


def test_what_cannot_be_imported_is_an_error_of_the_config(own_folder: Path) -> None:
    (own_folder / "my_ideas.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(ConfigError, match=r"my_ideas.py, line 1: import nothing_of_that_name: ModuleNotFoundError"):
        open_corpus("my_ideas.documents")


def test_an_endless_function_is_stopped_and_leaves_nothing(
    own_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(own_folder, "while True:\n        yield 'again and again'")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 10_000))
    with pytest.raises(DataError, match=r"yields no end of texts: 179 so far fill 5.01 kB, half of what was free"):
        open_corpus("my_ideas.documents")
    assert list((cache / "corpora").iterdir()) == []


def test_how_far_a_function_has_come_is_reported(own_folder: Path) -> None:
    write(own_folder, "yield from ('x' * 300_000 for _ in range(9))")
    reports: list[tuple[str, int, int]] = []
    prepare(options(), own_folder / "out", progress=lambda *each: reports.append(each))
    assert [stage for stage, *_ in reports].count("running my_ideas.documents") == 2
