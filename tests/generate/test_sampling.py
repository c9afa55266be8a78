"""Sampling against its definitions: each filter, the draw, the window, the cache, the stream."""

import itertools
import math
from typing import get_args

import pytest
import torch
from helpers import random_gpt, reciting, reciting_gpt, tiny_config, tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import (
    PACK_FROM,
    apply_temperature,
    choose,
    context_start,
    generate_tokens,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_tokens,
    shape_logits,
)
from minigpt.generate.text import decode_pieces, encode_prompt, generate_text, start_token, until
from minigpt.model.config import PositionName
from minigpt.system.cpu_kernels.onednn import HAS_ONEDNN
from minigpt.system.cpu_kernels.swap import use_cpu_kernels

POSITIONS = get_args(PositionName)


# ----- filters, each against a plain loop over its definition


def logit_rows() -> torch.Tensor:
    """(40, 9) rows, some of them with ties."""
    generator = torch.Generator().manual_seed(0)
    rows = 2 * torch.randn(40, 9, generator=generator, dtype=torch.float64)
    rows[20:] = rows[20:].round()
    return rows


def kept(logits: torch.Tensor) -> set[int]:
    return set(logits.isfinite().nonzero().flatten().tolist())


def probabilities(row: torch.Tensor) -> list[float]:
    weights = [math.exp(value) for value in row.tolist()]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_divides_the_logits(temperature):
    for row in logit_rows():
        found = apply_temperature(row, temperature).softmax(-1).tolist()
        assert found == pytest.approx(probabilities(row / temperature), abs=1e-12)


@pytest.mark.parametrize("temperature", [1e-320, 1e300])
def test_the_most_extreme_temperatures_give_probabilities(temperature):
    found = apply_temperature(torch.tensor([3.0, 5.0, -2.0], dtype=torch.float64), temperature).softmax(-1)
    expected = [0.0, 1.0, 0.0] if temperature < 1 else [1 / 3] * 3
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 5, 9, 50])
def test_top_k_keeps_what_fewer_than_k_tokens_beat(k):
    for row in logit_rows():
        expected = {i for i in range(9) if sum(other > row[i] for other in row) < k}
        filtered = keep_top_k(row, k)
        assert kept(filtered) == expected
        assert all(filtered[i] == row[i] for i in expected)


@pytest.mark.parametrize("p", [1e-9, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_top_p_keeps_the_fewest_tokens_that_reach_p(p):
    for row in logit_rows():
        chances = probabilities(row)
        expected: set[int] = set()
        for i in sorted(range(9), key=lambda i: (-chances[i], i)):
            if sum(chances[j] for j in expected) >= p - 1e-12:
                break
            expected.add(i)
        assert kept(keep_top_p(row, p)) == expected


def test_top_p_stops_exactly_where_p_is_reached():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log2() * math.log(2)
    assert kept(keep_top_p(logits, 0.5)) == {0}
    assert kept(keep_top_p(logits, 0.75)) == {0, 1}
    assert kept(keep_top_p(logits, 0.76)) == {0, 1, 2}


@pytest.mark.parametrize("p", [1e-9, 0.05, 0.3, 1.0])
def test_min_p_keeps_what_is_at_least_p_times_as_likely_as_the_likeliest(p):
    for row in logit_rows():
        chances = probabilities(row)
        expected = {i for i in range(9) if chances[i] >= p * max(chances) * (1 - 1e-12)}
        assert kept(keep_min_p(row, p)) == expected


@pytest.mark.parametrize(
    "keep", [lambda x: keep_top_k(x, 3), lambda x: keep_top_p(x, 0.7), lambda x: keep_min_p(x, 0.2)]
)
def test_filters_work_row_by_row(keep):
    rows = logit_rows()
    assert torch.equal(keep(rows.view(4, 10, 9)).view(40, 9), torch.stack([keep(row) for row in rows]))


def test_the_filters_come_in_the_documented_order():
    options = SamplingOptions(temperature=0.5, top_k=6, top_p=0.8, min_p=0.3)
    rows = logit_rows()
    expected = keep_min_p(keep_top_p(keep_top_k(apply_temperature(rows, 0.5), 6), 0.8), 0.3)
    assert torch.equal(shape_logits(rows, options), expected)
    assert not torch.equal(keep_top_p(apply_temperature(rows, 0.5), 0.8), keep_top_p(rows, 0.8) / 0.5), (
        "order matters here"
    )


# ----- the draw


def test_tokens_are_drawn_with_their_probabilities():
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf, -3.0], dtype=torch.float64)
    n = 20_000
    counts = torch.bincount(torch.stack([choose(logits, generator) for _ in range(n)]), minlength=6)
    expected = n * logits.softmax(-1)
    assert counts[4] == 0
    drawn = expected > 0
    chi_square = ((counts - expected)[drawn] ** 2 / expected[drawn]).sum().item()
    assert chi_square < 18.5  # 4 degrees of freedom: more in one of a thousand seeds, and this seed is fixed


