"""GPTConfig: defaults, derived widths, and one line for everything illegal."""

import math
import subprocess
import sys

import pytest

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig


def test_defaults_are_the_seed_shape():
    config = GPTConfig(vocab_size=257)
    assert (config.n_layer, config.n_head, config.n_embd, config.block_size, config.dropout) == (4, 8, 128, 64, 0.2)
    assert (config.head_width, config.kv_heads, config.ff_width) == (16, 8, 512)


def test_derived_widths():
    assert GPTConfig(vocab_size=1, n_kv_head=2).kv_heads == 2
    assert GPTConfig(vocab_size=1, n_ff=100, activation="swiglu").ff_width == 100
    # 8/3 * 128 = 341.3, rounded up to a multiple of 8; 8/3 * 96 = 256 already is one.
    assert GPTConfig(vocab_size=1, activation="swiglu").ff_width == 344
    assert GPTConfig(vocab_size=1, activation="geglu", n_embd=96).ff_width == 256


def test_dict_there_and_back():
    config = GPTConfig(vocab_size=65, position="rotary", rotary_base=5e5, n_kv_head=4, qk_norm=True, dropout=0)
    assert GPTConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["rotary_base"] == 5e5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_embd": 65, "n_head": 4}, "n_embd=65 must be divisible by n_head=4"),
        ({"n_head": 8, "n_kv_head": 3}, "n_head=8 must be divisible by n_kv_head=3"),
        ({"n_head": 8, "n_kv_head": 16}, "n_head=8 must be divisible by n_kv_head=16"),
        (
            {"position": "rotary", "n_embd": 12, "n_head": 4},
            "position=rotary needs an even head width, but n_embd=12 / n_head=4 is 3",
        ),
        (
            {"position": "sinusoidal", "n_embd": 15, "n_head": 3},
            "position=sinusoidal needs an even n_embd, not n_embd=15",
        ),
        (
            {"rotary_base": 500.0},
            "rotary_base=500.0 has no effect with position=learned: leave it at 10000.0, or choose rotary",
        ),
        ({"vocab_size": 0}, "vocab_size=0 must be at least 1"),
        ({"block_size": -1}, "block_size=-1 must be at least 1"),
        ({"n_layer": -1}, "n_layer=-1 must be at least 0"),
        ({"n_head": 0}, "n_head=0 must be at least 1"),
        ({"n_kv_head": 0}, "n_kv_head=0 must be at least 1"),
        ({"n_embd": 128.0}, "n_embd=128.0 must be a whole number"),
        ({"n_ff": "512"}, "n_ff='512' must be a whole number"),
        ({"n_layer": True}, "n_layer=True must be a whole number"),
        ({"n_head": None}, "n_head=None must be a whole number"),
        ({"dropout": 1.0}, "dropout=1.0 must be a number from 0 up to, not including, 1"),
        ({"dropout": -0.1}, "dropout=-0.1 must be a number from 0 up to, not including, 1"),
        ({"dropout": math.nan}, "dropout=nan must be a number from 0 up to, not including, 1"),
        ({"dropout": True}, "dropout=True must be a number from 0 up to, not including, 1"),
        ({"norm_eps": 0.0}, "norm_eps=0.0 must be a finite number above 0"),
        ({"norm_eps": math.inf}, "norm_eps=inf must be a finite number above 0"),
        ({"norm_eps": math.nan}, "norm_eps=nan must be a finite number above 0"),
        ({"norm_eps": True}, "norm_eps=True must be a finite number above 0"),
        ({"bias": 1}, "bias=1 must be true or false"),
        ({"qk_norm": "yes"}, "qk_norm='yes' must be true or false"),
        ({"position": "rotary", "rotary_base": 1.0}, "rotary_base=1.0 must be a finite number above 1"),
        ({"position": "rotary", "rotary_base": math.inf}, "rotary_base=inf must be a finite number above 1"),
        (
            {"position": "rotery"},
            "position='rotery' must be one of learned, sinusoidal, rotary, alibi, none, "
            "or a class of your own as my_file.Name, did you mean rotary?",
        ),
        (
            {"position": None},
            "position=None must be one of learned, sinusoidal, rotary, alibi, none, "
            "or a class of your own as my_file.Name, did you mean none?",
        ),
        ({"norm": "batch"}, "norm='batch' must be one of layernorm, rmsnorm, or a class of your own as my_file.Name"),
        (
            {"norm": ["rmsnorm"]},
            "norm=['rmsnorm'] must be one of layernorm, rmsnorm, or a class of your own as my_file.Name, "
            "did you mean rmsnorm?",
        ),
        ({"norm_placement": "past"}, "norm_placement='past' must be one of pre, post, did you mean post?"),
        (
            {"attention": "flash"},
            "attention='flash' must be one of fused, explicit, or a class of your own as my_file.Name",
        ),
        (
            {"activation": "gelu2"},
            "activation='gelu2' must be one of relu, gelu, gelu_tanh, relu2, swiglu, geglu, "
            "or a class of your own as my_file.Name, did you mean gelu?",
        ),
    ],
)
def test_illegal_settings_are_one_line(settings, message):
    with pytest.raises(ConfigError) as error:
        GPTConfig(**{"vocab_size": 10} | settings)
    assert str(error.value) == message


def test_unknown_and_missing_names():
    with pytest.raises(ConfigError, match=r"^unknown model setting 'n_heads', did you mean n_head\?$"):
        GPTConfig.from_dict({"vocab_size": 10, "n_heads": 4})
    with pytest.raises(ConfigError, match=r"^the model setting vocab_size is missing; it has no default$"):
        GPTConfig.from_dict({"n_head": 4})


def test_config_and_sizes_load_without_torch():
    code = "import sys, minigpt.model.config, minigpt.model.sizes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("setting", ["dropout", "norm_eps", "logit_softcap", "rotary_base"])
def test_a_number_that_no_float_holds_is_refused(setting):
    with pytest.raises(ConfigError, match=setting):
        GPTConfig(vocab_size=65, position="rotary", **{setting: 10**400})


def test_whole_numbers_become_floats_where_a_float_is_meant():
    """torch cannot take 10^30 as a whole number, and a file of JSON may say so."""
    config = GPTConfig(
        vocab_size=10, position="rotary", dropout=0, norm_eps=1, logit_softcap=10**30, rotary_base=10**30
    )
    found = [getattr(config, name) for name in ("dropout", "norm_eps", "logit_softcap", "rotary_base")]
    assert found == [0.0, 1.0, 1e30, 1e30]
    assert {type(value) for value in found} == {float}
