"""Texts computed together are those computed alone: any positions, any lengths, past the window, drawn or not."""

from typing import get_args

import pytest
import torch
from helpers import random_gpt, reciting, reciting_gpt, tiny_config, tiny_tokenizer

from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError
from minigpt.generate.batch import Batch, generate_texts
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import PACK_FROM, generate_tokens
from minigpt.generate.text import generate_text
from minigpt.model.config import PositionName
from minigpt.system.cpu_kernels.onednn import HAS_ONEDNN
from minigpt.system.cpu_kernels.swap import use_cpu_kernels

LENGTHS = (1, 15, 4, 40, 16, 4)
"""Of the prompts, where the window holds 16: they slide in different steps."""


def double_gpt(**settings):
    """In float64, so that no near tie is decided by the rounding of another order of sums."""
    return random_gpt(tiny_config(19, **settings)).double()


def prompts(lengths=LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(19, (length,), generator=generator).tolist() for length in lengths]


def alone(model, prompt: list[int], options: SamplingOptions) -> list[int]:
    return [int(token) for token in generate_tokens(model, torch.tensor([prompt]), options, 19)]


def together(model, given: list[list[int]], options: SamplingOptions, seeds: list[int]) -> list[list[int]]:
    batch = Batch(model, given, options, seeds=seeds, valid_vocab=19)
    steps = [batch.step() for _ in range(options.max_new_tokens)]
    return [list(row) for row in zip(*steps, strict=True)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("n_kv_head", [2, 1])
@pytest.mark.parametrize("position", get_args(PositionName))
def test_greedy_rows_are_those_of_each_prompt_alone(position, n_kv_head, use_cache):
    model = double_gpt(position=position, n_kv_head=n_kv_head)
    options = SamplingOptions(greedy=True, max_new_tokens=30, use_cache=use_cache)
    found = together(model, prompts(), options, [0] * len(LENGTHS))
    assert found == [alone(model, prompt, options) for prompt in prompts()]
    assert len({token for row in found for token in row}) > 2, "a model that repeats one token would prove nothing"


@pytest.mark.parametrize("settings", [{}, {"top_k": 5, "temperature": 1.4}, {"context": 7}])
def test_a_drawn_row_depends_on_its_own_seed_and_on_no_neighbour(settings):
    model = double_gpt(position="rotary")
    seeds = [3, 3, 4, 5, 6, 9]
    expected = [
        alone(model, prompt, SamplingOptions(max_new_tokens=25, seed=seed, **settings))
        for prompt, seed in zip(prompts(), seeds, strict=True)
    ]
    options = SamplingOptions(max_new_tokens=25, **settings)
    assert together(model, prompts(), options, seeds) == expected
    assert together(model, prompts()[::-1], options, seeds[::-1]) == expected[::-1]


def test_rows_that_leave_change_nothing_for_the_others():
    model, options = double_gpt(), SamplingOptions(greedy=True, max_new_tokens=20)
    batch = Batch(model, prompts(), options, seeds=[0] * len(LENGTHS), valid_vocab=19)
    before = [batch.step() for _ in range(6)]
    batch.keep([4, 0, 2])
    after = [batch.step() for _ in range(14)]
    rows = [[step[b] for step in before] + [step[i] for step in after] for i, b in enumerate([4, 0, 2])]
    assert rows == [alone(model, prompts()[b], options) for b in (4, 0, 2)]


def test_a_prompt_of_several_samples_is_read_once():
    model = double_gpt()
    read: list[tuple[int, ...]] = []
    model.token_embedding.register_forward_pre_hook(lambda module, args: read.append(tuple(args[0].shape)))
    batch = Batch(model, prompts([9]) * 3, SamplingOptions(max_new_tokens=3), seeds=[0, 1, 2], valid_vocab=19)
    batch.step()
    batch.step()
    assert read == [(1, 8), (3, 1), (3, 1)]


def test_each_token_is_read_once_until_a_window_slides():
    model = double_gpt()
    read: list[tuple[int, ...]] = []
    model.token_embedding.register_forward_pre_hook(lambda module, args: read.append(tuple(args[0].shape)))
    batch = Batch(model, prompts([14, 3]), SamplingOptions(greedy=True), seeds=[0, 0], valid_vocab=19)
    for _ in range(4):
        batch.step()
    # both prompts, three tokens, then the first row's window of 13 anew, its last token with the others
    assert read == [(1, 13), (1, 2), (2, 1), (2, 1), (2, 1), (1, 12), (2, 1)]


def test_the_padding_of_a_vocabulary_is_never_drawn():
    model = double_gpt(tie_embeddings=False)
    with torch.no_grad():
        model.head.weight[11:] *= 50  # the padded ids would win nearly always
    batch = Batch(model, prompts([3, 5]), SamplingOptions(greedy=True), seeds=[0, 0], valid_vocab=11)
    assert max(token for _ in range(50) for token in batch.step()) < 11


def test_a_context_beyond_the_positions_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"context=17 .*block_size=16"):
        Batch(double_gpt(), prompts(), SamplingOptions(context=17), seeds=[0] * len(LENGTHS), valid_vocab=19)


