"""Record and edit the activations of a forward pass, each by its name.

The model has no code for it: hooks on its modules, and a wrapper round the attention function, are there for the length
of a pass only. A model that is not traced pays nothing, and torch.compile sees the plain model.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from minigpt.errors import ConfigError, did_you_mean
from minigpt.interpret.edits import Edit
from minigpt.model.attention import Attention, AttentionFunction, attention_weights, share_heads
from minigpt.model.gpt import GPT
from minigpt.system.components import is_dotted

LAYER_KINDS: dict[str, str] = {
    "query": "(B, H, T, D), normalised and rotated, as the scores are computed from it",
    "key": "(B, Hkv, T, D), normalised and rotated",
    "value": "(B, Hkv, T, D)",
    "pattern": "(B, H, T, T): attention weights before dropout; every row sums to 1",
    "heads": "(B, H, T, D): the output of each head, before the output projection",
    "attention": "(B, T, C): the output of the attention layer",
    "hidden": "(B, T, F): the input of the feed-forward layer's last matrix, after the activation and any gate",
    "feedforward": "(B, T, C): the output of the feed-forward layer",
}
"""Activations of each of L layers, in the order of computation: `query.0` .. `query.{L-1}`.

A block or a layer of the user's own has those of the parts that it shares with ours; an attention function of the
user's own has no `pattern`.
"""
OTHER_KINDS: dict[str, str] = {
    "stream": "(B, T, C): the residual stream that layer N reads; `stream.L` is the output of the last",
    "final": "(B, T, C): the stream after the last norm",
    "logits": "(B, T, V)",
}
"""`stream.0` .. `stream.L`, and two that exist once, without a number."""


class Trace(Mapping[str, Tensor]):
    """The activations of one forward pass by name: `trace["pattern.1"]`. They are the model's own tensors."""

    def __init__(self, found: Mapping[str, Tensor], names: Collection[str]) -> None:
        """`found` in the order of computation; `names` are all names that the model has."""
        self._found = dict(found)
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        """Return an activation; ConfigError for a name that the model does not have, or that was not kept."""
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
        """One line per activation with its name and shape; layers of equal shape share a line."""
        lines: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        for name, found in self.items():
            kind, dot, layer = name.partition(".")
            lines.setdefault((kind + dot, tuple(found.shape)), []).append(layer)
        width = max((len(f"{kind}{own[0]} .. {own[-1]}") for (kind, _), own in lines.items()), default=0)
        rows = [
            f"  {kind + (own[0] if len(own) < 2 else f'{own[0]} .. {own[-1]}'):<{width}}  {shape}"
            for (kind, shape), own in lines.items()
        ]
        return "\n".join([f"{len(self)} activations, each by its name:", *rows])

    @property
    def logits(self) -> Tensor:
        """(B, T, V)."""
        return self["logits"]

    def stack(self, kind: str) -> Tensor:
        """Stack a kind over all layers: `stack("pattern")` is (L, B, H, T, T), `stack("stream")` (L + 1, B, T, C)."""
        return torch.stack([self[name] for name in resolve([kind], self._names)])


def activation_names(model: GPT) -> list[str]:
    """Return the names of all activations of `model`, in the order of computation."""
    names = []
    for layer, block in enumerate(model.blocks):
        names += [f"stream.{layer}", *(f"{kind}.{layer}" for kind in LAYER_KINDS if kind in _kinds_of(block, model))]
    return [*names, f"stream.{len(model.blocks)}", "final", "logits"]


def _kinds_of(block: nn.Module, model: GPT) -> set[str]:
    """Return the kinds of LAYER_KINDS that `block` has."""
    kinds: set[str] = set()
    if isinstance(getattr(block, "attention", None), Attention):
        kinds |= {"query", "key", "value", "heads", "attention"}
        kinds |= set() if is_dotted(model.config.attention) else {"pattern"}
    feedforward = getattr(block, "feedforward", None)
    if isinstance(feedforward, nn.Module):
        kinds |= {"feedforward"}
        kinds |= {"hidden"} if isinstance(getattr(feedforward, "down", None), nn.Module) else set()
    return kinds


def trace(
    model: GPT, tokens: Tensor, *, edits: Mapping[str, Edit] | None = None, keep: Collection[str] | None = None
) -> Trace:
    """Run `model` on tokens (B, T) int64 and return its activations: those of `LAYER_KINDS` and `OTHER_KINDS`.

    `edits` go by name (`heads.2`) or by kind (`heads`: those of every layer); the result of an edit is recorded, and
    the model computes with it from there on. `keep` takes names or kinds and saves the memory of the others.

    Without edits the logits are those of `model(tokens)` to the last bit, whatever the kernel. A fused kernel has no
    pattern: it is computed beside it, from the same queries and keys. A layer whose pattern is edited is computed by
    the explicit path, which differs by rounding. The pass is in the mode that the model is in (train or eval) and under
    the caller's `no_grad`. Raises ConfigError for unknown names and for an edit that gives another shape, and what
    `model(tokens)` raises.
    """
    names = activation_names(model)
    wanted = resolve(names if keep is None else keep, names)
    with _recording(model, edits or {}, wanted) as found:
        model(tokens)
    return Trace({name: found[name] for name in wanted}, names)


