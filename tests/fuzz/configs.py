"""Random configs: a small one that trains, with values, keys, groups and bytes of it spoilt, or none of them."""

from pathlib import Path
from typing import Any, get_args

import yaml
from hypothesis import strategies as st

from minigpt.cli.keys import GROUPS, known_keys
from minigpt.model.config import ActivationName, AttentionName, NormName, NormPlacement, PositionName
from minigpt.optim.config import OptimizerName, ScheduleName
from minigpt.training.panels.names import PanelName

# Whole numbers are small, or so large that a machine refuses them at once: what lies between, one would wait for.
whole = st.one_of(
    st.integers(-3, 12), st.sampled_from([2**40, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400])
)
numbers = st.one_of(whole, st.floats(), st.floats(-2, 2))
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "", " ", "null", "~", "true", "nan", "-inf", "1e400", "0x10", "1_000", "2024-13-45", "12:30:45", "a\nb",
            "\0", "\x1b[31m", "\u2028", "../x", "/dev/null/x", "~nobody/x", "x" * 300, "[", "{", "${", "$", "%s", "{0}",
            "${model.n_embd}", "${nope}", "${model.nope}", "${model}", "${.n_head}", "${oc.env:NOPE}", "${nope:1}",
            "${model.${nope}}", "${oc.decode:'['}", "!!python/object/apply:os.getpid []", "☃", "e\u0301",
        ]
    ),
)  # fmt: skip
odd = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts | whole, inner, max_size=3)),
    max_leaves=4,
)
KEYS = [tuple(key.split(".")) for key in known_keys() if "." in key]
"""(group, name) of every setting."""


def choices(kind: Any) -> st.SearchStrategy[str]:
    """One of a Literal's names."""
    return st.sampled_from(get_args(kind))


# What may well be valid, so that many of the configs train, each in its own way.
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "seed_everything": st.integers(0, 2**32 - 1),
    "run.name": st.text(min_size=1, max_size=8),
    "run.log_every": whole,
    "run.eval_every": whole,
    "run.eval_batches": whole,
    "run.save_every": whole,
    "run.keep": whole,
    "run.sample_every": st.integers(0, 2),
    "run.sample_prompt": st.text(max_size=8),
    "run.panels": st.lists(st.sampled_from([*get_args(PanelName), "ratios:2"]), max_size=3, unique=True),
    "run.panel_every": whole,
    "run.panel_heads": st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), max_size=2),
    "run.panel_sentence": st.none() | st.text(max_size=8),
    "run.panel_temperatures": st.lists(st.floats(0.01, 3), max_size=2),
    "model.block_size": st.integers(1, 16),
    "model.n_layer": st.integers(0, 3),
    "model.n_head": st.sampled_from([1, 2, 4]),
    "model.n_kv_head": st.sampled_from([None, 1, 2]),
    "model.n_embd": st.sampled_from([4, 8, 16]),
    "model.n_ff": st.none() | st.integers(1, 40),
    "model.dropout": st.floats(0, 0.9),
    "model.position": choices(PositionName),
    "model.norm": choices(NormName),
    "model.norm_placement": choices(NormPlacement),
    "model.activation": choices(ActivationName),
    "model.attention": choices(AttentionName),
    "model.qk_norm": st.booleans(),
    "model.bias": st.booleans(),
    "model.tie_embeddings": st.booleans(),
    "model.rotary_base": st.floats(1.5, 1e6),
    "optim.name": choices(OptimizerName),
    "optim.lr": st.floats(1e-8, 1),
    "optim.schedule": choices(ScheduleName),
    "optim.min_lr": st.floats(0, 1e-4),
    "optim.warmup_steps": whole,
    "optim.decay_fraction": st.floats(0.01, 1),
    "optim.betas": st.lists(st.floats(0, 0.999), min_size=2, max_size=2),
    "optim.eps": st.floats(1e-12, 1),
    "optim.weight_decay": st.floats(0, 1),
    "data.tokenizer": st.sampled_from(["byte", "char"]),
    "data.vocab_multiple": st.integers(1, 64),
    "data.batch_size": st.integers(1, 6),
    "data.val_fraction": st.floats(0.1, 0.9),
    "data.split": st.sampled_from(["auto", "documents", "position"]),
    "data.unknown": st.booleans(),
    "trainer.max_steps": st.integers(1, 2),
    "trainer.min_steps": st.integers(1, 3),
    "trainer.accumulate_grad_batches": st.integers(1, 2),
    "trainer.gradient_clip_val": st.floats(0, 10) | st.none(),
    "trainer.gradient_clip_algorithm": st.sampled_from(["norm", "value", None]),
    "trainer.precision": st.sampled_from(["32-true", "bf16-mixed", "64-true", "bf16-true", "16-true", "16-mixed", 32]),
    "trainer.logger": st.just(False),
    "trainer.deterministic": st.sampled_from([True, False, "warn"]),
    "trainer.detect_anomaly": st.booleans(),
    "trainer.benchmark": st.booleans(),
    "trainer.profiler": st.sampled_from([None, "simple", "nope"]),
    "trainer.max_time": st.sampled_from([None, "00:00:10:00", "x", {"minutes": 1}]),
}
# Settings whose odd but legal values would start processes, ask the network, compile, or train for years: only parsed.
NEVER_STARTED = {"data.num_workers", "run.compile", "trainer.devices", "trainer.num_nodes", "trainer.strategy"}
ENDLESS = {"trainer.max_steps", "trainer.accumulate_grad_batches", "trainer.min_steps"}


