"""Look inside a forward pass and change what is found there: every activation by its name, no second model.

The model has no code for it. Hooks on its modules, which every nn.Module has, and a wrapper round the one function that
is no module, the attention function, stay for the length of a pass and are then gone: off, it costs nothing at all, the
state dict has no names of its own for it, and torch.compile sees the plain model.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from minigpt.errors import ConfigError, did_you_mean
from minigpt.interpret.edits import Edit
from minigpt.model.attention import Attention, AttentionFunction, attention_weights, weighted_values
from minigpt.model.block import PreNormBlock
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT

LAYER_KINDS: dict[str, str] = {
    "query": "(B, H, T, D), normalised and turned as the scores see them",
    "key": "(B, Hkv, T, D), likewise",
    "value": "(B, Hkv, T, D)",
    "pattern": "(B, H, T, T): what each token takes from each, before dropout; every row sums to 1",
    "heads": "(B, H, T, D): what each head gathered, before the output projection",
    "attention": "(B, T, C): the output of the attention layer",
    "hidden": "(B, T, F): what the feed-forward layer holds between its matrices, after the activation and any gate",
    "feedforward": "(B, T, C): the output of the feed-forward layer",
}
"""What each of L layers has, in the order of its computation: `query.0` .. `query.{L-1}`."""
OTHER_KINDS: dict[str, str] = {
    "stream": "(B, T, C): the residual stream that layer N reads; `stream.L` is what the last one leaves",
    "final": "(B, T, C): the stream after the last norm",
    "logits": "(B, T, V)",
}
"""`stream.0` .. `stream.L`, and two that are there once, without a number."""


class Trace(Mapping[str, Tensor]):
    """The activations of one pass by name: `trace["pattern.1"]`. They are the model's own tensors."""

    def __init__(self, found: Mapping[str, Tensor], names: Collection[str]) -> None:
        """`found` in the order of computation; `names` are all that the model has."""
        self._found = dict(found)
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        """ConfigError for a name that the model does not have, or that was not kept."""
        if name in self._found:
            return self._found[name]
        if name in self._names:
            raise ConfigError(f"the activation {name} was not kept: keep holds {', '.join(self._found) or 'nothing'}")
        raise ConfigError(f"there is no activation {name}{did_you_mean(name, self._names)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        """A line an activation: its name and shape; those of all layers of a kind that have the same in one."""
        lines: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for name, found in self.items():
            kind, dot, layer = name.partition(".")
            lines.setdefault((kind + dot, tuple(found.shape)), []).append(layer)
        width = max((len(f"{kind}{own[0]} .. {own[-1]}") for (kind, _), own in lines.items()), default=0)
        told = [
            f"  {kind + (own[0] if len(own) < 2 else f'{own[0]} .. {own[-1]}'):<{width}}  {shape}"
            for (kind, shape), own in lines.items()
        ]
        return "\n".join([f"{len(self)} activations, each by its name:", *told])

    @property
    def logits(self) -> Tensor:
        """(B, T, V)."""
        return self["logits"]

    def stack(self, kind: str) -> Tensor:
        """All layers of a kind in one: `stack("pattern")` is (L, B, H, T, T), and of `stream` there are L + 1."""
        return torch.stack([self[name] for name in resolve([kind], self._names)])


def activation_names(config: GPTConfig) -> list[str]:
    """The names of all activations, in the order in which they are computed."""
    names = []
    for layer in range(config.n_layer):
        names += [f"stream.{layer}", *(f"{kind}.{layer}" for kind in LAYER_KINDS)]
    return [*names, f"stream.{config.n_layer}", "final", "logits"]


def trace(
    model: GPT, tokens: Tensor, *, edits: Mapping[str, Edit] | None = None, keep: Collection[str] | None = None
) -> Trace:
    """Run `model` on tokens (B, T) int64 and keep its activations: those of `LAYER_KINDS` and `OTHER_KINDS`.

    `edits` go by name (`heads.2`) or by kind (`heads`: those of every layer); what an edit gives is kept, and is what
    the model computes with from there on. `keep` takes names or kinds and spares the memory of the others.

    Without edits the logits are those of `model(tokens)` to the last bit, whatever the kernel. A fused kernel holds no
    pattern: it is worked out beside it, from the same queries and keys. Only where a pattern is edited does the layer
    sum its values by the written-out path, which differs by rounding. The pass is in the mode that the model is in
    (train or eval) and under the caller's `no_grad`. Raises ConfigError for unknown names and for an edit that gives
    another shape, and what `model(tokens)` raises.
    """
    names = activation_names(model.config)
    wanted = resolve(names if keep is None else keep, names)
    with _watching(model, edits or {}, wanted) as found:
        model(tokens)
    return Trace({name: found[name] for name in wanted}, names)


@contextlib.contextmanager
def edited(model: GPT, edits: Mapping[str, Edit]) -> Iterator[GPT]:
    """Let `edits`, as in `trace`, hold for all that the model does inside the block: its loss, an evaluation, sampling.

    With a cache, keys, values and patterns are those of all tokens so far. A function that torch.compile made of the
    model compiles anew. Raises ConfigError for unknown names, and for `logits`, which a loss makes piece by
    piece, (N, V).
    """
    if "logits" in edits:
        raise ConfigError("logits cannot be edited in all that the model does: only in a trace are they (B, T, V)")
    with _watching(model, edits, []):
        yield model


def resolve(asked: Collection[str], names: Collection[str]) -> list[str]:
    """The `names` that are asked for by name or by kind, in their own order. ConfigError for one that is neither."""
    kinds = {name.partition(".")[0] for name in names}
    for each in asked:
        if each not in kinds and each not in names:
            raise ConfigError(f"there is no activation {each}{did_you_mean(each, [*kinds, *names])}")
    return [name for name in names if name in asked or name.partition(".")[0] in asked]


class _Watcher:
    """What passes by: edits it, keeps it."""

    def __init__(self, edits: Mapping[str, Edit], wanted: Collection[str]) -> None:
        self.edits = edits
        self.wanted = wanted
        self.found: dict[str, Tensor] = {}

    def watches(self, *names: str) -> bool:
        """Whether anyone asked for one of them."""
        return any(name in self.edits or name in self.wanted for name in names)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        if name in self.edits:
            asked, x = x.shape, self.edits[name](x)
            if not isinstance(x, Tensor):
                raise ConfigError(f"the edit of {name} gave no tensor but {x!r}")
            if x.shape != asked:
                raise ConfigError(f"the edit of {name} gave the shape {tuple(x.shape)}, not {tuple(asked)}")
        if name in self.wanted:
            self.found[name] = x
        return x

    def input_hook(self, name: str, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """For `register_forward_pre_hook`."""
        return (self(name, args[0]), *args[1:])

    def output_hook(self, name: str, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        """For `register_forward_hook`."""
        return self(name, output)


@contextlib.contextmanager
def _watching(model: GPT, edits: Mapping[str, Edit], wanted: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Have all passes inside the block watched; gives what the newest pass left of `wanted`."""
    names = activation_names(model.config)
    by_name = {name: edit for asked, edit in edits.items() for name in resolve([asked], names)}
    watcher = _Watcher(by_name, wanted)
    with contextlib.ExitStack() as stack:
        for name, (module, is_input) in _places(model).items():
            if watcher.watches(name):
                hook = partial(watcher.input_hook if is_input else watcher.output_hook, name)
                register = module.register_forward_pre_hook if is_input else module.register_forward_hook
                stack.callback(register(hook).remove)
        for layer, block in enumerate(_blocks(model)):
            if watcher.watches(*(f"{kind}.{layer}" for kind in ("query", "key", "value", "pattern", "heads"))):
                stack.enter_context(_watched_attention(block.attention, layer, watcher))
        yield watcher.found


def _blocks(model: GPT) -> list[PreNormBlock]:
    """The layers, which a ModuleList knows as modules only."""
    return [cast(PreNormBlock, block) for block in model.blocks]


def _places(model: GPT) -> dict[str, tuple[nn.Module, bool]]:
    """The module that each activation goes into (True) or comes out of (False)."""
    places: dict[str, tuple[nn.Module, bool]] = {}
    for layer, block in enumerate(_blocks(model)):
        places[f"stream.{layer}"] = (block, True)
        places[f"attention.{layer}"] = (block.attention, False)
        places[f"hidden.{layer}"] = (block.feedforward.down, True)
        places[f"feedforward.{layer}"] = (block.feedforward, False)
    places[f"stream.{len(model.blocks)}"] = (model.final_norm, True)
    places["final"] = (model.final_norm, False)
    places["logits"] = (model.squash, False)
    return places


@contextlib.contextmanager
def _watched_attention(attention: Attention, layer: int, watcher: _Watcher) -> Iterator[None]:
    """Put a function in the place of the layer's attention function that calls it and shows what goes in and out."""
    attend = attention.attend
    gather = _attend_with_pattern(attend, f"pattern.{layer}", watcher)

    def attend_and_show(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> Tensor:
        q, k, v = watcher(f"query.{layer}", q), watcher(f"key.{layer}", k), watcher(f"value.{layer}", v)
        return watcher(f"heads.{layer}", gather(q, k, v, bias, dropout_p))

    attention.attend = attend_and_show
    try:
        yield
    finally:
        attention.attend = attend


def _attend_with_pattern(attend: AttentionFunction, name: str, watcher: _Watcher) -> AttentionFunction:
    """The attention function `attend` as far as nobody wants another pattern."""

    def beside(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> Tensor:
        watcher(name, attention_weights(q, k, bias))
        return attend(q, k, v, bias, dropout_p)

    def through(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout_p: float) -> Tensor:
        return weighted_values(watcher(name, attention_weights(q, k, bias)), v, dropout_p)

    if name in watcher.edits:
        return through
    return beside if name in watcher.wanted else attend