@contextlib.contextmanager
def edited(model: GPT, edits: Mapping[str, Edit]) -> Iterator[GPT]:
    """Apply `edits`, as in `trace`, to all that the model does within the block: its loss, an evaluation, sampling.

    With a cache, keys, values and patterns are those of all tokens so far. A compiled function of the model compiles
    again. Raises ConfigError for unknown names, and for `logits`, which a loss computes in chunks (N, V).
    """
    if "logits" in edits:
        raise ConfigError("logits can only be edited in a trace: a loss computes them in chunks, not as (B, T, V)")
    with _recording(model, edits, []):
        yield model


def resolve(asked: Collection[str], names: Collection[str]) -> list[str]:
    """Return those of `names` that are asked for by name or kind, in order; ConfigError for one that is neither."""
    kinds = {name.partition(".")[0] for name in names}
    for each in asked:
        if each not in kinds and each not in names:
            raise ConfigError(f"there is no activation {each}{did_you_mean(each, [*kinds, *names])}")
    return [name for name in names if name in asked or name.partition(".")[0] in asked]


class _Recorder:
    """Edits and keeps activations."""

    def __init__(self, edits: Mapping[str, Edit], wanted: Collection[str]) -> None:
        self.edits = edits
        self.wanted = wanted
        self.found: dict[str, Tensor] = {}

    def needs(self, *names: str) -> bool:
        """Whether one of the names is to be edited or kept."""
        return any(name in self.edits or name in self.wanted for name in names)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        if name in self.edits:
            shape, x = x.shape, self.edits[name](x)
            if not isinstance(x, Tensor):
                raise ConfigError(f"the edit of {name} gave no tensor but {x!r}")
            if x.shape != shape:
                raise ConfigError(f"the edit of {name} gave the shape {tuple(x.shape)}, not {tuple(shape)}")
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
def _recording(model: GPT, edits: Mapping[str, Edit], wanted: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Hook all passes within the block; gives what the newest pass left of `wanted`."""
    names = activation_names(model)
    by_name = {name: edit for asked, edit in edits.items() for name in resolve([asked], names)}
    recorder = _Recorder(by_name, wanted)
    with contextlib.ExitStack() as stack:
        for name, (module, is_input) in _places(model, names).items():
            if recorder.needs(name):
                hook = partial(recorder.input_hook if is_input else recorder.output_hook, name)
                register = module.register_forward_pre_hook if is_input else module.register_forward_hook
                stack.callback(register(hook).remove)
        for layer, block in enumerate(model.blocks):
            if recorder.needs(*(f"{kind}.{layer}" for kind in ("query", "key", "value", "pattern", "heads"))):
                stack.enter_context(_recorded_attention(cast(Attention, block.attention), layer, recorder))
        yield recorder.found


def _places(model: GPT, names: Collection[str]) -> dict[str, tuple[nn.Module, bool]]:
    """Return the module that each activation is the input (True) or the output (False) of."""
    places: dict[str, tuple[str, bool]] = {"final": ("final_norm", False), "logits": ("squash", False)}
    for layer in range(len(model.blocks)):
        places[f"stream.{layer}"] = (f"blocks.{layer}", True)
        places[f"attention.{layer}"] = (f"blocks.{layer}.attention", False)
        places[f"hidden.{layer}"] = (f"blocks.{layer}.feedforward.down", True)
        places[f"feedforward.{layer}"] = (f"blocks.{layer}.feedforward", False)
    places[f"stream.{len(model.blocks)}"] = ("final_norm", True)
    return {name: (model.get_submodule(path), is_input) for name, (path, is_input) in places.items() if name in names}


@contextlib.contextmanager
def _recorded_attention(attention: Attention, layer: int, recorder: _Recorder) -> Iterator[None]:
    """Wrap the layer's attention function in one that records its inputs and its output."""
    attend = attention.attend
    gather = _attend_with_pattern(attend, f"pattern.{layer}", recorder)

    def record(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: nn.Dropout) -> Tensor:
        q, k, v = recorder(f"query.{layer}", q), recorder(f"key.{layer}", k), recorder(f"value.{layer}", v)
        return recorder(f"heads.{layer}", gather(q, k, v, bias, dropout))

    # Through `vars`: a function of the user's own that has parameters is a submodule, which this hides for a while.
    own = vars(attention).get("attend")
    vars(attention)["attend"] = record
    try:
        yield
    finally:
        if own is None:
            del vars(attention)["attend"]
        else:
            vars(attention)["attend"] = own


def _attend_with_pattern(attend: AttentionFunction, name: str, recorder: _Recorder) -> AttentionFunction:
    """Return `attend`, or a function that also records the attention weights or computes with edited ones."""

    def beside(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: nn.Dropout) -> Tensor:
        recorder(name, attention_weights(q, k, bias))
        return attend(q, k, v, bias, dropout)

    def through(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: nn.Dropout) -> Tensor:
        return dropout(recorder(name, attention_weights(q, k, bias))) @ share_heads(v, q.shape[1])

    if name in recorder.edits:
        return through
    return beside if name in recorder.wanted else attend
