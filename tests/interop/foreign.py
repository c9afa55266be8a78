"""Small models of other programs, with random weights and settings that are nobody's default."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

transformers = pytest.importorskip("transformers")

GPT2_SETTINGS: dict[str, Any] = {
    "vocab_size": 41, "n_positions": 96, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 56,
    "activation_function": "gelu", "layer_norm_epsilon": 3e-3, "resid_pdrop": 0.1, "embd_pdrop": 0.1,
    "attn_pdrop": 0.1, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
LLAMA_SETTINGS: dict[str, Any] = {
    "vocab_size": 41, "max_position_embeddings": 96, "hidden_size": 32, "intermediate_size": 56,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 3e-3,
    "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Every weight far from its initial value, norms and biases too: a mistaken name shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * noise if parameter.dim() > 1 else 1 + 0.3 * noise)


def gpt2(**settings: Any) -> nn.Module:
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2_SETTINGS | settings)).eval()
    randomise(model)
    return model


def llama(**settings: Any) -> nn.Module:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA_SETTINGS | settings)).eval()
    randomise(model)
    return model


REFERENCES = {
    "gpt2": lambda: gpt2(),
    "gpt2 of OpenAI's activation, untied": lambda: gpt2(activation_function="gelu_new", tie_word_embeddings=False),
    "gpt2 with relu": lambda: gpt2(activation_function="relu", n_inner=None),
    "gpt2 with relu2": lambda: gpt2(activation_function="relu2"),
    "llama": lambda: llama(),
    "llama with one matrix and all heads": lambda: llama(tie_word_embeddings=True, num_key_value_heads=4),
    "llama with biases and gelu": lambda: llama(attention_bias=True, mlp_bias=True, hidden_act="gelu"),
}


def save(model: nn.Module, folder: Path, **changes: Any) -> Path:
    """As `transformers` saves it; `changes` go into config.json afterwards."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(fields))
    return folder


class NanoGPT(nn.Module):
    """nanoGPT's model once more, from its names and its formulas: what an import is compared to."""

    def __init__(self, *, bias: bool, n_layer: int, n_head: int, n_embd: int, block_size: int, vocab_size: int) -> None:
        super().__init__()
        self.n_head = n_head

        def linear(n_in: int, n_out: int) -> nn.Linear:
            return nn.Linear(n_in, n_out, bias=bias)

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(n_embd, eps=1e-5, bias=bias)

        def block() -> nn.ModuleDict:
            attention = nn.ModuleDict({"c_attn": linear(n_embd, 3 * n_embd), "c_proj": linear(n_embd, n_embd)})
            attention.register_buffer("bias", torch.ones(1, 1, block_size, block_size).tril())
            mlp = nn.ModuleDict({"c_fc": linear(n_embd, 4 * n_embd), "c_proj": linear(4 * n_embd, n_embd)})
            return nn.ModuleDict({"ln_1": norm(), "attn": attention, "ln_2": norm(), "mlp": mlp})

        blocks = nn.ModuleList(block() for _ in range(n_layer))
        embeddings = {"wte": nn.Embedding(vocab_size, n_embd), "wpe": nn.Embedding(block_size, n_embd)}
        self.transformer = nn.ModuleDict({**embeddings, "h": blocks, "ln_f": norm()})
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, tokens: Tensor) -> Tensor:
        (B, T), parts = tokens.shape, self.transformer
        x = parts["wte"](tokens) + parts["wpe"](torch.arange(T))
        for block in parts["h"]:
            q, k, v = block["attn"]["c_attn"](block["ln_1"](x)).chunk(3, dim=-1)
            q, k, v = (each.view(B, T, self.n_head, -1).transpose(1, 2) for each in (q, k, v))
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            scores = scores.masked_fill(block["attn"].bias[:, :, :T, :T] == 0, -math.inf)
            heads = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, -1)
            x = x + block["attn"]["c_proj"](heads)
            x = x + block["mlp"]["c_proj"](F.gelu(block["mlp"]["c_fc"](block["ln_2"](x))))
        return self.lm_head(parts["ln_f"](x))


NANO_ARGS = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "bias": True, "vocab_size": 41}


def nano_checkpoint(path: Path, prefix: str = "", **changes: Any) -> NanoGPT:
    """A ckpt.pt as nanoGPT's train.py saves it; `changes` go over its model_args."""
    args = NANO_ARGS | changes
    model = NanoGPT(**args).eval()
    randomise(model)
    content = {
        "model": {prefix + name: value for name, value in model.state_dict().items()},
        "optimizer": {"state": {}, "param_groups": []},
        "model_args": {**args, "dropout": 0.2},
        "iter_num": 5000,
        "best_val_loss": torch.tensor(1.4697),
        "config": {"dataset": "shakespeare_char", "learning_rate": 1e-3, "compile": bool(prefix)},
    }
    torch.save(content, path)
    return model


def tokens_for(vocab_size: int, B: int = 3, T: int = 20) -> Tensor:
    return torch.randint(vocab_size, (B, T), generator=torch.Generator().manual_seed(5))


class Malicious:
    """Its unpickling creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))