def test_greedy_takes_the_likeliest_token_and_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    assert next_tokens(logits, SamplingOptions(greedy=True), [generator, generator]).tolist() == [1, 0]
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_of_a_diverged_model_are_told_in_one_line(broken, greedy):
    logits = torch.tensor([[0.0, broken, 1.0]])
    with pytest.raises(CheckpointError, match="diverged"):
        next_tokens(logits, SamplingOptions(greedy=greedy), [torch.Generator()])


# ----- the window


@given(st.integers(1, 400), st.integers(1, 70))
def test_the_window_fits_and_is_never_shorter_than_it_must_be(n_tokens, context):
    start = context_start(n_tokens, context)
    stride = max(1, context // 4)
    assert start % stride == 0
    if n_tokens <= context:
        assert start == 0
    else:
        assert context - stride < n_tokens - start <= context


@given(st.integers(2, 70))
def test_the_window_stays_or_slides_by_a_stride(context):
    starts = [context_start(n_tokens, context) for n_tokens in range(1, 4 * context + 5)]
    assert {after - before for before, after in itertools.pairwise(starts)} == {0, max(1, context // 4)}


# ----- tokens


def naive_greedy(model, prompt: torch.Tensor, n_new: int, context: int) -> torch.Tensor:
    """(B, n_new): the policy of the window written out, a whole forward pass for every token."""
    tokens = prompt
    for _ in range(n_new):
        n_tokens = tokens.shape[1]
        stride = max(1, context // 4)
        start = 0
        while n_tokens - start > context:
            start += stride
        with torch.no_grad():
            logits = model(tokens[:, start:])[:, -1]
        tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), dim=1)
    return tokens[:, prompt.shape[1] :]


def all_tokens(model, prompt, valid_vocab=None, **settings) -> torch.Tensor:
    """(B, n_new)"""
    options = SamplingOptions(**settings)
    return torch.stack(list(generate_tokens(model, prompt, options, valid_vocab or model.config.vocab_size)), dim=1)


def double_gpt(**settings):
    """In float64, so that no near tie is decided by the rounding of another order of sums."""
    return random_gpt(tiny_config(19, **settings)).double()


def prompt_of(length: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(19, (rows, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("prompt_length", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("position", POSITIONS)
def test_greedy_tokens_with_and_without_cache_are_those_of_the_plain_loop(position, prompt_length, use_cache):
    model = double_gpt(position=position)
    prompt = prompt_of(prompt_length)
    found = all_tokens(model, prompt, greedy=True, max_new_tokens=30, use_cache=use_cache)
    assert torch.equal(found, naive_greedy(model, prompt, 30, context=16))
    assert len(found.unique()) > 2, "a model that repeats one token would prove nothing"


@pytest.mark.parametrize("context", [1, 5, 24])
@pytest.mark.parametrize("position", [position for position in POSITIONS if position != "learned"])
def test_a_context_of_ones_own_may_exceed_the_block_size(position, context):
    model = double_gpt(position=position)
    for use_cache in (True, False):
        found = all_tokens(model, prompt_of(3), greedy=True, max_new_tokens=40, context=context, use_cache=use_cache)
        assert torch.equal(found, naive_greedy(model, prompt_of(3), 40, context))


def test_learned_positions_refuse_a_context_beyond_them_before_the_first_token():
    model = double_gpt(position="learned")
    with pytest.raises(ConfigError, match=r"context=17 .*block_size=16.*learned"):
        generate_tokens(model, prompt_of(3), SamplingOptions(context=17), 19)
    assert all_tokens(model, prompt_of(3), greedy=True, context=16, max_new_tokens=2).shape == (2, 2)


def test_sampled_tokens_are_the_same_with_and_without_cache():
    model = double_gpt()
    found = [all_tokens(model, prompt_of(4), seed=3, max_new_tokens=40, use_cache=cache) for cache in (True, False)]
    assert torch.equal(*found)


def test_with_the_cache_each_token_is_read_once_until_the_window_slides():
    model = double_gpt()
    read: list[int] = []
    model.token_embedding.register_forward_pre_hook(lambda module, args: read.append(args[0].shape[1]))
    all_tokens(model, prompt_of(10), max_new_tokens=20, seed=0)
    # windows of 10 .. 16 tokens, then 13 of them anew at every fourth step
    assert read == [10, 1, 1, 1, 1, 1, 1, 13, 1, 1, 1, 13, 1, 1, 1, 13, 1, 1, 1, 13]


def test_generation_may_be_taken_up_anywhere():
    model = double_gpt()
    whole = all_tokens(model, prompt_of(14), greedy=True, max_new_tokens=40)
    longer = torch.cat((prompt_of(14), whole[:, :11]), dim=1)
    assert torch.equal(all_tokens(model, longer, greedy=True, max_new_tokens=29), whole[:, 11:])


def test_of_a_prompt_longer_than_the_context_only_the_end_counts():
    model = double_gpt(position="learned")
    prompt = prompt_of(40)
    same_end = torch.cat((prompt[:, :24].flip(1), prompt[:, 24:]), dim=1)
    assert torch.equal(*(all_tokens(model, each, greedy=True, max_new_tokens=5) for each in (prompt, same_end)))


def test_each_row_has_a_random_stream_of_its_own():
    model = double_gpt()
    prompt = prompt_of(5, rows=1)
    three = all_tokens(model, prompt.expand(3, -1), seed=11, max_new_tokens=30)
    for row in range(3):
        assert torch.equal(all_tokens(model, prompt, seed=11 + row, max_new_tokens=30)[0], three[row])
    assert not torch.equal(three[0], three[1])


@pytest.mark.parametrize("settings", [{"logit_softcap": 1.0}, {"mup_base_width": 4}], ids=str)
def test_what_is_drawn_from_are_the_logits_of_the_model_soft_cap_and_all(settings):
    model = double_gpt(**settings)
    model.head.weight.data *= 20
    prompt = prompt_of(5, rows=1)
    found = all_tokens(model, prompt, seed=0, max_new_tokens=30, temperature=1.0)
    generator = torch.Generator().manual_seed(0)
    tokens = prompt
    for _ in range(30):
        with torch.no_grad():
            logits = model(tokens[:, context_start(tokens.shape[1], 16) :])[0, -1]
        tokens = torch.cat((tokens, choose(logits, generator)[None, None]), dim=1)
    assert torch.equal(found, tokens[:, 5:])


def test_without_a_seed_two_texts_differ():
    model = double_gpt()
    assert not torch.equal(*(all_tokens(model, prompt_of(2), max_new_tokens=40, temperature=2.0) for _ in range(2)))


def test_torchs_own_random_numbers_are_not_touched():
    model = double_gpt()
    before = torch.get_rng_state()
    all_tokens(model, prompt_of(2), max_new_tokens=10)
    all_tokens(model, prompt_of(2), max_new_tokens=10, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [{"greedy": True}, {"seed": 0, "temperature": 100.0}])
def test_the_padding_of_a_vocabulary_is_never_drawn(settings):
    model = double_gpt(tie_embeddings=False)
    with torch.no_grad():
        model.head.weight[11:] *= 50  # the padded ids would win nearly always
    assert all_tokens(model, prompt_of(5), max_new_tokens=200, **settings).max() >= 11
    found = all_tokens(model, prompt_of(5), valid_vocab=11, max_new_tokens=200, **settings)
    assert found.max() < 11


def test_no_token_is_computed_that_nobody_asks_for():
    model = double_gpt()
    passes: list[int] = []
    model.token_embedding.register_forward_pre_hook(lambda module, args: passes.append(1))
    assert list(generate_tokens(model, prompt_of(3), SamplingOptions(max_new_tokens=0), 19)) == []
    assert not passes
    list(itertools.islice(generate_tokens(model, prompt_of(3), SamplingOptions(max_new_tokens=10**15), 19), 4))
    assert len(passes) == 4


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN")
def test_weights_are_packed_for_long_texts_after_the_first_token_and_no_longer_than_that():
    model = use_cpu_kernels(random_gpt(tiny_config(19, n_layer=1, n_embd=384, n_head=6)))
    layer = model.blocks[0].attention.qkv

    def when_packed(n: int) -> list[bool]:
        return [
            layer.packed is not None
            for _ in generate_tokens(model, prompt_of(3, 1), SamplingOptions(max_new_tokens=n), 19)
        ]

    assert when_packed(PACK_FROM) == [False] + [True] * (PACK_FROM - 1)
    assert layer.packed is None
    assert when_packed(PACK_FROM - 1) == [False] * (PACK_FROM - 1)
    tokens = generate_tokens(model, prompt_of(3, 1), SamplingOptions(), 19)
    list(itertools.islice(tokens, 3))
    assert layer.packed is not None
    del tokens  # a reader that leaves
    assert layer.packed is None


def test_an_empty_prompt_of_tokens_is_refused_at_once():
    with pytest.raises(ConfigError, match="0 tokens"):
        generate_tokens(double_gpt(), torch.zeros(1, 0, dtype=torch.int64), SamplingOptions(), 19)


def test_the_consumers_gradients_go_on_between_two_tokens():
    model = double_gpt()
    for tokens in generate_tokens(model, prompt_of(3), SamplingOptions(max_new_tokens=2), 19):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        model(tokens[:, None]).sum().backward()  # a tensor of inference mode could not be saved for this
    assert model.token_embedding.weight.grad is not None


# ----- text


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_pieces_of_text_join_to_the_decoded_tokens(kind):
    tokenizer = tiny_tokenizer(kind)
    ids = torch.randint(tokenizer.vocab_size, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    ids = [token for token in ids if token != tokenizer.end_of_text]
    assert "".join(decode_pieces(ids, tokenizer)) == tokenizer.decode(ids)


def test_a_character_of_several_tokens_comes_in_one_piece():
    tokenizer = tiny_tokenizer("byte")
    pieces = list(decode_pieces("a🦊é".encode(), tokenizer))
    assert [piece for piece in pieces if piece] == ["a", "🦊", "é"]
    assert "".join(decode_pieces("é🦊".encode()[:-1], tokenizer)) == "é\ufffd"


def test_text_ends_with_the_document():
    tokenizer = tiny_tokenizer("byte")
    assert "".join(decode_pieces([65, 66, 256, 67], tokenizer)) == "AB"
    model = reciting_gpt({65: 66, 66: 256, 256: 67, 67: 67}, 257)
    assert "".join(generate_text(model, tokenizer, "A", SamplingOptions(greedy=True))) == "B"


@given(st.lists(st.text("ab", max_size=4)), st.text("ab", min_size=1, max_size=4))
def test_until_ends_before_the_first_place_where_the_stop_text_begins(pieces, stop):
    whole = "".join(pieces)
    assert "".join(until(pieces, stop)) == whole.partition(stop)[0]


@given(st.lists(st.text("ab", max_size=3)), st.text("ab", min_size=1, max_size=4))
def test_until_holds_back_only_what_may_begin_the_stop_text(pieces, stop):
    for length in range(len(pieces)):
        seen = "".join(pieces[: length + 1])
        if stop in seen:
            break
        shown = "".join(itertools.islice(until(pieces, stop), length + 1))
        held = seen.removeprefix(shown)
        assert seen == shown + held
        assert stop.startswith(held)
        assert not any(stop.startswith(seen[-n:]) for n in range(len(held) + 1, len(stop)) if n <= len(seen))


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("e", "bcd"),
        ("ef", "bcd"),
        ("bc", ""),
        ("b", ""),
        ("hab", "bcdefg"),
        ("zz", "bcdefghabcdefghabcde"),
        (None, "bcdefghabcdefghabcde"),
    ],
)
@pytest.mark.parametrize("use_cache", [True, False])
def test_generated_text_ends_before_the_stop_text(stop, expected, use_cache):
    tokenizer = CharTokenizer("abcdefghz", end_of_text=False, unknown=False)
    options = SamplingOptions(greedy=True, max_new_tokens=20, use_cache=use_cache)
    model = reciting("abcdefgh", tokenizer)
    assert "".join(generate_text(model, tokenizer, "a", options, stop)) == expected


def test_the_prompt_may_hold_the_stop_text():
    tokenizer = CharTokenizer("abcd", end_of_text=False, unknown=False)
    options = SamplingOptions(greedy=True, max_new_tokens=9)
    assert "".join(generate_text(reciting("abcd", tokenizer), tokenizer, "abc", options, "ab")) == "d"


def test_generated_text_comes_in_pieces_that_are_not_empty():
    tokenizer = tiny_tokenizer("byte")
    model = reciting("🦊", tokenizer)
    pieces = list(generate_text(model, tokenizer, "🦊", SamplingOptions(greedy=True, max_new_tokens=10)))
    assert pieces == ["🦊", "🦊", "\ufffd"]


def test_errors_of_the_text_come_before_its_first_piece():
    tokenizer = tiny_tokenizer("char")
    model = random_gpt(tiny_config(tokenizer.vocab_size))
    with pytest.raises(ConfigError, match="stop=''"):
        generate_text(model, tokenizer, "T", SamplingOptions(), "")
    with pytest.raises(DataError, match="'Ω'"):
        generate_text(model, tokenizer, "TΩ", SamplingOptions())
    with pytest.raises(ConfigError, match="context=17"):
        generate_text(model, tokenizer, "T", SamplingOptions(context=17))


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_a_broken_byte_of_the_command_line_is_told_in_one_line(kind):
    with pytest.raises(DataError) as caught:
        encode_prompt(tiny_tokenizer(kind), "T\udcff")
    assert "\n" not in str(caught.value)


def test_an_empty_prompt_begins_a_document():
    byte, char = tiny_tokenizer("byte"), tiny_tokenizer("char")
    assert encode_prompt(byte, "") == [byte.end_of_text]
    assert encode_prompt(char, "") == char.encode("\n")
    assert encode_prompt(CharTokenizer("xyz", end_of_text=False, unknown=False), "") == [0]
    assert encode_prompt(char, "The") == char.encode("The")
    assert start_token(CharTokenizer("x\n", end_of_text=True, unknown=False)) == 2
