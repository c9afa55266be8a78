"""Variants of the user's own, in a file of theirs: built by dotted name, checked, counted, cached where they say so."""

import math
from pathlib import Path

import pytest
import torch

from minigpt import interpret
from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.model.cache import KVCache
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.model.sizes import (
    activation_bytes,
    block_matrix_parameters,
    flops_per_token,
    parameter_count,
    parameters_by_part,
)

from .variants import random_tokens, small_config, small_model

IDEAS = '''
"""Ideas of my own."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minigpt.model.attention import future_bias, share_heads
from minigpt.model.block import PreNormBlock
from minigpt.model.custom import supports_cache
from minigpt.model.feedforward import FeedForward
from minigpt.model.positions import Position, places


@supports_cache
class Spiral(Position):
    """Turn each pair of channels of the embedding by an angle that is learnt, times the position."""

    def __init__(self, config):
        super().__init__(config)
        self.angles = nn.Parameter(torch.empty(config.n_embd // 2))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.uniform_(self.angles, 0.0, 0.1)

    def embed(self, x, start):
        angle = places(start, x.shape[1], x.device)[..., None] * self.angles  # (T, C/2)
        first, second = x.chunk(2, dim=-1)  # (B, T, C/2) each
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Forgetful(Position):
    """Count from 0, whatever stands before: no cache can go with it."""

    def embed(self, x, start):
        return x + torch.arange(x.shape[1], device=x.device)[:, None] * 0.01


@supports_cache
def cosine_attention(q, k, v, bias, dropout):
    """Compare directions: softmax(10 cos(q, k))."""
    scores = F.normalize(q, dim=-1) @ share_heads(F.normalize(k, dim=-1), q.shape[1]).transpose(-2, -1)  # (B, H, T, S)
    scores = 10 * scores + (future_bias(*scores.shape[-2:], q) if bias is None else bias)
    return dropout(scores.softmax(dim=-1)) @ share_heads(v, q.shape[1])


class Sinks(nn.Module):
    """Let each head attend to nothing at all: a learnt logit beside the scores."""

    def __init__(self, config):
        super().__init__()
        self.sink = nn.Parameter(torch.empty(config.n_head, 1, 1))

    def reset_parameters(self):
        nn.init.zeros_(self.sink)

    def forward(self, q, k, v, bias, dropout):
        T, D = q.shape[-2:]
        scores = q @ share_heads(k, q.shape[1]).transpose(-2, -1) / math.sqrt(D)
        scores = scores + (future_bias(T, T, q) if bias is None else bias)
        sink = self.sink.expand(len(q), -1, T, 1)
        weights = torch.cat((scores, sink), dim=-1).softmax(dim=-1)[..., :-1]
        return dropout(weights) @ share_heads(v, q.shape[1])


class ScaleNorm(nn.Module):
    """One gain for all channels."""

    def __init__(self, width, config):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(width**0.5))

    def reset_parameters(self):
        nn.init.constant_(self.gain, 4.0)

    def forward(self, x):
        return self.gain * x / x.norm(dim=-1, keepdim=True).clamp(min=1e-5)


def snake(x):
    return x + x.sin().square()


class Learnt(nn.Module):
    """A slope that is learnt."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def reset_parameters(self):
        nn.init.ones_(self.slope)

    def forward(self, x):
        return torch.where(x > 0, x, self.slope * x)


class Experts(FeedForward):
    """The better of two layers by the sum of the input, which only real numbers can decide."""

    def __init__(self, config):
        super().__init__(config, F.relu)
        self.other = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        y = super().forward(x)
        chosen = (x.sum(-1) > 0).nonzero(as_tuple=True)
        y[chosen] = self.other(x[chosen])
        return y


@supports_cache
class Parallel(PreNormBlock):
    """Attention and feed-forward side by side (GPT-J)."""

    def forward(self, x, signals, cache=None):
        y = self.attention_norm(x)
        return x + self.dropout(self.attention(y, signals, cache)) + self.dropout(self.feedforward(y))


class Mixer(nn.Module):
    """No attention: the mean of what came before."""

    def __init__(self, config):
        super().__init__()
        self.mix = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x, signals, cache=None):
        count = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return x + self.mix(x.cumsum(dim=1) / count)


class Broken(Position):
    def __init__(self, config):
        super().__init__(config)
        self.size = config.width


class Late(Position):
    def embed(self, x, start):
        return x @ x


class Short(Position):
    def embed(self, x, start):
        return x[:, :-1]


class Stateless(Position):
    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("steps", torch.linspace(0, 1, 4))
        self.first = self.steps[0].item()


def not_a_class(config):
    return 3
'''