# ----- text


@pytest.mark.parametrize("stop", [None, "fg", "a", "ha", "zz"])
def test_texts_end_where_each_ends_alone(stop):
    tokenizer = CharTokenizer("abcdefghz", end_of_text=False, unknown=False)
    model = reciting("abcdefgh", tokenizer)
    options = SamplingOptions(greedy=True, max_new_tokens=12)
    given = ["a", "cde", "h", "", "fg"]
    found = generate_texts(model, tokenizer, given, options, seeds=[0] * 5, stop=stop)
    assert found == ["".join(generate_text(model, tokenizer, prompt, options, stop)) for prompt in given]


def test_a_row_whose_document_ends_leaves_and_the_last_one_ends_the_loop():
    tokenizer = tiny_tokenizer("byte")
    model = reciting_gpt({65: 66, 66: 67, 67: 256, 256: 67}, 257)
    rows: list[int] = []
    model.token_embedding.register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[0]))
    options = SamplingOptions(greedy=True, max_new_tokens=50)
    assert generate_texts(model, tokenizer, ["A", "C", "B"], options, seeds=[0, 0, 0]) == ["BC", "", "C"]
    assert rows == [3, 2, 1]


def test_a_row_leaves_as_soon_as_its_stop_text_is_whole():
    tokenizer = CharTokenizer("abcdefgh", end_of_text=False, unknown=False)
    model = reciting("abcdefgh", tokenizer)
    rows: list[int] = []
    model.token_embedding.register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[0]))
    options = SamplingOptions(greedy=True, max_new_tokens=50)
    assert generate_texts(model, tokenizer, ["a", "e"], options, seeds=[0, 0], stop="def") == ["bc", "fghabc"]
    assert rows == [2] * 5 + [1] * 4


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_texts_of_every_tokenizer_are_those_alone(kind):
    tokenizer = tiny_tokenizer(kind)
    model = random_gpt(tiny_config(tokenizer.vocab_size)).double()
    given = ["The", "", "lazy dog. The qui", "fox"]
    options = SamplingOptions(max_new_tokens=40, temperature=1.5)
    found = generate_texts(model, tokenizer, given, options, seeds=[5, 6, 5, 8], stop="e")
    for prompt, seed, text in zip(given, [5, 6, 5, 8], found, strict=True):
        own = SamplingOptions(max_new_tokens=40, temperature=1.5, seed=seed)
        assert text == "".join(generate_text(model, tokenizer, prompt, own, "e"))


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN")
def test_weights_are_packed_for_long_texts_and_no_longer_than_that():
    tokenizer = tiny_tokenizer("byte")
    model = use_cpu_kernels(random_gpt(tiny_config(n_layer=1, n_embd=384, n_head=6)))
    layer, seen = model.blocks[0].attention.qkv, []
    layer.register_forward_hook(lambda *_: seen.append(layer.packed is not None))
    for n in (PACK_FROM, PACK_FROM - 1):
        generate_texts(model, tokenizer, ["a", "b"], SamplingOptions(max_new_tokens=n), seeds=[0, 0])
        assert set(seen) == {n == PACK_FROM}
        assert layer.packed is None
        seen.clear()


def test_errors_say_which_prompt():
    tokenizer = tiny_tokenizer("char")
    model = random_gpt(tiny_config(tokenizer.vocab_size))
    with pytest.raises(DataError, match=r"^prompt 2: .*'Ω'"):
        generate_texts(model, tokenizer, ["The", "Ω"], SamplingOptions(), seeds=[0, 0])
    with pytest.raises(ConfigError, match="stop=''"):
        generate_texts(model, tokenizer, ["The"], SamplingOptions(), seeds=[0], stop="")
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="diverged"):
        generate_texts(model, tokenizer, ["The", "fox"], SamplingOptions(), seeds=[0, 0])
