"""Each token with the probability that the model gave it, and how it is shown."""

import math
import re

import pytest
import torch
from helpers import TEXT, random_gpt, reciting, tiny_config, tiny_tokenizer

from minigpt import interpret
from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.text import encode_prompt, generate_text
from minigpt.interpret.coloured import LEVELS, in_terminal, level_of, marked, percent, to_html
from minigpt.interpret.probabilities import generate_scored, score_tokens
from minigpt.interpret.views import logit_lens


@pytest.fixture(params=["byte", "bpe"])
def tokenizer(request):
    return tiny_tokenizer(request.param)


def test_scores_are_the_models_own(tokenizer):
    model = random_gpt(tiny_config(tokenizer.vocab_size + 5)).eval()
    tokens = tokenizer.encode(TEXT)[: model.config.block_size]
    scored = score_tokens(model, tokenizer, tokens, n_alternatives=3)
    with torch.no_grad():
        losses = model(torch.tensor([tokens]))[0, :-1, : tokenizer.vocab_size].log_softmax(-1)
    assert [each.token for each in scored] == tokens
    assert scored[0].probability is None
    for place, each in enumerate(scored[1:]):
        assert math.log(each.probability) == pytest.approx(float(losses[place, each.token]), rel=1e-5)
        best = losses[place].exp().topk(3).values.tolist()
        assert [chance for _, chance in each.alternatives] == pytest.approx(best)


def test_a_text_too_long_and_one_of_nothing():
    tokenizer = tiny_tokenizer("byte")
    model = random_gpt(tiny_config(tokenizer.vocab_size))
    size = model.config.block_size
    with pytest.raises(ConfigError, match=f"the text has {size + 1} tokens, more than block_size={size}"):
        score_tokens(model, tokenizer, [1] * (size + 1))
    assert score_tokens(model, tokenizer, []) == ()


def test_html_shows_colours_and_alternatives_and_escapes_both():
    shown = to_html([("<b>", None, ()), ('"↵', 0.004, [("&x", 0.93)])])
    assert "&lt;b&gt;</span>" in shown
    assert "&quot;↵<br></span>" in shown
    assert "0.4 %&#10;&#10;&amp;x  93 %" in shown
    assert LEVELS[-1].background in shown


@pytest.mark.parametrize(("p", "word"), [(1.0, "100"), (0.934, "93"), (0.0123, "1"), (0.0021, "0.2"), (1e-9, "<0.1")])
def test_percent(p, word):
    assert percent(p) == word


def test_levels_fall():
    assert [level.least for level in LEVELS] == sorted((level.least for level in LEVELS), reverse=True)
    assert [LEVELS.index(level_of(p)) for p in (0.9, 0.5, 0.2, 0.05, 0.0, math.nan)] == [0, 0, 1, 2, 3, 3]


def test_terminal_colours_end_with_each_line():
    assert in_terminal("a\n\nb", 0.9) == "\x1b[32ma\x1b[0m\n\n\x1b[32mb\x1b[0m"
    assert marked("a", 0.9) == "a{90}"


@pytest.mark.parametrize("stop", [None, "e", "e t", "zz"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_scored_pieces_join_to_the_text(tokenizer, stop, seed):
    model = random_gpt(tiny_config(tokenizer.vocab_size)).eval()
    options = SamplingOptions(max_new_tokens=60, seed=seed, temperature=1.3)
    pieces = list(generate_scored(model, tokenizer, "The", options, stop))
    assert "".join(text for text, _ in pieces) == "".join(generate_text(model, tokenizer, "The", options, stop))
    assert all(text and 0 < p < 1 for text, p in pieces)


def test_probabilities_of_a_text_multiply_to_its_likelihood():
    """Whatever the temperature that it was drawn at, and though a character takes several tokens."""
    tokenizer = tiny_tokenizer("byte")
    model = random_gpt(tiny_config(tokenizer.vocab_size, block_size=64)).eval()
    options = SamplingOptions(max_new_tokens=20, seed=4, temperature=2.0)
    pieces = list(generate_scored(model, tokenizer, "The", options))
    from minigpt.generate.sampling import generate_tokens

    prompt = torch.tensor([encode_prompt(tokenizer, "The")])
    drawn = [int(token) for token in generate_tokens(model, prompt, options, tokenizer.vocab_size)]
    assert tokenizer.end_of_text not in drawn
    scored = score_tokens(model, tokenizer, prompt[0].tolist() + drawn)[3:]
    expected = sum(math.log(each.probability) for each in scored)
    assert sum(math.log(p) for _, p in pieces) == pytest.approx(expected, rel=1e-4)
    assert len(pieces) < len(drawn), "some make up one character"


def test_a_reciter_is_certain():
    tokenizer = CharTokenizer("abc\n", end_of_text=False, unknown=False)
    options = SamplingOptions(greedy=True, max_new_tokens=5)
    pieces = list(generate_scored(reciting("abc", tokenizer), tokenizer, "a", options))
    assert "".join(text for text, _ in pieces) == "bcabc"
    assert all(p > 0.9 for _, p in pieces)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_lens_ends_with_the_models_own_logits(placement):
    model = random_gpt(tiny_config(40, norm_placement=placement, n_layer=2, logit_softcap=5.0)).eval()
    tokens = torch.randint(40, (2, 8))
    trace = interpret.trace(model, tokens)
    seen = logit_lens(model, trace)
    assert seen.shape == (3, 2, 8, 40)
    assert torch.equal(seen[-1], trace.logits)
    assert torch.equal(seen[0], model.logits(model.final_norm(trace["stream.0"])))
    assert not torch.equal(seen[0], seen[1])


def test_scored_text_is_printed_with_marks():
    tokenizer = tiny_tokenizer("byte")
    model = random_gpt(tiny_config(tokenizer.vocab_size))
    scored = score_tokens(model, tokenizer, tokenizer.encode("a b"))
    assert re.fullmatch(r"a␣\{[\d.<]+\}b\{[\d.<]+\}", str(scored))
    assert scored._repr_html_().count("<span") == 3
