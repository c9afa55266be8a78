"""Reading runs and checkpoints: what is found, what is read, and one line for everything that is wrong."""

import json
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest
import torch
from helpers import checkpoint_content, random_gpt, tiny_config, tiny_tokenizer, write_checkpoint

import minigpt
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import CheckpointError, ConfigError
from minigpt.model.config import ActivationName, GPTConfig, PositionName
from minigpt.runs.archive import is_complete
from minigpt.runs.checkpoint import (
    Checkpoint,
    build_model,
    find_checkpoint,
    last_checkpoint,
    read_checkpoint,
)
from minigpt.runs.paths import step_name, step_paths


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tiny_tokenizer("byte")


@pytest.fixture
def content(tokenizer) -> dict:
    """A good checkpoint, for tests that spoil one thing."""
    return checkpoint_content(random_gpt(tiny_config()), tokenizer)


@pytest.fixture
def good_bytes(tmp_path, tokenizer) -> bytes:
    write_checkpoint(tmp_path / "good.ckpt", tiny_config(), tokenizer)
    return (tmp_path / "good.ckpt").read_bytes()


def refusal(path: Path) -> str:
    """The one line that refuses `path`."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def refusal_of(content: object, tmp_path: Path) -> str:
    torch.save(content, tmp_path / "spoilt.ckpt")
    return refusal(tmp_path / "spoilt.ckpt")


# ----- reading


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize("prefix", ["gpt.", "gpt._orig_mod.", "_orig_mod.gpt."])
def test_what_was_saved_is_read(tmp_path, kind, prefix):
    tokenizer = tiny_tokenizer(kind)
    config = tiny_config(tokenizer.vocab_size + 3, tie_embeddings=False)
    path = tmp_path / "a.ckpt"
    facts = {"step": 7, "val_loss": None, "data": {"corpus": "x", "split": "auto"}, "data_fingerprint": "f"}
    model = write_checkpoint(path, config, tokenizer, prefix=prefix, **facts)

    checkpoint = read_checkpoint(str(path))
    assert {name: getattr(checkpoint, name) for name in facts} == facts
    assert checkpoint.path == path
    assert checkpoint.config == config
    assert checkpoint.tokenizer.fingerprint == tokenizer.fingerprint
    assert checkpoint.provenance == {"command": "test"}

    rebuilt = build_model(checkpoint)
    assert not rebuilt.training
    tokens = torch.arange(10)[None]
    assert torch.equal(rebuilt(tokens), model(tokens))


@pytest.mark.parametrize("position", get_args(PositionName))
@pytest.mark.parametrize("activation", get_args(ActivationName)[::3])
def test_every_kind_of_model_fits_its_own_checkpoint(tmp_path, tokenizer, position, activation):
    config = tiny_config(
        position=position, activation=activation, norm="rmsnorm", qk_norm=True, n_kv_head=1, bias=False
    )
    model = write_checkpoint(tmp_path / "a.ckpt", config, tokenizer)
    tokens = torch.arange(10)[None]
    assert torch.equal(build_model(read_checkpoint(tmp_path / "a.ckpt"))(tokens), model(tokens))


def test_the_model_owns_its_weights(tmp_path, tokenizer, content):
    """Changing the model, or overwriting the file, changes nothing on the other side."""
    path = tmp_path / "a.ckpt"
    torch.save(content, path)
    model = build_model(read_checkpoint(path))
    expected = model.head.weight.detach().clone()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(model.head.weight, expected)
    assert model.head.weight is model.token_embedding.weight


def test_reading_leaves_torchs_random_numbers_alone(tmp_path, tokenizer):
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(), tokenizer)
    before = torch.get_rng_state()
    build_model(read_checkpoint(tmp_path / "a.ckpt"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_full_checkpoint_may_hold_more(tmp_path, content):
    torch.save(content | {"optimizer_states": [{"lr": 1.0}], "epoch": 0}, tmp_path / "full.ckpt")
    assert isinstance(read_checkpoint(tmp_path / "full.ckpt"), Checkpoint)


def test_loading_and_sampling_import_no_optimizer_and_no_lightning(tmp_path, tokenizer):
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(), tokenizer)
    code = (
        "import sys, minigpt;"
        f"model = minigpt.load({str(tmp_path / 'a.ckpt')!r});"
        "assert len(model.generate('ab', max_new_tokens=3)) > 2; model.score('ab');"
        "unwanted = {'lightning', 'pytorch_lightning', 'scipy', 'matplotlib', 'minigpt.optim', 'minigpt.training'};"
        "found = unwanted & sys.modules.keys(); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkpoint_of_an_unknown_optimizer_can_be_sampled_from(tmp_path, content):
    """Whatever the state of training is: only a resume looks at it."""
    content |= {"optimizer_states": [{"state": "of tomorrow"}], "loops": {"fit_loop": 3}, "callbacks": {"Their": None}}
    content["minigpt"]["yaml"] = "optim: {name: their_ideas.Newton, order: 2}"
    torch.save(content, tmp_path / "a.ckpt")
    loaded = minigpt.load(tmp_path / "a.ckpt")
    assert loaded.checkpoint.resumable
    assert len(loaded.generate("ab", max_new_tokens=3)) > 2


# ----- broken files


def test_a_truncated_checkpoint_is_refused_wherever_it_was_cut(tmp_path, good_bytes):
    path = tmp_path / "cut.ckpt"
    cuts = random.Random(0).sample(range(2, len(good_bytes)), 40)
    for length in [*cuts, len(good_bytes) - 1, len(good_bytes) - 22, 2]:
        path.write_bytes(good_bytes[:length])
        assert "truncated" in refusal(path)
        assert not is_complete(path)


def test_a_checkpoint_whose_end_was_never_written_is_refused(tmp_path, good_bytes):
    path = tmp_path / "holes.ckpt"
    path.write_bytes(good_bytes[: len(good_bytes) // 2].ljust(len(good_bytes), b"\0"))
    assert "truncated" in refusal(path)


def test_damage_in_the_pickled_part_never_ends_in_a_traceback(tmp_path, good_bytes):
    path = tmp_path / "damaged.ckpt"
    start = good_bytes.index(b"data.pkl") + 60
    dice = random.Random(0)
    messages = []
    for _ in range(60):
        damaged = bytearray(good_bytes)
        damaged[start + dice.randrange(1500)] = dice.randrange(256)
        path.write_bytes(damaged)
        try:  # some of the damage hits bytes that mean nothing
            read_checkpoint(path)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.ckpt").touch()
    assert "empty" in refusal(tmp_path / "empty.ckpt")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not a checkpoint\n" * 100)
    assert "not a checkpoint" in refusal(tmp_path / "notes.txt")


def test_a_folder_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


def test_another_zip_is_refused(tmp_path):
    for name in ("notes.txt", "archive/data.pkl"):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
            archive.writestr(name, "hello")
        refusal(tmp_path / "other.zip")


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, content):
    target = tmp_path / "ran"
    assert "never loaded" in refusal_of(content | {"callbacks": Bomb(target)}, tmp_path)
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps(Bomb(target)))
    refusal(tmp_path / "old.ckpt")
    torch.save(Bomb(target), tmp_path / "legacy.ckpt", _use_new_zipfile_serialization=False)
    refusal(tmp_path / "legacy.ckpt")
    assert not target.exists()
    torch.load(tmp_path / "spoilt.ckpt", weights_only=False)
    assert target.exists(), "the bomb works"


# ----- contents that contradict


def test_a_checkpoint_of_others_is_refused(tmp_path, content):
    del content["minigpt"]
    assert "not a checkpoint of minigpt" in refusal_of(content, tmp_path)
    assert "not a checkpoint of minigpt" in refusal_of(torch.zeros(3), tmp_path)
    assert "not a checkpoint of minigpt" in refusal_of({"minigpt": "yes"}, tmp_path)


def test_another_format_is_refused_with_both_numbers(tmp_path, content):
    content["minigpt"]["format"] = 99
    message = refusal_of(content, tmp_path)
    assert "format 99" in message
    assert "format 2" in message


@pytest.mark.parametrize("key", ["config", "tokenizer", "provenance", "step", "val_loss", "data", "data_fingerprint"])
def test_a_missing_part_and_one_of_the_wrong_type_are_named(tmp_path, content, key):
    content["minigpt"][key] = ()
    assert f"'{key}'" in refusal_of(content, tmp_path)
    del content["minigpt"][key]
    assert f"no '{key}'" in refusal_of(content, tmp_path)


def test_missing_weights_are_refused(tmp_path, content):
    del content["state_dict"]
    assert "state_dict" in refusal_of(content, tmp_path)


def test_weights_that_do_not_fit_the_config_are_named(tmp_path, content):
    weights = content["state_dict"]
    content["state_dict"] = weights | {"gpt.surplus": torch.zeros(1)}
    assert "'surplus'" in refusal_of(content, tmp_path)
    content["state_dict"] = {key: value for key, value in weights.items() if key != "gpt.final_norm.weight"}
    assert "lack 'final_norm.weight'" in refusal_of(content, tmp_path)
    content["state_dict"] = weights | {"gpt.final_norm.weight": torch.zeros(3)}
    message = refusal_of(content, tmp_path)
    assert "'final_norm.weight' has shape (3,)" in message
    assert "(16,)" in message
    content["state_dict"] = weights | {"gpt.final_norm.weight": "ones"}
    assert "'gpt.final_norm.weight'" in refusal_of(content, tmp_path)
    content["state_dict"] = weights | {3: torch.zeros(3)}
    assert "'3'" in refusal_of(content, tmp_path)


def test_sizes_that_no_weights_have_are_refused_at_once(tmp_path, content):
    """Not built first: a billion layers take a day, and a width of 2^40 has no number of bytes."""
    content["minigpt"]["config"]["n_layer"] = 10**9
    assert "n_layer=1000000000" in refusal_of(content, tmp_path)
    content["minigpt"]["config"] |= {"n_layer": 2, "n_embd": 2**40}
    assert "sizes that no weights can have" in refusal_of(content, tmp_path)


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.zeros(2), True, 2.0, None])
def test_a_format_that_is_no_number_is_refused(tmp_path, content, bad):
    content["minigpt"]["format"] = bad
    assert "checkpoint format" in refusal_of(content, tmp_path)


def test_odd_facts_are_refused(tmp_path, content):
    content["minigpt"]["step"] = -1
    assert "must not be negative: -1" in refusal_of(content, tmp_path)
    content["minigpt"] |= {"step": 1, "data": {"corpus": torch.zeros(2)}}
    assert "'data.corpus' in its 'minigpt' entry is a Tensor" in refusal_of(content, tmp_path)
    content["minigpt"]["data"] = {}
    content["state_dict"]["gpt.final_norm.weight"] = torch.ones(16, dtype=torch.int64)
    assert "'final_norm.weight' is torch.int64: quantised" in refusal_of(content, tmp_path)


def test_a_config_that_cannot_be_is_refused(tmp_path, content):
    content["minigpt"]["config"]["n_head"] = 3
    message = refusal_of(content, tmp_path)
    assert "n_embd=16" in message
    content["minigpt"]["config"]["n_heads"] = 2
    assert "n_heads" in refusal_of(content, tmp_path)


def test_a_broken_tokenizer_is_refused(tmp_path, content):
    for text in ("", "{}", json.dumps({"minigpt_tokenizer": "char"})):
        content["minigpt"]["tokenizer"] = text
        refusal_of(content, tmp_path)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path, tokenizer):
    write_checkpoint(tmp_path / "a.ckpt", GPTConfig(vocab_size=256, n_layer=0), tokenizer)
    message = refusal(tmp_path / "a.ckpt")
    assert "257 tokens" in message
    assert "vocab_size=256" in message


# ----- finding


@pytest.fixture
def run(tmp_path, tokenizer, monkeypatch) -> Path:
    """runs/base with three steps, the current folder being above it."""
    monkeypatch.chdir(tmp_path)
    for step in (20, 100, 1000):
        write_checkpoint(Path("runs/base/checkpoints") / step_name(step), tiny_config(), tokenizer, step=step)
    return Path("runs/base")


def test_a_run_is_its_best_checkpoint_or_else_the_newest(run):
    folder = run / "checkpoints"
    assert find_checkpoint(run) == folder / "step=00001000.ckpt"
    (folder / "best.ckpt").write_bytes((folder / step_name(20)).read_bytes())
    assert find_checkpoint(str(run)) == folder / "best.ckpt"
    assert find_checkpoint(run, "best") == folder / "best.ckpt"
    assert find_checkpoint(run, "last") == folder / "step=00001000.ckpt"
    for path in step_paths(folder):
        path.unlink()
    assert find_checkpoint(run, "last") == folder / "best.ckpt"


def test_files_folders_and_bare_names_all_name_a_checkpoint(run):
    newest = run / "checkpoints" / step_name(1000)
    assert find_checkpoint(newest) == newest
    assert find_checkpoint(run / "checkpoints") == newest
    assert find_checkpoint("base") == newest


def test_steps_are_sorted_by_number(run):
    write_checkpoint(run / "checkpoints/step=123456789.ckpt", tiny_config(), tiny_tokenizer("byte"))
    (run / "checkpoints/step=5-v1.ckpt").touch()
    assert [path.name for path in step_paths(run / "checkpoints")] == [
        "step=00000020.ckpt",
        "step=00000100.ckpt",
        "step=00001000.ckpt",
        "step=123456789.ckpt",
    ]


def test_the_last_checkpoint_is_the_newest_complete_one(run):
    newest = run / "checkpoints" / step_name(1000)
    assert last_checkpoint(run) == newest
    newest.write_bytes(newest.read_bytes()[:-30])
    assert last_checkpoint(run) == run / "checkpoints" / step_name(100)
    for path in step_paths(run / "checkpoints"):
        path.write_bytes(b"")
    assert last_checkpoint(run) is None
    assert last_checkpoint(run / "nothing") is None


def test_a_run_without_a_checkpoint_is_told(run):
    Path("runs/new").mkdir()
    with pytest.raises(CheckpointError, match="runs/new holds no checkpoint"):
        find_checkpoint("new")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bsae", "base"),
        ("runs/bsae", "base"),
        ("runs/base/checkpoint", "checkpoints"),
        ("run/base", "runs"),
        ("runs/base/checkpoints/stp=00000020.ckpt", "step=00000020.ckpt"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(run, typed, meant):
    for function in (find_checkpoint, read_checkpoint):
        with pytest.raises(CheckpointError) as caught:
            function(typed)
        assert typed in str(caught.value)
        assert f"did you mean {meant}?" in str(caught.value)


def test_a_wrong_preference_is_answered_with_the_nearest(run):
    with pytest.raises(ConfigError, match="did you mean best"):
        find_checkpoint(run, "bets")


def test_what_an_import_would_read_says_so(tmp_path, monkeypatch):
    """Of what is no checkpoint, but could become one, the command that makes it."""
    monkeypatch.chdir(tmp_path)
    Path("hf").mkdir()
    Path("hf/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="a Hugging Face folder; `minigpt import --format hf` makes one of it"):
        find_checkpoint("hf")
    torch.save({"model": {}, "model_args": {}}, "ckpt.pt")
    with pytest.raises(CheckpointError, match="`minigpt import --format nanogpt` makes one of nanoGPT's"):
        read_checkpoint("ckpt.pt")
    Path("a.safetensors").touch()
    with pytest.raises(CheckpointError, match="`minigpt import --format safetensors` makes one of an export"):
        read_checkpoint("a.safetensors")
    for name in "abcdef":
        (Path("many") / name / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"it holds runs, of which one is meant: a, b, c, d, e, \.\.\.$"):
        find_checkpoint("many")
