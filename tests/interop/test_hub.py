"""Where a named model is looked for: a folder, the cache, the hub. The hub is never asked here."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from minigpt.errors import CheckpointError
from minigpt.interop.hub import find_folder


class Hub:
    """Stands in for snapshot_download: what the cache and the hub hold, and what was asked."""

    def __init__(self, folder: Path, cached: tuple[str, ...] | None, remote: tuple[str, ...] | None) -> None:
        self.folder, self.cached, self.remote = folder, cached, remote
        self.parts: tuple[str, ...] = ()
        self.asked: list[tuple[bool, list[str]]] = []

    def __call__(self, name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        assert name == "someone/small"
        self.asked.append((local_files_only, allow_patterns))
        if local_files_only and self.cached is None:
            raise LocalEntryNotFoundError("not in the cache")
        if not local_files_only and self.remote is None:
            raise ConnectionError("no way\nto the hub")
        for file in (self.cached if local_files_only else self.remote) or ():
            if any(Path(file).match(pattern) for pattern in allow_patterns):
                text = json.dumps({"weight_map": dict(enumerate(self.parts))}) if file.endswith("index.json") else ""
                (self.folder / file).write_text(text)
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def make(cached: tuple[str, ...] | None, remote: tuple[str, ...] | None) -> Hub:
        (tmp_path / "snapshot").mkdir()
        stand_in = Hub(tmp_path / "snapshot", cached, remote)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
        return stand_in

    return make


def test_what_the_cache_has_whole_is_not_fetched(hub, tmp_path: Path) -> None:
    stand_in = hub(("config.json", "model.safetensors"), None)
    assert find_folder("someone/small") == tmp_path / "snapshot"
    assert [local for local, _ in stand_in.asked] == [True]


@pytest.mark.parametrize("cached", [None, ("config.json", "tokenizer.json")])
def test_what_it_lacks_is_fetched(hub, cached, tmp_path: Path) -> None:
    stand_in = hub(cached, ("config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"))
    assert find_folder("someone/small") == tmp_path / "snapshot"
    assert [local for local, _ in stand_in.asked] == [True, False]
    assert not (tmp_path / "snapshot" / "pytorch_model.bin").exists()  # not where there are safetensors
    assert not (tmp_path / "snapshot" / "flax_model.msgpack").exists()


def test_pickles_are_fetched_where_there_is_nothing_else(hub, tmp_path: Path) -> None:
    stand_in = hub(None, ("config.json", "pytorch_model.bin"))
    assert find_folder("someone/small") == tmp_path / "snapshot"
    assert [local for local, _ in stand_in.asked] == [True, False, False]


def test_without_a_network_one_line_says_what_to_do(hub) -> None:
    hub(None, None)
    with pytest.raises(CheckpointError, match="run `hf download someone/small` where there is a network") as error:
        find_folder("someone/small")
    assert "\n" not in str(error.value)


def test_a_repository_without_weights_is_one_line(hub) -> None:
    hub(None, ("config.json", "README.md"))
    with pytest.raises(CheckpointError, match="the repository has no config"):
        find_folder("someone/small")


@pytest.mark.parametrize("source", ["a/b/c", "../x", "no such", "", "a/", "-x"])
def test_what_is_no_name_is_never_asked_for(source: str, hub, tmp_path: Path) -> None:
    stand_in = hub(None, None)
    if not Path(source).is_dir():
        with pytest.raises(CheckpointError, match="no such folder, and no name"):
            find_folder(source)
    assert not stand_in.asked


def test_a_file_is_refused(hub, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file: --format hf takes the folder"):
        find_folder("model.safetensors")


INDEX = ("config.json", "model.safetensors.index.json")
PARTS = tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))


def test_a_part_that_the_cache_lacks_is_fetched(hub, tmp_path: Path) -> None:
    """A download that broke off left the index and some of its files."""
    stand_in = hub((*INDEX, PARTS[0]), (*INDEX, *PARTS))
    stand_in.parts = PARTS
    assert find_folder("someone/small") == tmp_path / "snapshot"
    assert [local for local, _ in stand_in.asked] == [True, False]
    assert all((tmp_path / "snapshot" / part).exists() for part in PARTS)


def test_parts_have_the_names_that_the_index_gives_them(hub, tmp_path: Path) -> None:
    stand_in = hub(INDEX, (*INDEX, "one.safetensors", "other.safetensors"))
    stand_in.parts = ("one.safetensors", "other.safetensors")
    assert find_folder("someone/small") == tmp_path / "snapshot"
    assert (tmp_path / "snapshot" / "other.safetensors").exists()


def test_without_a_network_one_line_says_which_parts_are_missing(hub) -> None:
    stand_in = hub((*INDEX, PARTS[0]), None)
    stand_in.parts = PARTS
    with pytest.raises(CheckpointError) as error:
        find_folder("someone/small")
    assert f"cache lacks {PARTS[1]}, {PARTS[2]}, which could not be fetched" in str(error.value)
    assert "run `hf download someone/small` where there is a network, which fetches what is missing" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_repository_that_lacks_a_part_is_one_line(hub) -> None:
    stand_in = hub(None, (*INDEX, *PARTS[:2]))
    stand_in.parts = PARTS
    with pytest.raises(CheckpointError, match=f"the repository lacks {PARTS[2]}, which its index names"):
        find_folder("someone/small")


def test_a_cache_of_the_library_with_a_part_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library's own cache, off line."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    snapshot = cache / "models--someone--small" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "models--someone--small" / "refs").mkdir()
    (cache / "models--someone--small" / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": PARTS[0], "b": PARTS[1]}}))
    (snapshot / PARTS[0]).touch()
    (snapshot / PARTS[1]).symlink_to("../../blobs/gone")
    with pytest.raises(CheckpointError, match=f"cache lacks {PARTS[1]}, which could not be fetched") as error:
        find_folder("someone/small")
    assert "\n" not in str(error.value)
