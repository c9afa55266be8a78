"""The same logits and gradients as `transformers` at random weights: GPT-2 and Llama. Nothing is downloaded."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT

from .variants import random_tokens, randomise

transformers = pytest.importorskip("transformers")

LAYERS = range(3)
# Parts of the reference's weights, joined along the outputs, in the layout of a Linear.
Names = dict[str, list[str]]


def gpt2_names() -> Names:
    names = {
        "token_embedding.weight": ["transformer.wte.weight"],
        "position.weight": ["transformer.wpe.weight"],
        "head.weight": ["transformer.wte.weight"],
    }
    modules = {"final_norm": "transformer.ln_f"}
    for n in LAYERS:
        ours, theirs = f"blocks.{n}", f"transformer.h.{n}"
        modules |= {
            f"{ours}.attention_norm": f"{theirs}.ln_1",
            f"{ours}.attention.qkv": f"{theirs}.attn.c_attn",
            f"{ours}.attention.output": f"{theirs}.attn.c_proj",
            f"{ours}.feedforward_norm": f"{theirs}.ln_2",
            f"{ours}.feedforward.up": f"{theirs}.mlp.c_fc",
            f"{ours}.feedforward.down": f"{theirs}.mlp.c_proj",
        }
    for ours, theirs in modules.items():
        names |= {f"{ours}.{kind}": [f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    return names


def llama_names() -> Names:
    names = {
        "token_embedding.weight": ["model.embed_tokens.weight"],
        "final_norm.weight": ["model.norm.weight"],
        "head.weight": ["lm_head.weight"],
    }
    for n in LAYERS:
        ours, theirs = f"blocks.{n}", f"model.layers.{n}"
        names |= {
            f"{ours}.attention_norm.weight": [f"{theirs}.input_layernorm.weight"],
            f"{ours}.attention.qkv.weight": [f"{theirs}.self_attn.{part}_proj.weight" for part in "qkv"],
            f"{ours}.attention.output.weight": [f"{theirs}.self_attn.o_proj.weight"],
            f"{ours}.feedforward_norm.weight": [f"{theirs}.post_attention_layernorm.weight"],
            f"{ours}.feedforward.gate.weight": [f"{theirs}.mlp.gate_proj.weight"],
            f"{ours}.feedforward.up.weight": [f"{theirs}.mlp.up_proj.weight"],
            f"{ours}.feedforward.down.weight": [f"{theirs}.mlp.down_proj.weight"],
        }
    return names


def as_ours(reference: nn.Module, names: Names, value: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The reference's weights, or what `value` makes of them, under our names."""
    parameters = dict(reference.named_parameters())
    # GPT-2 of transformers stores its linear layers transposed.
    transposed = {f"{name}.weight" for name, module in reference.named_modules() if type(module).__name__ == "Conv1D"}
    result = {}
    for name, parts in names.items():
        values = [value(parameters[part]).T if part in transposed else value(parameters[part]) for part in parts]
        result[name] = torch.cat(values)
    return result


def check_parity(reference: nn.Module, config: GPTConfig, names: Names) -> None:
    """Logits and all gradients, in float64."""
    reference.double().eval()
    randomise(reference, seed=2)
    model = GPT(config).double().eval()
    model.load_state_dict(as_ours(reference, names, lambda parameter: parameter.detach()))
    assert {part for parts in names.values() for part in parts} == {name for name, _ in reference.named_parameters()}

    tokens = random_tokens(config)
    logits, expected = model(tokens), reference(tokens).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)
    for result in (logits, expected):
        F.cross_entropy(result[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    gradients = as_ours(reference, names, lambda parameter: parameter.grad)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name
        difference = (parameter.grad - gradients[name]).abs().max()
        assert difference < 1e-9, name


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_gpt2(attention):
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=41, n_positions=24, n_embd=32, n_layer=3, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    )
    config = GPTConfig(
        vocab_size=41, block_size=24, n_embd=32, n_layer=3, n_head=4, activation="gelu_tanh", attention=attention
    )
    check_parity(reference, config, gpt2_names())


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_llama(attention):
    reference = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=41,
            hidden_size=32,
            intermediate_size=56,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=24,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
        )
    )
    # transformers rounds the input of its norms to float32 even in a float64 model: what the paper says, in float64
    for module in reference.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = lambda x, self=module: F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)
    config = GPTConfig(
        vocab_size=41,
        block_size=24,
        n_embd=32,
        n_ff=56,
        n_layer=3,
        n_head=4,
        n_kv_head=2,
        position="rotary",
        norm="rmsnorm",
        activation="swiglu",
        bias=False,
        tie_embeddings=False,
        attention=attention,
    )
    check_parity(reference, config, llama_names())
