"""Map the names of weights of other models to ours: one table per family, read in both directions."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from minigpt.errors import CheckpointError, ConfigError, shown
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.system.weights import fault_of_weight

HEAD = "head.weight"
EMBEDDING = "token_embedding.weight"
"""One matrix with the head where embeddings are tied; a file then holds it under this name alone."""


class Row(NamedTuple):
    """A weight of ours and the weights that it is made of; `{n}` stands for the number of the layer."""

    ours: str
    theirs: tuple[str, ...]
    """Joined along the outputs: queries, keys and values, where they are three matrices."""
    transposed: bool = False
    """GPT-2's linear layers are stored (inputs, outputs), ours (outputs, inputs)."""


GPT2_NAMES = (
    Row(EMBEDDING, ("transformer.wte.weight",)),
    Row("position.weight", ("transformer.wpe.weight",)),
    Row("blocks.{n}.attention_norm.weight", ("transformer.h.{n}.ln_1.weight",)),
    Row("blocks.{n}.attention_norm.bias", ("transformer.h.{n}.ln_1.bias",)),
    Row("blocks.{n}.attention.qkv.weight", ("transformer.h.{n}.attn.c_attn.weight",), transposed=True),
    Row("blocks.{n}.attention.qkv.bias", ("transformer.h.{n}.attn.c_attn.bias",)),
    Row("blocks.{n}.attention.output.weight", ("transformer.h.{n}.attn.c_proj.weight",), transposed=True),
    Row("blocks.{n}.attention.output.bias", ("transformer.h.{n}.attn.c_proj.bias",)),
    Row("blocks.{n}.feedforward_norm.weight", ("transformer.h.{n}.ln_2.weight",)),
    Row("blocks.{n}.feedforward_norm.bias", ("transformer.h.{n}.ln_2.bias",)),
    Row("blocks.{n}.feedforward.up.weight", ("transformer.h.{n}.mlp.c_fc.weight",), transposed=True),
    Row("blocks.{n}.feedforward.up.bias", ("transformer.h.{n}.mlp.c_fc.bias",)),
    Row("blocks.{n}.feedforward.down.weight", ("transformer.h.{n}.mlp.c_proj.weight",), transposed=True),
    Row("blocks.{n}.feedforward.down.bias", ("transformer.h.{n}.mlp.c_proj.bias",)),
    Row("final_norm.weight", ("transformer.ln_f.weight",)),
    Row("final_norm.bias", ("transformer.ln_f.bias",)),
    Row(HEAD, ("lm_head.weight",)),
)

NANOGPT_NAMES = tuple(row._replace(transposed=False) for row in GPT2_NAMES)
"""nanoGPT took over GPT-2's names, and torch's own linear layer."""

LLAMA_NAMES = (
    Row(EMBEDDING, ("model.embed_tokens.weight",)),
    Row("blocks.{n}.attention_norm.weight", ("model.layers.{n}.input_layernorm.weight",)),
    *(
        Row(
            f"blocks.{{n}}.attention.qkv.{kind}",
            (
                f"model.layers.{{n}}.self_attn.q_proj.{kind}",
                f"model.layers.{{n}}.self_attn.k_proj.{kind}",
                f"model.layers.{{n}}.self_attn.v_proj.{kind}",
            ),
        )
        for kind in ("weight", "bias")
    ),
    Row("blocks.{n}.attention.output.weight", ("model.layers.{n}.self_attn.o_proj.weight",)),
    Row("blocks.{n}.attention.output.bias", ("model.layers.{n}.self_attn.o_proj.bias",)),
    Row("blocks.{n}.feedforward_norm.weight", ("model.layers.{n}.post_attention_layernorm.weight",)),
    Row("blocks.{n}.feedforward.gate.weight", ("model.layers.{n}.mlp.gate_proj.weight",)),
    Row("blocks.{n}.feedforward.gate.bias", ("model.layers.{n}.mlp.gate_proj.bias",)),
    Row("blocks.{n}.feedforward.up.weight", ("model.layers.{n}.mlp.up_proj.weight",)),
    Row("blocks.{n}.feedforward.up.bias", ("model.layers.{n}.mlp.up_proj.bias",)),
    Row("blocks.{n}.feedforward.down.weight", ("model.layers.{n}.mlp.down_proj.weight",)),
    Row("blocks.{n}.feedforward.down.bias", ("model.layers.{n}.mlp.down_proj.bias",)),
    Row("final_norm.weight", ("model.norm.weight",)),
    Row(HEAD, ("lm_head.weight",)),
)

# What older releases saved beside the weights: causal masks, and the wavelengths of the rotation.
_BUFFERS = re.compile(r"(.*\.)?(attn\.(bias|masked_bias)|rotary_emb\.inv_freq)")


def shapes_of(config: GPTConfig) -> dict[str, torch.Size]:
    """Return the shape of every weight of a model, by our names; ConfigError for sizes that no weights can have."""
    try:
        with torch.device("meta"):  # shapes without memory
            return {name: weight.shape for name, weight in GPT(config).state_dict().items()}
    except (RuntimeError, TypeError, OverflowError):  # the number of bytes, or one size, is beyond 64 bits
        names = ("vocab_size", "block_size", "n_embd", "n_ff")
        sizes = ", ".join(f"{name}={shown(getattr(config, name))}" for name in names)
        raise ConfigError(f"no weights can have these sizes: {sizes}") from None


