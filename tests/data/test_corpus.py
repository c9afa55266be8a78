import hashlib
import http.server
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.data import corpus as corpus_module
from minigpt.data import named_corpora
from minigpt.data.corpus import Corpus, open_corpus
from minigpt.data.named_corpora import corpus_name
from minigpt.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts in several places, and what is none of ours."""
    root = tmp_path / "texts"
    for name in ("b.txt", "a.md", "sub/c.py", "sub/deep/d.TXT", ".hidden.txt", ".git/e.txt", "image.png", "table.csv"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_a_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "some.book.dat").write_text("text")
    corpus = open_corpus(str(tmp_path / "some.book.dat"))
    assert (corpus.name, corpus.n_documents, corpus.n_bytes) == ("some", 1, 4)
    assert list(corpus.documents()) == ["text"]


def test_a_folder_gives_its_visible_texts_in_order(folder: Path) -> None:
    corpus = open_corpus(str(folder))
    assert list(corpus.documents()) == ["a.md", "b.txt", "sub/c.py", "sub/deep/d.TXT"]
    assert (corpus.name, corpus.n_documents) == ("texts", 4)


def test_a_glob_gives_what_it_matches_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(open_corpus(f"{folder}/**/*.[tT]*").documents()) == ["b.txt", "sub/deep/d.TXT"]
    monkeypatch.chdir(folder)
    assert list(open_corpus("*.md").documents()) == ["a.md"]


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Links of every kind: to a folder inside, outside and above, to itself, to a file, to nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("lp/a.txt", "lp/sub/b.txt", "lp/sub/t.csv", "other/deep/c.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    links = {"self": ".", "self2": ".", "up": "..", "root": "/", "link": "../other", "next": "../other/deep"}
    links |= {"0.txt": "a.txt", "broken.txt": "nothing", "round.txt": "round.txt"}
    for name, target in links.items():
        Path("lp", name).symlink_to(target)
    os.mkfifo("lp/pipe.txt")
    return tmp_path


@pytest.mark.parametrize("spec", ["lp", "lp/**/*.txt", "{here}/lp", "{here}/lp/**/**/*.txt", "lp/**"])
def test_links_are_followed_and_each_file_is_read_once(linked: Path, spec: str) -> None:
    corpus = open_corpus(spec.format(here=linked))
    names = [path.relative_to(linked / "lp") for path in (file.absolute() for file in corpus.files)]
    expected = ["a.txt", "link/deep/c.txt", "sub/b.txt", *(["sub/t.csv"] if spec == "lp/**" else [])]
    assert [str(name) for name in names] == expected
    told = dict(corpus.left_out)
    assert told["broken link"] == 2
    assert told["FIFO"] == 1
    assert told["link to a file that is read anyway"] == 1
    assert told["link to a folder above"] == 2
    assert told["link to a folder that is read anyway"] == 3
    assert corpus.description is not None
    assert corpus.description.startswith(f"{len(expected)} read")
    assert "2 broken links" in corpus.description


def test_folders_are_resolved_and_not_each_of_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text("text")
    resolved: list[Path] = []
    resolve = Path.resolve

    def record(path: Path, strict: bool = False) -> Path:
        resolved.append(path)
        return resolve(path, strict)

    monkeypatch.setattr(Path, "resolve", record)
    assert len(open_corpus(str(tmp_path)).files) == 40
    assert len(resolved) < 10


def test_what_a_folder_leaves_out_is_counted(folder: Path) -> None:
    assert open_corpus(str(folder)).description == "4 read; passed over: 2 hidden, 1 .csv, 1 .png"
    (folder / "gone").symlink_to("nowhere")
    assert open_corpus(str(folder)).description == "4 read; passed over: 2 hidden, 1 .csv, 1 .png, 1 broken link"
    (folder / "gone").unlink()
    for number in range(7):
        (folder / f"x.{number}").write_text("x")
    told = open_corpus(str(folder)).description
    assert told == "4 read; passed over: 2 hidden, 1 .0, 1 .1, 1 .2, 1 .3, 1 .4, 4 of other suffixes"
    assert open_corpus(str(folder / "a.md")).description is None
    (folder / "tables").mkdir()
    (folder / "tables" / "a.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"no text files in this folder .*; passed over: 1 .csv\)"):
        open_corpus(str(folder / "tables"))


def test_a_table_that_is_read_as_text_is_told(folder: Path) -> None:
    expected = "1 read; 1 .csv or .tsv as plain text, with header, separators and quotes"
    assert open_corpus(str(folder / "table.csv")).description == expected
    assert open_corpus(f"{folder}/*.csv").description == expected


def test_a_folder_that_cannot_be_listed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: (path / "none").stat() if path.name == "sub" else whole(path))
    assert open_corpus(str(folder)).description == (
        "2 read; passed over: 2 hidden, 1 .csv, 1 .png, 1 folder that cannot be read"
    )


@pytest.mark.parametrize(
    ("path", "what"),
    [("pipe.txt", "a FIFO"), ("/dev/null", "a device"), ("/proc/version", "a file of unknown size")],
)
def test_what_is_no_ordinary_file_is_called_what_it_is(tmp_path: Path, path: str, what: str) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    if not (tmp_path / path).exists():
        pytest.skip(f"there is no {path} on this system")
    with pytest.raises(DataError, match=f"{path}: {what}.*: write its content into an ordinary file"):
        open_corpus(str(tmp_path / path))
    with pytest.raises(DataError, match=r"the pattern matches no file but 1 (FIFO|device|file of unknown size)"):
        open_corpus(str(tmp_path / path[:-1]) + "?")


def test_a_broken_link_is_called_one(linked: Path) -> None:
    with pytest.raises(DataError, match=r"corpus lp/broken.txt: a broken link: it leads to nothing"):
        open_corpus("lp/broken.txt")


def test_a_file_with_a_pattern_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("text")
    assert list(open_corpus(str(tmp_path / "a[1].txt")).documents()) == ["text"]


def test_home_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert list(open_corpus("~/a.md").documents()) == ["a.md"]
    assert list(open_corpus("~/*.md").documents()) == ["a.md"]


def test_documents_of_several_kinds_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "b.txt").write_text("three")
    corpus = open_corpus(str(tmp_path))
    assert list(corpus.documents()) == ["one", "two", "three"]
    assert corpus.n_documents is None


def test_many_small_files_share_a_piece_and_large_ones_take_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.data.corpus.PIECE_BYTES", 1000)
    monkeypatch.setattr("minigpt.data.pieces.PIECE_BYTES", 1000)
    for i in range(20):
        (tmp_path / f"{i:02d}.txt").write_text(f"small file {i}\n" * 10)
    (tmp_path / "10.txt").write_text("a large file\n" * 500)
    corpus = open_corpus(str(tmp_path))
    pieces = list(corpus.pieces())
    assert all(sum(span.size for span in piece) <= 1000 for piece in pieces)
    assert max(len(piece) for piece in pieces) > 3
    assert [len(document) for document in corpus.documents()] == [path.stat().st_size for path in corpus.files]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    def fingerprint(**files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        return open_corpus(str(folder)).fingerprint()

    same = fingerprint(a_txt="one", b_txt="two")
    assert fingerprint(c_txt="one", d_md="two") == same
    different = [
        fingerprint(a_txt="two", b_txt="one"),
        fingerprint(a_txt="onet", b_txt="wo"),
        fingerprint(a_txt="one", b_jsonl="two"),
        fingerprint(a_txt="one"),
    ]
    assert len({same, *different}) == 5


def test_the_field_is_part_of_the_fingerprint_where_it_matters(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.txt"):
        (tmp_path / name).write_text("{}")
    of = {
        name: {open_corpus(str(tmp_path / name), field).fingerprint() for field in "xy"}
        for name in ("a.jsonl", "a.txt")
    }
    assert [len(of["a.jsonl"]), len(of["a.txt"])] == [2, 1]


def test_a_large_file_is_hashed_once_for_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    os.utime(path, ns=(5, 5))
    monkeypatch.setattr(corpus_module, "_MEMO_BYTES", 2)
    first = open_corpus(str(path)).fingerprint()
    path.write_text("two")
    os.utime(path, ns=(5, 5))
    assert open_corpus(str(path)).fingerprint() == first  # the same state: not read again
    os.utime(path, ns=(6, 6))
    assert open_corpus(str(path)).fingerprint() != first
    monkeypatch.setattr(corpus_module, "_MEMO_BYTES", 100)
    os.utime(path, ns=(5, 5))
    assert open_corpus(str(path)).fingerprint() != first  # small files are always read


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pyton", r"corpus pyton: no such file or folder, nor a named corpus .* did you mean python\?"),
        ("{folder}/a.mb", r"no such file or folder.*, did you mean a.md\?"),
        ("{folder}/nothing/there", r"no such file or folder, nor a named corpus \(python or shakespeare\)$"),
        ("{folder}/*.zip", r"the pattern matches no file"),
        ("{folder}/none", r"no text files in this folder \(looked for .txt"),
        ("{folder}/empty.txt", r"empty.txt: empty: it holds no text"),
        ("{folder}/blank", r"blank: empty: its files hold no text"),
        ("", "corpus='' names nothing"),
    ],
)
def test_what_is_no_corpus_is_told_in_one_line(folder: Path, spec: str, message: str) -> None:
    (folder / "none").mkdir()
    (folder / "none" / "image.png").write_text("x")
    (folder / "blank").mkdir()
    (folder / "empty.txt").touch()
    (folder / "blank" / "1.txt").touch()
    (folder / "blank" / "2.txt").touch()
    with pytest.raises(DataError, match=message) as caught:
        open_corpus(spec.format(folder=folder))
    assert "\n" not in str(caught.value)


def test_python_is_the_standard_library_without_tests_or_packages() -> None:
    corpus = open_corpus("python")
    parts = {part for path in corpus.files for part in path.parts}
    names = {path.name for path in corpus.files}
    assert {"argparse.py", "tokenize.py"} <= names
    assert not {"site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip"} & parts
    assert all(path.suffix == ".py" for path in corpus.files)
    assert list(corpus.files) == sorted(corpus.files)
    assert corpus.n_bytes > 5_000_000


def test_python_leaves_out_what_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_bytes(b"# caf\xe9")
    (tmp_path / "b.py").write_text("# fine")
    (tmp_path / "c.py").write_bytes(b"a\0b")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    assert list(open_corpus("python").documents()) == ["# fine"]
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path / "python311.zip")})
    with pytest.raises(DataError, match="corpus python: no modules in"):
        open_corpus("python")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that gives TEXT for every path; the list of what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if self.path == "/missing" else 200)
            self.end_headers()
            self.wfile.write(b"First Citizen:\n")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{http_server.server_address[1]}"
        monkeypatch.setattr(named_corpora, "SHAKESPEARE_URL", f"{address}/input.txt")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield asked
        http_server.shutdown()
        thread.join()


def test_shakespeare_is_downloaded_once_and_checked_always(
    server: list[str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    with pytest.raises(DataError, match=r"input.txt has sha256 \w{64}, expected 86c4e6aa"):
        open_corpus("shakespeare")
    assert not (cache / "corpora").exists()
    monkeypatch.setattr(named_corpora, "SHAKESPEARE_SHA256", hashlib.sha256(b"First Citizen:\n").hexdigest())
    server.clear()
    for _ in range(2):
        assert list(open_corpus("shakespeare").documents()) == ["First Citizen:\n"]
    assert server == ["/input.txt"]
    (cache / "corpora" / "tinyshakespeare.txt").write_text("damaged")
    with pytest.raises(DataError, match=r"tinyshakespeare.txt has sha256"):
        open_corpus("shakespeare")


def test_without_a_network_the_url_and_the_way_out_are_told(server: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (named_corpora.SHAKESPEARE_URL.replace("input.txt", "missing"), "http://127.0.0.1:1/input.txt"):
        monkeypatch.setattr(named_corpora, "SHAKESPEARE_URL", url)
        with pytest.raises(DataError, match=f"cannot download {url}: .*; take a local copy with `--data.corpus FILE`"):
            open_corpus("shakespeare")


def test_state_tells_of_a_change(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    corpus = Corpus(name="a", files=(tmp_path / "a.txt",))
    before = corpus.state()
    assert corpus.state() == before
    (tmp_path / "a.txt").write_text("other")
    assert corpus.state() != before


def test_the_library_is_named_by_its_python() -> None:
    assert corpus_name("python") == f"python {platform.python_version()}'s library"
    assert corpus_name("python", "3.12.1") == "python 3.12.1's library"
    assert corpus_name("./python") == "./python"
