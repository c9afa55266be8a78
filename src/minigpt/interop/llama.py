"""Llama: translate between its config.json in `transformers` and our settings."""

from typing import Any

from minigpt.errors import ConfigError, shown
from minigpt.interop.family import NOT_IN_OURS, Family, Fields, Settings, activation_of, name_of_activation
from minigpt.interop.names import LLAMA_NAMES
from minigpt.model.config import ActivationName, GPTConfig

_ACTIVATIONS: dict[str, ActivationName] = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}


def _read(fields: Fields) -> tuple[Settings, list[str]]:
    if fields["attention_bias"] != fields["mlp_bias"]:
        raise ConfigError(
            f"attention_bias={fields['attention_bias']} with mlp_bias={fields['mlp_bias']} cannot be imported: "
            "linear layers have biases everywhere or nowhere"
        )
    dropout = fields["attention_dropout"]
    notes = [f"attention_dropout={dropout} becomes dropout, which also drops in embeddings and residual branches"]
    config = GPTConfig(
        vocab_size=fields["vocab_size"],
        block_size=fields["max_position_embeddings"],
        n_layer=fields["num_hidden_layers"],
        n_head=fields["num_attention_heads"],
        n_kv_head=fields["num_key_value_heads"],
        n_embd=fields["hidden_size"],
        n_ff=fields["intermediate_size"],
        dropout=dropout,
        position="rotary",
        norm="rmsnorm",
        norm_eps=fields["rms_norm_eps"],
        activation=activation_of(_ACTIVATIONS, fields, "hidden_act"),
        bias=fields["attention_bias"],
        tie_embeddings=fields["tie_word_embeddings"],
        rotary_base=_rotary_base(fields),
    )
    if fields["head_dim"] not in (None, config.head_width):
        raise ConfigError(
            f"head_dim={fields['head_dim']} cannot be imported: it must be hidden_size / num_attention_heads = "
            f"{config.head_width}"
        )
    return config.to_dict(), notes if dropout else []


def _rotary_base(fields: Fields) -> float:
    """Read the base of the rotary frequencies: `transformers` 5 writes rope_parameters, older versions rope_theta."""
    base = fields["rope_theta"]
    for name in ("rope_scaling", "rope_parameters"):
        rope = fields[name] or {}
        if not isinstance(rope, dict):
            raise ConfigError(f"{name}={shown(rope)} must be a mapping")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default" or rope.get("partial_rotary_factor", 1) != 1:
            raise ConfigError(
                f"{name}={shown(rope)} cannot be imported: rope_type must be default, the whole head turned"
            )
        base = rope.get("rope_theta", base)
    return base


def _write(config: GPTConfig) -> dict[str, Any]:
    return {
        "max_position_embeddings": config.block_size,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "hidden_size": config.n_embd,
        "head_dim": config.head_width,
        "intermediate_size": config.ff_width,
        "attention_dropout": config.dropout,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": name_of_activation(_ACTIVATIONS, config.activation),
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_theta": config.rotary_base, "rope_type": "default"},
    }


LLAMA = Family(
    title="Llama",
    model_type="llama",
    architecture="LlamaForCausalLM",
    prefix="model.",
    names=LLAMA_NAMES,
    expressible={
        "position": ("rotary",),
        "norm": ("rmsnorm",),
        "norm_placement": ("pre",),
        "block": (None,),
        "attention": ("fused", "explicit"),
        "activation": tuple(dict.fromkeys(_ACTIVATIONS.values())),
        "qk_norm": (False,),
        "norm_gain": (True,),
        "logit_softcap": (None,),
        "sliding_window": (None,),
        "mup_base_width": (None,),
    },
    defaults={
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "hidden_size": 4096,
        "head_dim": None,
        "intermediate_size": 11008,
        "attention_dropout": 0.0,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "rope_parameters": None,
    },
    fixed={**NOT_IN_OURS, "sliding_window": None, "partial_rotary_factor": 1},
    read=_read,
    write=_write,
    every_bias=False,
)