def rows_for(names: Iterable[Row], config: GPTConfig) -> Iterator[Row]:
    """Yield the rows of the weights of a model of `config`, layer by layer; without the head if it is tied."""
    shapes = shapes_of(config)
    for row in names:
        for n in range(config.n_layer) if "{n}" in row.ours else [0]:
            ours = row.ours.replace("{n}", str(n))
            if ours in shapes and not (ours == HEAD and config.tie_embeddings):
                yield Row(ours, tuple(part.replace("{n}", str(n)) for part in row.theirs), row.transposed)


def to_ours(names: Iterable[Row], config: GPTConfig, theirs: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Make the state dict of a GPT of `config`, in float32, from weights under the names of another model.

    Raises CheckpointError, one line that begins with `source`, for a weight that is missing, unknown, of another shape
    than the config asks for, or no floating-point number.
    """
    weights = {name: value for name, value in theirs.items() if not _BUFFERS.fullmatch(name)}
    check_weights(weights, source)
    shapes = expected_shapes(weights, config, source)
    if config.tie_embeddings:
        _take_out_tied_head(names, weights, source)
    result = {}
    for row in rows_for(names, config):
        parts = [_float32(weights, name, source) for name in row.theirs]
        sizes = _part_sizes(row, shapes[row.ours], config)
        for name, part, size in zip(row.theirs, parts, sizes, strict=True):
            expected = (size, *shapes[row.ours][1:])
            expected = expected[::-1] if row.transposed else expected
            if tuple(part.shape) != expected:
                raise CheckpointError(
                    f"{source}: weight '{name}' has shape {tuple(part.shape)}, the config asks for {expected}"
                )
        joined = [part.T if row.transposed else part for part in parts]
        result[row.ours] = torch.cat(joined) if len(joined) > 1 else joined[0].contiguous()
    if weights:
        raise CheckpointError(f"{source}: the weights have '{min(weights)}', which the config does not know")
    if config.tie_embeddings:
        result[HEAD] = result[EMBEDDING]
    return result


def to_theirs(names: Iterable[Row], config: GPTConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_ours`: float32, every weight with memory of its own, and no second name for a tied matrix."""
    shapes = shapes_of(config)
    result = {}
    for row in rows_for(names, config):
        parts = ours[row.ours].detach().float().split(_part_sizes(row, shapes[row.ours], config))
        for name, part in zip(row.theirs, parts, strict=True):
            result[name] = (part.T if row.transposed else part).clone(memory_format=torch.contiguous_format)
    return result


def renamed(weights: Mapping[str, Tensor], prefix: str, source: object) -> dict[str, Tensor]:
    """Put `prefix` before every name that lacks it, except the head, and remove torch.compile's `_orig_mod.`."""
    result: dict[str, Tensor] = {}
    for name, value in weights.items():
        full = name.replace("_orig_mod.", "")
        if not full.startswith((prefix, "lm_head.")):
            full = prefix + full
        if full in result:
            raise CheckpointError(f"{source}: the weights have '{full}' twice, with and without its prefix")
        result[full] = value
    return result


def _take_out_tied_head(names: Iterable[Row], weights: dict[str, Tensor], source: object) -> None:
    """Remove the second copy of a tied matrix; CheckpointError if the two differ."""
    full = {row.ours: row.theirs[0] for row in names}
    head, embedding = weights.pop(full[HEAD], None), weights.get(full[EMBEDDING])
    if head is not None and embedding is not None and not torch.equal(head, embedding):
        raise CheckpointError(
            f"{source}: '{full[HEAD]}' is not '{full[EMBEDDING]}', although the config ties them (one matrix for both)"
        )


def _part_sizes(row: Row, shape: torch.Size, config: GPTConfig) -> list[int]:
    """Return the number of outputs of each part of a row: queries, keys and values, or the whole."""
    if len(row.theirs) == 1:
        return [shape[0]]
    return [config.n_head * config.head_width, *[config.kv_heads * config.head_width] * 2]


def _float32(weights: dict[str, Tensor], name: str, source: object) -> Tensor:
    """Pop a weight as float32, so that `weights` keeps what the config does not know."""
    if name not in weights:
        raise CheckpointError(f"{source}: the weights lack '{name}', which the config asks for")
    value = weights.pop(name)
    return value.detach().float()


def expected_shapes(weights: Mapping[str, Tensor], config: GPTConfig, source: object) -> dict[str, torch.Size]:
    """`shapes_of` a config out of a file; CheckpointError for one that the weights beside it cannot belong to."""
    # Building 10^9 layers would take for ever; a file that has that many also has the weights of them.
    if config.n_layer > len(weights):
        raise CheckpointError(f"{source}: n_layer={config.n_layer}, but the file holds only {len(weights)} weights")
    try:
        return shapes_of(config)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None


def check_weights(weights: Mapping[str, Tensor], source: object) -> None:
    """Raise CheckpointError, one line, for the first weight that is sparse, quantised, empty or not real."""
    for name, value in weights.items():
        fault = fault_of_weight(value)
        if fault is not None:
            raise CheckpointError(f"{source}: weight '{name}' {fault}")
