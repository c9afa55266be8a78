"""Any prompt and any options end in a text or in one line."""

import io
import sys
from pathlib import Path

import pytest
from helpers import TEXT, tiny_config, tiny_tokenizer, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.data.tokenizers import CharTokenizer

from .configs import texts, whole
from .outcome import check_ending, more, run

any_text = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=10),  # halves of surrogate pairs too
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Co", "Zl"]), max_size=6),
    st.sampled_from(["", "x" * 5000, "\0", "\ud800", "<|endoftext|>", "--greedy", "e\u0301" * 50, "\u202e", TEXT]),
)
values = st.one_of(whole.map(str), st.floats().map(str), texts, any_text, st.integers(1, 40).map(str))
OPTIONS = ["temperature", "top_k", "top_p", "min_p", "seed", "context", "stop", "device", "prefer"]
POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "none"]


@pytest.fixture
def checkpoints(inside: Path) -> list[str]:
    """One of each tokenizer and of several positions."""
    kinds = [tiny_tokenizer("byte"), tiny_tokenizer("char"), tiny_tokenizer("bpe")]
    kinds += [
        CharTokenizer("one line", end_of_text=False, unknown=True),
        CharTokenizer("ab", end_of_text=True, unknown=False),
    ]
    for number, (tokenizer, position) in enumerate(zip(kinds, POSITIONS, strict=True)):
        config = tiny_config(tokenizer.vocab_size + number, position=position, n_layer=1)
        write_checkpoint(Path(f"{number}.ckpt"), config, tokenizer, seed=number)
    return sorted(str(path) for path in Path().glob("*.ckpt"))


@settings(max_examples=more(8))
@given(data=st.data(), prompt=any_text)
def test_any_prompt_and_options(checkpoints: list[str], data: st.DataObject, prompt: str) -> None:
    words = ["generate", data.draw(st.sampled_from(checkpoints)), "--prompt", prompt]
    for name in data.draw(st.lists(st.sampled_from(OPTIONS), max_size=3, unique=True)):
        words += [f"--{name}", data.draw(values)]
    words += data.draw(st.sampled_from([[], [], ["--greedy"], ["--no_cache"]]))
    # Last, so that it counts: a text of 2^40 tokens would be written, one after another.
    words += ["--max_new_tokens", data.draw(st.sampled_from(["0", "1", "20", "-1", "x", "\0", "nan"]))]
    check_ending(run(words))


@given(data=st.data(), piped=st.binary(max_size=40))
def test_any_bytes_on_stdin(
    checkpoints: list[str], monkeypatch: pytest.MonkeyPatch, data: st.DataObject, piped: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
    check_ending(run(["generate", data.draw(st.sampled_from(checkpoints)), "--max_new_tokens", "3", "--seed", "1"]))


@given(path=any_text, command=st.sampled_from(["generate", "validate"]))
def test_any_path(checkpoints: list[str], path: str, command: str) -> None:
    if not path.startswith("-"):
        outcome = run([command, path])
        check_ending(outcome)
        assert outcome.code != 0


@pytest.mark.parametrize("number", ["1000000000000", "9" * 18, "9" * 19, "9" * 400])
@pytest.mark.parametrize("option", ["--context", "--max_new_tokens", "--top_k", "--n_samples", "--seed"])
def test_a_huge_number(checkpoints: list[str], option: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, or the beginning of an endless text: it comes at once, and takes no memory."""
    import minigpt.cli.generate as command

    class Enough(Exception):  # noqa: N818
        pass

    def write_a_little(text, end="\n", **settings):
        if not end:
            raise Enough

    monkeypatch.setattr(command, "echo", write_a_little)
    for checkpoint in checkpoints:
        try:
            check_ending(run(["generate", checkpoint, "--prompt", "a", option, number]))
        except Enough:
            continue