VARIANTS = [
    {"position": "my_ideas.Spiral"},
    {"attention": "my_ideas.cosine_attention"},
    {"attention": "my_ideas.Sinks", "n_kv_head": 2},
    {"norm": "my_ideas.ScaleNorm", "qk_norm": True},
    {"activation": "my_ideas.snake"},
    {"activation": "my_ideas.Learnt"},
    {"activation": "my_ideas.Experts"},
    {"block": "my_ideas.Parallel"},
    {"block": "my_ideas.Mixer", "position": "my_ideas.Forgetful", "norm_placement": "post"},
]
CACHED = [VARIANTS[0], VARIANTS[1], *VARIANTS[3:8]]
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))


@pytest.fixture(autouse=True)
def ideas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the file my_ideas.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_ideas.py").write_text(IDEAS)
    return tmp_path / "my_ideas.py"


@every_variant
def test_it_is_built_trained_and_loaded_again(variant):
    model = small_model(**variant)
    tokens = random_tokens(model.config)
    model.train().loss(tokens, tokens).backward()
    assert all(
        parameter.grad is not None for name, parameter in model.named_parameters() if "feedforward_norm" not in name
    )
    again = GPT(GPTConfig.from_dict(model.config.to_dict())).double()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(tokens), model.eval()(tokens))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % model.config.vocab_size
    after = model(changed)
    torch.testing.assert_close(after[:, :7], model(tokens)[:, :7], rtol=0, atol=1e-12)


def test_a_config_imports_nothing():
    config = small_config(position="nowhere.Spiral", block="nowhere.Block", rotary_base=500.0)
    assert config.custom_names() == {"model.position": "nowhere.Spiral", "model.block": "nowhere.Block"}
    assert small_config().custom_names() == {}
    assert config.to_dict()["position"] == "nowhere.Spiral"


@every_variant
def test_sizes_are_those_of_the_real_model(variant):
    config = small_config(**variant)
    model = GPT(config)
    assert parameter_count(config) == sum(parameter.numel() for parameter in model.parameters())
    assert sum(parameters_by_part(config).values()) == parameter_count(config)
    linear = [module for module in model.blocks.modules() if isinstance(module, torch.nn.Linear)]
    assert block_matrix_parameters(config) == sum(module.weight.numel() for module in linear)
    assert flops_per_token(config) >= 6 * block_matrix_parameters(config) * 0.6  # not every expert sees every token
    assert activation_bytes(config, 4) > activation_bytes(config, 2) > 0


def test_flops_of_an_attention_function_are_counted():
    config = small_config(attention="my_ideas.cosine_attention")
    assert flops_per_token(config) == flops_per_token(small_config())


def test_sizes_follow_the_file(ideas):
    config = small_config(position="my_ideas.Spiral")
    before = parameter_count(config)
    ideas.write_text(
        IDEAS.replace("config.n_embd // 2", "config.n_embd // 2 * 2").replace(" * self.angles", " * self.angles[::2]")
    )
    assert parameter_count(config) == before + 8


@pytest.mark.parametrize("variant", CACHED, ids=str)
@torch.no_grad()
def test_a_piece_that_says_so_is_cached(variant):
    model = small_model(**variant)
    assert model.without_cache == []
    tokens = random_tokens(model.config)
    cache = KVCache(model.config, batch_size=3, max_length=12, dtype=torch.float64)
    logits = torch.cat([model(piece, cache) for piece in tokens.split([5, 1, 4, 2], dim=1)], dim=1)
    torch.testing.assert_close(logits, model(tokens), rtol=0, atol=1e-12)


def test_another_piece_generates_without_a_cache():
    model = small_model(position="my_ideas.Forgetful", attention="my_ideas.Sinks", block="my_ideas.Mixer")
    assert model.without_cache == ["model.position=my_ideas.Forgetful", "model.block=my_ideas.Mixer"]
    prompt = random_tokens(model.config, T=4)
    for context in (None, 6):  # with a window that slides, too
        options = SamplingOptions(greedy=True, max_new_tokens=9, context=context)
        chosen = torch.stack(list(generate_tokens(model, prompt, options, 19)), dim=1)
        expected = list(
            generate_tokens(
                model, prompt, SamplingOptions(greedy=True, max_new_tokens=9, context=context, use_cache=False), 19
            )
        )
        assert torch.equal(chosen, torch.stack(expected, dim=1))
    with pytest.raises(ConfigError, match=r"^model.position=my_ideas.Forgetful does not support a KV cache: "):
        model(prompt, KVCache(model.config, 3, 12, dtype=torch.float64))


