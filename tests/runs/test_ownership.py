"""The marks by which minigpt knows its own folders, and what it leaves alone."""

import json
import os
from pathlib import Path

import pytest
from helpers import tiny_config, tiny_tokenizer, write_checkpoint
from lab.folders import write_run, write_sweep

from minigpt.data.prepare import PrepareOptions, prepare
from minigpt.data.prepared import is_prepared
from minigpt.errors import CheckpointError, DataError
from minigpt.runs.ownership import find_runs, is_run, is_sweep, strangers
from minigpt.runs.records import read_run
from minigpt.system.marks import has_mark, write_mark
from minigpt.training.folders import give_back, take_folder
from minigpt.training.last import find_family


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "provenance.json"])
@pytest.mark.parametrize("content", ["lr: 0.1\n", "{}", '{"sessions": []}', "step,val/loss\n1,2.0\n", ""])
def test_common_names_make_no_run(tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / name).write_text(content)
    assert not is_run(folder)
    assert list(find_runs(tmp_path)) == []
    with pytest.raises(CheckpointError, match="is not a run's folder"):
        read_run(folder)


def test_runs_of_before_there_were_marks_are_known(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0])
    (folder / ".minigpt").unlink()
    assert is_run(folder)  # by its provenance
    (folder / "provenance.json").unlink()
    assert not is_run(folder)
    tokenizer = tiny_tokenizer("byte")
    write_checkpoint(folder / "checkpoints" / "best.ckpt", tiny_config(tokenizer.vocab_size), tokenizer)
    assert is_run(folder)  # by the header of a checkpoint
    assert read_run(folder).sessions == []


def test_a_folder_is_known_from_the_moment_it_is_taken(tmp_path: Path) -> None:
    folder = take_folder(tmp_path, "a")
    assert is_run(folder)
    give_back(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_of_the_name_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "a-2").mkdir()
    (tmp_path / "a-2" / "config.yaml").write_text("run: {name: a}\n")
    assert find_family(tmp_path, "a") == []


def test_what_no_run_writes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0])
    (folder / ".metrics.csv.tmp-123").touch()  # of a killed process of ours
    (folder / "checkpoints" / ".best.ckpt.tmp-123").touch()
    (folder / "events.out.tfevents.1.host.2.0").touch()
    assert strangers(folder) == []
    (folder / "notes.md").touch()
    (folder / ".git").mkdir()
    (folder / "checkpoints" / "mine.pt").touch()
    (folder / ".notes.md.tmp-123").touch()
    (folder / "divergences").symlink_to(tmp_path)
    write_run(folder / "inside", [3.0])
    assert strangers(folder) == [
        ".git/", ".notes.md.tmp-123", "checkpoints/mine.pt", "divergences", "inside/", "notes.md",
    ]  # fmt: skip


def test_a_sweep_is_known_by_its_record(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", [{"name": "a", "group": "a", "state": "finished"}])
    assert is_sweep(sweep)
    record = sweep / "sweep.json"
    record.write_text(record.read_text()[:40])
    assert is_sweep(sweep)  # cut short
    for content in ("{}", "[]", '{"method": "bayes"}', '{"format": "csv", "name": "x"}', ""):
        record.write_text(content)
        assert not is_sweep(sweep)


def test_a_foreign_index_is_not_a_prepared_text(tmp_path: Path, corpus_file: Path) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / "index.json").write_text('{"pages": 3}')
    assert not is_prepared(out)
    options = PrepareOptions(corpus=str(corpus_file), tokenizer="byte")
    with pytest.raises(DataError, match=r"holds other files \(index.json, for one\)"):
        prepare(options, out)
    assert (out / "index.json").read_text() == '{"pages": 3}'
    work = tmp_path / "mine"
    (work / ".work" / "thesis").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds other files"):
        prepare(options, work)
    assert (work / ".work" / "thesis").is_dir()


def test_preparing_again_removes_nothing_but_its_own(tmp_path: Path, corpus_file: Path) -> None:
    out = tmp_path / "out"
    first = prepare(PrepareOptions(corpus=str(corpus_file), tokenizer="byte"), out)
    kept = ["embeddings.bin", "tokenizer-mine.json", ".notes.tmp-12", "train-00000.bin"]
    for name in kept:
        (out / name).write_text("mine")
    (out / ".work").mkdir()
    (out / ".work" / "notes").write_text("mine")
    again = prepare(PrepareOptions(corpus=str(corpus_file), tokenizer="byte", val_fraction=0.2), out, overwrite=True)
    assert again.fingerprint != first.fingerprint
    assert [(out / name).read_text() for name in [*kept, ".work/notes"]] == ["mine"] * 5
    index = json.loads((out / "index.json").read_text())
    shards = {path.name for path in out.glob("*-*-*.bin")}
    assert shards == {*index["train"]["shards"], *index["val"]["shards"]}


def test_a_mark_is_written_beside_others(tmp_path: Path) -> None:
    write_mark(tmp_path, "run")
    write_mark(tmp_path, "report")
    write_mark(tmp_path, "run")
    assert has_mark(tmp_path, "run")
    assert has_mark(tmp_path, "report")
    assert (tmp_path / ".minigpt").read_text() == "minigpt run\nminigpt report\n"
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "dir" / ".minigpt")  # is not waited for
    assert not has_mark(tmp_path / "dir", "run")
