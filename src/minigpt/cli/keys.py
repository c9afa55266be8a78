"""Unknown names in a config or on the command line, found before anything heavy is imported, with the nearest right
one."""

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from minigpt.errors import ConfigError, did_you_mean, shown
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig
from minigpt.training.config import TRAINER_OWNED, DataConfig, RunConfig

GROUPS: dict[str, type] = {"run": RunConfig, "model": GPTConfig, "optim": OptimConfig, "data": DataConfig}

COMMAND_LINE = ("config", "ckpt_path", "help", "print_config")
_ELSEWHERE = {
    "model.vocab_size": "it is the tokenizer's: data.tokenizer, data.vocab_size and data.vocab_multiple set it",
    **{f"trainer.{name}": hint for name, hint in TRAINER_OWNED.items()},
}
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
    return [key for key in ["seed_everything", *ours, *trainer] if key not in _ELSEWHERE]


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
    """The files that `--config FILE` or `--config=FILE` name."""
    for position, word in enumerate(argv):
        if word == "--config" and position + 1 < len(argv):
            yield Path(argv[position + 1])
        elif word.startswith("--config="):
            yield Path(word.removeprefix("--config="))


def is_sweep_file(content: dict[str, Any]) -> bool:
    """Whether the mapping of a YAML file says what runs have in common, and not what one of them is."""
    return "base" in content and not {*GROUPS, "trainer"} & content.keys()


def load_yaml(path: Path, named: str = "--config ") -> dict[str, Any]:
    """The mapping in a YAML file; a file that is missing, broken or holds something else is a ConfigError with file
    and line. `named` is what stands before the file's name on the command line."""
    try:
        content = _UniqueKeys(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        near = near_path(path, path.parent.glob("*.yaml"))
        raise ConfigError(f"{named}{path}: there is no such file{near}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named}{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply to be read") from error
    except (ValueError, AttributeError, LookupError, ArithmeticError) as error:  # what is no date or number after all
        raise ConfigError(f"{path}: holds a value that cannot be read: {error}; a text goes in quotes") from error
    _check_extent(content, path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: holds {in_words(str(type(content)))}, and a config is a mapping of groups: model, data, ..."
        )
    return content


def near_path(path: Path, there: Iterable[Path]) -> str:
    """`, did you mean PATH?`, by the stems: a folder and a suffix that they share would make all of them alike."""
    stems = {found.stem: found for found in sorted(there)}
    near = difflib.get_close_matches(path.stem, stems, n=1)
    return f", did you mean {stems[near[0]]}?" if near else ""


class _UniqueKeys(yaml.SafeLoader):
    """YAML without Python objects, in which a key stands once, as the specification asks: the last one would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader; raises ConstructorError for a key that stands twice."""
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _check_extent(content: Any, path: Path) -> None:
    """Refuse what aliases blow up: a value inside itself, or inside so many others that reading them never ends."""
    waiting, n_values = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        n_values += 1
        if depth > _DEEPEST:
            raise ConfigError(f"{path}: is nested deeper than {_DEEPEST} levels, or holds itself")
        if n_values > _MOST_VALUES:
            raise ConfigError(f"{path}: holds more than {_MOST_VALUES:,} values")
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | set | tuple) else ()
        waiting += [(each, depth + 1) for each in inner]


_DEEPEST = 50
_MOST_VALUES = 100_000


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
    if head in _ELSEWHERE:
        raise ConfigError(f"{where}{head} is not set by hand: {_ELSEWHERE[head]}")
    if head in known:
        return
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = _OTHER_NAMES.get(leaf) or (same_leaf[0] if same_leaf else None)
    hint = f", did you mean {near}?" if near else did_you_mean(key, known)
    raise ConfigError(f"{where}unknown key {key}{hint}")


def in_words(kind: str) -> str:
    """A type, as jsonargparse writes it, as a reader of YAML knows it."""
    length = re.fullmatch(r"tuple with (\d+) elements?", kind)
    return f"a list of {length[1]} values" if length else TYPES.get(kind, kind)


TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'dict'>": "a mapping",
    "<class 'list'>": "a list",
    "<class 'tuple'>": "a list, as in [a, b]",
    "<class 'NoneType'>": "null",
}
"""A Python type in words."""