def test_a_mark_is_not_inherited(ideas):
    ideas.write_text(IDEAS + "\n\nclass Derived(Spiral):\n    def embed(self, x, start):\n        return x\n")
    assert small_model(position="my_ideas.Derived").without_cache == ["model.position=my_ideas.Derived"]


def test_traces_have_the_activations_that_there_are():
    tokens = random_tokens(small_config())
    with_attention = interpret.trace(small_model(attention="my_ideas.Sinks"), tokens)
    assert "pattern.0" not in list(with_attention)
    assert with_attention["heads.1"].shape == (3, 4, 12, 4)
    model = small_model(block="my_ideas.Mixer")
    assert list(interpret.trace(model, tokens)) == ["stream.0", "stream.1", "stream.2", "final", "logits"]
    model = small_model(attention="my_ideas.Sinks")
    with interpret.edited(model, {"heads": torch.zeros_like}):
        assert not torch.equal(model(tokens), small_model(attention="my_ideas.Sinks")(tokens))
    assert torch.equal(model(tokens), small_model(attention="my_ideas.Sinks")(tokens))
    with pytest.raises(ConfigError, match=r"model.attention=my_ideas.Sinks"):
        interpret.attention_maps(model, tokens)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position": "my_ideas.Spirale"}, r"has no Spirale, did you mean Spiral\?$"),
        ({"position": "my_idea.Spiral"}, r"there is no module my_idea .*, did you mean my_ideas\?$"),
        ({"position": "my_ideas.Broken"}, r"my_ideas.py, line \d+: self.size = config.width: AttributeError: "),
        ({"position": "my_ideas.Late"}, r"my_ideas.py, line \d+: return x @ x: RuntimeError: "),
        (
            {"position": "my_ideas.Short"},
            r"Short must give a tensor of shape \(2, 3, 16\) here: .* \(2, 2, 16\)$",
        ),
        ({"position": "my_ideas.not_a_class"}, r"a class derived from minigpt.model.positions.Position: .* gave 3$"),
        ({"norm": "my_ideas.not_a_class"}, r"not_a_class\(\) takes 1 positional argument but 2 were given"),
        ({"block": "my_ideas.not_a_class"}, r"must be a class derived from torch.nn.modules.module.Module: .* gave 3$"),
        ({"activation": "my_ideas.Mixer"}, r"missing 1 required positional argument: 'config'"),
        ({"attention": "my_ideas.snake"}, r"takes 1 positional argument but 5 were given"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        GPT(small_config(**settings))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"model.{next(iter(settings))}=")


def test_a_piece_that_the_meta_device_cannot_build_is_counted_on_the_cpu():
    state = torch.get_rng_state()
    assert parameter_count(small_config(position="my_ideas.Stateless")) == parameter_count(
        small_config(position="none")
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_trying_a_piece_leaves_the_random_state():
    """So a seed gives the weights of a built-in variant of the same shapes."""
    weights = []
    for activation in ("gelu", "my_ideas.snake"):
        torch.manual_seed(0)
        weights.append(GPT(small_config(activation=activation, dropout=0.5)).state_dict())
    assert all(map(torch.equal, *(each.values() for each in weights)))


@every_variant
def test_built_on_the_meta_device_and_initialised_is_the_same(variant):
    torch.manual_seed(3)
    plain = GPT(small_config(**variant))
    with torch.device("meta"):
        model = GPT(small_config(**variant))
    assert all(parameter.is_meta for parameter in model.parameters())
    torch.manual_seed(3)
    model.to_empty(device="cpu").initialise()
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_what_nothing_would_initialise_is_named(ideas):
    ideas.write_text(IDEAS.replace("        self.first = self.steps[0].item()\n", ""))
    with torch.device("meta"):
        model = GPT(small_config(position="my_ideas.Stateless"))
    with pytest.raises(ConfigError, match=r"^Stateless needs a method reset_parameters that sets steps: "):
        model.to_empty(device="cpu").initialise()


def test_reset_parameters_has_the_last_word(ideas):
    ideas.write_text(
        IDEAS.replace(
            "class Mixer(nn.Module):",
            "class Mixer(nn.Module):\n    def reset_parameters(self):\n        nn.init.zeros_(self.mix.weight)\n",
        )
    )
    model = GPT(small_config(block="my_ideas.Mixer"))
    assert not model.blocks[0].mix.weight.any()


def test_a_custom_piece_learns():
    torch.manual_seed(0)
    model = GPT(
        small_config(position="my_ideas.Spiral", attention="my_ideas.cosine_attention", norm="my_ideas.ScaleNorm")
    )
    tokens = random_tokens(model.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = math.inf
    for _ in range(60):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        first = min(first, loss.item()) if math.isinf(first) else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
