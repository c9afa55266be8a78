"""Unknown names in a config or on the command line, found before anything heavy is imported, with the nearest right
one."""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from minigpt.cli.yaml_files import load_yaml
from minigpt.errors import ConfigError, did_you_mean, shown
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig
from minigpt.system.shipped_configs import find_config
from minigpt.training.config import TRAINER_OWNED, DataConfig, RunConfig

GROUPS: dict[str, type] = {"run": RunConfig, "model": GPTConfig, "optim": OptimConfig, "data": DataConfig}

COMMAND_LINE = ("config", "ckpt_path", "help", "print_config")
ELSEWHERE = {
    "model.vocab_size": "it is the tokenizer's: data.tokenizer, data.vocab_size and data.vocab_multiple set it",
    **{f"trainer.{name}": hint for name, hint in TRAINER_OWNED.items()},
}
"""Keys that a reader may expect and a config does not have, each with what to use instead."""

_OTHER_NAMES = {
    "learning_rate": "optim.lr",
    "max_lr": "optim.lr",
    "beta2": "optim.betas",
    "warmup_iters": "optim.warmup_steps",
    "max_iters": "trainer.max_steps",
    "epochs": "trainer.max_steps",
    "grad_clip": "trainer.gradient_clip_val",
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "device": "trainer.accelerator",
    "dtype": "trainer.precision",
    "max_seq_len": "model.block_size",
    "num_heads": "model.n_head",
    "num_layers": "model.n_layer",
    "d_model": "model.n_embd",
    "hidden_size": "model.n_embd",
    "d_ff": "model.n_ff",
    "dropout_prob": "model.dropout",
    "eval_interval": "run.eval_every",
    "eval_iters": "run.eval_batches",
    "save_every_n_steps": "run.save_every",
    "out_dir": "run.root",
    "dataset": "data.corpus",
    "seed": "seed_everything",
}
"""What other projects call it: only ever used to suggest the right name."""


def known_keys() -> list[str]:
    """Every key of a config, dotted: `model.n_head`, `trainer.max_steps`, `seed_everything`."""
    ours = [f"{group}.{field.name}" for group, config in GROUPS.items() for field in fields(config)]
    trainer = [f"trainer.{name}" for name in trainer_arguments()]
    return [key for key in ["seed_everything", *ours, *trainer] if key not in ELSEWHERE]


def trainer_arguments() -> list[str]:
    """The arguments of Lightning's Trainer, read off its source: importing it takes seconds."""
    package = importlib.util.find_spec("lightning")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            constructor = next(f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
            return [argument.arg for argument in (*constructor.args.args, *constructor.args.kwonlyargs)][1:]
    raise AssertionError(f"{source} has no class Trainer")


def check_names(argv: Sequence[str], also: Sequence[str] = ()) -> None:
    """Raise ConfigError for the first unknown name in `argv` or in a YAML file that it names with --config.

    `also` are further options of the command, which a misspelt name may have meant.
    """
    known = known_keys()
    for option in _options(argv):
        if option in GROUPS or option == "trainer":
            raise ConfigError(f"--{option} is a group of settings: give them one by one, as --{option}.NAME VALUE")
        if option not in COMMAND_LINE:
            _check(option, [*known, *also], where="")
    for path in config_files(argv):
        content = load_yaml(path)
        if is_sweep_file(content):
            raise ConfigError(
                f"{path}: is a sweep file, the config of no single run: minigpt sweep {path} trains its runs, and its "
                f"base={shown(content['base'])} is a config"
            )
        for key in _yaml_keys(content, path):
            _check(key, known, where=f"{path}: ")


def config_files(argv: Sequence[str]) -> Iterator[Path]:
    """Yield the files that `--config FILE` or `--config=FILE` name."""
    for position, word in enumerate(argv):
        if word == "--config" and position + 1 < len(argv):
            yield find_config(argv[position + 1])
        elif word.startswith("--config="):
            yield find_config(word.removeprefix("--config="))


def is_sweep_file(content: dict[str, Any]) -> bool:
    """Whether the mapping of a YAML file says what runs have in common, and not what one of them is."""
    return "base" in content and not {*GROUPS, "trainer"} & content.keys()


def _options(argv: Sequence[str]) -> Iterator[str]:
    for word in argv:
        if word.startswith("--"):
            yield word[2:].split("=", 1)[0].removesuffix("+")


def _yaml_keys(content: dict[Any, Any], path: Path) -> Iterator[str]:
    for group, values in content.items():
        if group not in GROUPS and group != "trainer":
            yield str(group)
        elif isinstance(values, dict):
            yield from (f"{group}.{name}" for name in values)
        else:
            told = "is empty: leave it out, or give it settings" if values is None else "must be a mapping of settings"
            raise ConfigError(f"{path}: {group}{'' if values is None else f'={shown(values)}'} {told}")


def _check(key: str, known: Sequence[str], where: str) -> None:
    """Only the first two parts of a key are ours; what follows belongs to a class that the config names."""
    head = ".".join(key.split(".")[:2])
    if head in ELSEWHERE:
        raise ConfigError(f"{where}{head} is not set by hand: {ELSEWHERE[head]}")
    if head in known:
        return
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = _OTHER_NAMES.get(leaf) or (same_leaf[0] if same_leaf else None)
    hint = f", did you mean {near}?" if near else did_you_mean(key, known)
    raise ConfigError(f"{where}unknown key {key}{hint}")