def small(root: Path, corpus: Path) -> dict[str, Any]:
    """A run of a moment."""
    return {
        "seed_everything": 1,
        "run": {"name": "a", "root": str(root), "eval_every": 2, "eval_batches": 1, "save_every": 2, "sample_every": 0},
        "model": {"block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8},
        "data": {"corpus": str(corpus), "tokenizer": "byte", "batch_size": 2},
        "trainer": {"max_steps": 1, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": False},
    }


def is_bounded(key: str, value: Any) -> bool:
    """Whether a run with this odd value ends soon, should the value turn out to be legal."""
    if key in NEVER_STARTED:
        return False
    if key in ENDLESS:
        return not isinstance(value, int | float) or not value >= 3  # nan is refused, and may be tried
    return key != "data.corpus" or value not in ("python", "shakespeare")


@st.composite
def configs(draw: st.DrawFn, base: dict[str, Any], *, started: bool) -> dict[Any, Any]:
    """`base` with up to six likely values and up to two mistakes. `started`: nothing that would not end soon."""
    config: dict[Any, Any] = {
        group: dict(values) if isinstance(values, dict) else values for group, values in base.items()
    }

    def put(key: str, value: Any) -> None:
        group, _, name = key.partition(".")
        if not name:
            config[group] = value
        elif isinstance(config.setdefault(group, {}), dict):
            config[group][name] = value

    for key in draw(st.lists(st.sampled_from(sorted(LIKELY)), max_size=6, unique=True)):
        put(key, draw(LIKELY[key]))
    kinds = st.sampled_from(["value", "value", "misspelt", "group", "moved", "dropped"])
    for mistake in draw(st.lists(kinds, max_size=2)):
        group, name = draw(st.sampled_from(KEYS))
        if mistake == "value":
            value = draw(odd)
            if not started or is_bounded(f"{group}.{name}", value):
                put(f"{group}.{name}", value)
        elif mistake == "misspelt":
            place = draw(st.integers(0, len(name)))
            put(f"{group}.{name[:place]}{draw(st.text(max_size=2))}{name[place + 1 :]}", draw(odd))
        elif mistake == "group":
            config[draw(st.sampled_from([*config, "modle", 3, None, True, "optim"]))] = draw(odd)
        elif mistake == "moved":
            put(f"{draw(st.sampled_from(sorted(GROUPS)))}.{name}", draw(odd) if not started else draw(texts))
        elif isinstance(config.get(group), dict) and group not in {"trainer", "run"} and name != "corpus":
            config[group].pop(name, None)
    return config


@st.composite
def spoilt_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes changed, a stretch left out, doubled or moved, or its end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(data)))
        last = min(len(data), first + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(["flip", "put", "drop", "double", "cut", "splice"]))
        if how == "flip" and first < len(data):
            data = data[:first] + bytes([data[first] ^ (1 << draw(st.integers(0, 7)))]) + data[first + 1 :]
        elif how == "put":
            data = data[:first] + draw(st.binary(max_size=8)) + data[first:]
        elif how == "drop":
            data = data[:first] + data[last:]
        elif how == "double":
            data = data[:last] + data[first:]
        elif how == "cut":
            data = data[:first]
        else:
            other = draw(st.integers(0, len(data)))
            data = data[:other] + data[first:last] + data[other + last - first :]
    return data


def as_yaml(config: dict[Any, Any]) -> bytes:
    """As a person would have typed it, but for the odd characters, which are escaped."""
    return yaml.safe_dump(config, sort_keys=False).encode("utf-8", errors="surrogatepass")
