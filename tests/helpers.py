"""What the tests of several packages build: small models, tokenizers, checkpoints. Nothing is downloaded or trained."""

from pathlib import Path
from typing import Any

import torch

from minigpt.data.bpe import train_bpe
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT

TEXT = "The quick brown fox jumps over the lazy dog.\nÀ bientôt – 你好, 🦊!\n"


def tiny_tokenizer(kind: str) -> Tokenizer:
    """byte, char or bpe, the last two made from TEXT."""
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        return CharTokenizer(TEXT, end_of_text=False, unknown=False)
    return train_bpe([TEXT * 20], 290)


def tiny_config(vocab_size: int = 257, **settings: Any) -> GPTConfig:
    """Two layers of width 16, a context of 16, no dropout; `settings` go over that."""
    small = {"block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.0}
    return GPTConfig(vocab_size=vocab_size, **small | settings)


def random_gpt(config: GPTConfig, seed: int = 0) -> GPT:
    """In eval mode, with weights large enough that the logits differ clearly."""
    model = GPT(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.5 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return model


def reciting_gpt(successor: dict[int, int], vocab_size: int, **settings: Any) -> GPT:
    """A GPT without layers that is certain of what follows each id: a model whose texts are known beforehand."""
    known = {
        "n_layer": 0,
        "n_head": 1,
        "n_embd": vocab_size,
        "position": "none",
        "tie_embeddings": False,
        "dropout": 0.0,
    }
    model = GPT(GPTConfig(vocab_size=vocab_size, **known | settings)).eval()
    with torch.no_grad():
        model.token_embedding.weight.copy_(torch.eye(vocab_size))
        model.head.weight.zero_()
        for token, following in successor.items():
            model.head.weight[following, token] = 100.0
    return model


def reciting(text: str, tokenizer: Tokenizer, **settings: Any) -> GPT:
    """`reciting_gpt` of a text whose tokens all differ, round and round."""
    ids = tokenizer.encode(text)
    assert len(set(ids)) == len(ids), "each token must have one successor"
    return reciting_gpt(dict(zip(ids, ids[1:] + ids[:1], strict=True)), tokenizer.vocab_size, **settings)


def checkpoint_content(
    model: GPT,
    tokenizer: Tokenizer,
    *,
    step: int = 100,
    val_loss: float | None = 1.5,
    data: dict[str, Any] | None = None,
    data_fingerprint: str = "",
    prefix: str = "gpt.",
) -> dict[str, Any]:
    """A bare checkpoint as a dict: the format, spelt out once more, so that a change of it is noticed."""
    return {
        "minigpt": {
            "format": 2,
            "config": model.config.to_dict(),
            "tokenizer": tokenizer.to_json(),
            "provenance": {"command": "test"},
            "step": step,
            "val_loss": val_loss,
            "data": data or {},
            "data_fingerprint": data_fingerprint,
            "yaml": "",
        },
        "state_dict": {prefix + key: value for key, value in model.state_dict().items()},
    }


def write_checkpoint(
    path: Path, config: GPTConfig | GPT, tokenizer: Tokenizer, *, seed: int = 0, **content: Any
) -> GPT:
    """Save a checkpoint of a model, or of a random one of that config, and return the model.

    `content` are the keyword arguments of `checkpoint_content`. Folders above `path` are made.
    """
    model = config if isinstance(config, GPT) else random_gpt(config, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint_content(model, tokenizer, **content), path)
    return model
