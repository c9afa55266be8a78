"""GPT-2: translate between its config.json in `transformers` and our settings."""

from typing import Any

from minigpt.errors import shown
from minigpt.interop.family import NOT_IN_OURS, Family, Fields, Settings, activation_of, name_of_activation
from minigpt.interop.names import GPT2_NAMES
from minigpt.model.config import ActivationName, GPTConfig

# Of several names of one function the first is the one that we write.
_ACTIVATIONS: dict[str, ActivationName] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}


def _read(fields: Fields) -> tuple[Settings, list[str]]:
    dropouts = {name: fields[name] for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    notes = []
    if any(value != fields["resid_pdrop"] for value in dropouts.values()):
        message = ", ".join(f"{name}={shown(value)}" for name, value in dropouts.items())
        notes.append(f"{message}: minigpt has one dropout, and takes the residual branches' {fields['resid_pdrop']}")
    settings = {
        "vocab_size": fields["vocab_size"],
        "block_size": fields["n_positions"],
        "n_layer": fields["n_layer"],
        "n_head": fields["n_head"],
        "n_embd": fields["n_embd"],
        "n_ff": fields["n_inner"],
        "dropout": fields["resid_pdrop"],
        "activation": activation_of(_ACTIVATIONS, fields, "activation_function"),
        "norm_eps": fields["layer_norm_epsilon"],
        "tie_embeddings": fields["tie_word_embeddings"],
    }
    return settings, notes


def _write(config: GPTConfig) -> dict[str, Any]:
    return {
        "n_positions": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": config.n_ff,
        "activation_function": name_of_activation(_ACTIVATIONS, config.activation),
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": config.norm_eps,
    }


GPT2 = Family(
    title="GPT-2",
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    names=GPT2_NAMES,
    expressible={
        "position": ("learned",),
        "norm": ("layernorm",),
        "norm_placement": ("pre",),
        "block": (None,),
        "attention": ("fused", "explicit"),
        "activation": tuple(dict.fromkeys(_ACTIVATIONS.values())),
        "n_kv_head": ("n_head",),
        "qk_norm": (False,),
        "norm_gain": (True,),
        "logit_softcap": (None,),
        "sliding_window": (None,),
        "mup_base_width": (None,),
    },
    defaults={
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": None,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    fixed={**NOT_IN_OURS, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    read=_read,
    write=_write,
    every_bias=True,
)
