"""From YAML files and options to a checked Experiment, by jsonargparse."""

import functools
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import (
    ActionConfigFile,
    ArgumentParser,
    Namespace,
    get_loader,
    set_dumper,
    set_loader,
    set_parsing_settings,
)
from omegaconf.errors import OmegaConfBaseException

from minigpt.cli.classes import (
    check_callbacks,
    check_no_class_as_text,
    explain,
    explain_build,
    import_from_working_folder,
)
from minigpt.cli.keys import COMMAND_LINE, GROUPS, TYPES, check_names, config_files, in_words, load_yaml
from minigpt.errors import ConfigError, did_you_mean
from minigpt.model.config import GPTConfig
from minigpt.training.config import TRAINER_DEFAULTS, TRAINER_OWNED, Experiment

_HELP = {
    "run": "The run: its name, its folder, how often it looks up",
    "model": "The transformer",
    "optim": "The optimizer and its learning rate",
    "data": "The text, its tokens, its batches",
}
_MODE = "omegaconf+"  # resolves ${...} once, after all files and options are merged
_SKIPPED = {"model": {"vocab_size"}}


class _Parser(ArgumentParser):
    """jsonargparse's parser, whose errors are one line instead of a page of usage."""

    def dump(self, cfg: Any, **settings: Any) -> str:
        """The settings as YAML, as --print_config shows them: without what no config holds, where it is not set."""
        kept = cfg.clone()
        for name in COMMAND_LINE:
            if kept.get(name) is None:
                kept.pop(name, None)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f"(?s).*{_NOT_WRITABLE}")
            return str(super().dump(kept, **settings))

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        if not self.exit_on_error and ex is not None:
            raise ex
        raise ConfigError(one_line(message))


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, for all that a config may hold."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A text that comes out again: YAML takes U+0085 and its like for ends of lines, and makes something else of them.

    Between double quotes they are written as escapes.
    """
    style = '"' if _BREAKS & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_BREAKS = set("\r\x85\u2028\u2029")
_Dumper.add_representer(str, _represent_text)
# Lightning has enums among its defaults (Timer's interval), which PyYAML cannot write by itself.
_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def dump(values: dict[str, Any]) -> str:
    """`values` as the YAML that they are read back from: an object that is no YAML was a default, and is left out."""
    return yaml.dump(_writable(values), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def _writable(value: Any) -> Any:
    if isinstance(value, list):
        return [_writable(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _writable(each)
        for key, each in value.items()
        if not (isinstance(each, str) and each.startswith(_NOT_WRITABLE))
    }


_NOT_WRITABLE = "Unable to serialize instance"
"""What jsonargparse puts in the place of an object: a torch.device among the defaults of a callback, say."""


@functools.cache
def _read_lone_bytes() -> None:
    """Let jsonargparse read what `dump` writes of a path with a lone byte, `"\\udcff"`: libyaml takes no such escape.

    It is read as a character that no text has, and made what it was.
    """
    load = get_loader(_MODE)

    def read(text: str) -> Any:
        if not _HALF_PAIR.search(text):
            return load(text)
        return _restored(load(_HALF_PAIR.sub(lambda found: chr(int(found[1], 16) + _UNUSED), text)))

    set_loader(_MODE, read, exceptions=(yaml.YAMLError,), json_superset=True)


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restored(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_restored(each) for each in value]
    return value.translate(_HALF_PAIRS) if isinstance(value, str) else value


_HALF_PAIR = re.compile(r"\\u([dD][89a-fA-F][0-9a-fA-F]{2})")
_UNUSED = 0x10F000 - 0xD800
"""To a plane for private use."""
_HALF_PAIRS = {code + _UNUSED: code for code in range(0xD800, 0xE000)}


def build_parser(trainer: type | None = None) -> ArgumentParser:
    """The parser of `minigpt fit`.

    Without `trainer` the trainer's group is a plain mapping: all other groups are checked before lightning is imported.
    With Lightning's Trainer as `trainer` that group is checked too, and classes that it names by `class_path` can be
    built.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True, omegaconf_absolute_to_relative_paths=True)
    # jsonargparse 4.53 registers the reader of this mode at its first use, but asks for it before: for text in the
    # defaults.
    ArgumentParser(parser_mode=_MODE).parse_string("{}")
    _read_lone_bytes()
    set_dumper("yaml", dump)
    parser = _Parser(
        prog="minigpt fit",
        usage="minigpt fit --config FILE [--GROUP.KEY VALUE ...] [--ckpt_path last | RUN | FILE]\n"
        "       minigpt fit --resume RUN [--GROUP.KEY VALUE ...]",
        description="Train a GPT. Every key of the YAML is an option too, and an option wins over the YAML. "
        "--resume RUN goes on with that very run, in its folder and by its own config.yaml: RUN is its folder, its "
        "name under runs/, or its newest checkpoint.",
        parser_mode=_MODE,
        exit_on_error=False,
        default_env=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="A YAML file; several are merged, the last one wins.")
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="last: go on with the newest run of this experiment, in its folder; RUN or FILE: begin a new run from its "
        "last checkpoint, or from that one.",
    )
    parser.add_argument(
        "--seed_everything", type=int, default=1337, help="Seed of the weights, the batches and the dropout."
    )
    for group, config in GROUPS.items():
        parser.add_class_arguments(config, group, help=_HELP[group], skip=_SKIPPED.get(group), instantiate=False)
    if trainer is None:
        parser.add_argument(
            "--trainer",
            type=dict[str, Any],
            default=dict(TRAINER_DEFAULTS),
            help="Any argument of Lightning's Trainer, as --trainer.NAME VALUE.",
        )
    else:
        parser.add_class_arguments(trainer, "trainer", skip=set(TRAINER_OWNED), instantiate=False)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    return parser


def check(argv: Sequence[str]) -> None:
    """Raise ConfigError for what can be found wrong without lightning: names, types, choices, combinations."""
    check_names(argv)
    values = _parse(build_parser(), argv)
    _groups(values)


def resolve(argv: Sequence[str]) -> dict[str, Any]:
    """All settings by group, as plain values, checked as `check` does and beyond each single group.

    Of the trainer's, the numbers that a run is built on are checked; `check_trainer` looks at the others.
    """
    check_names(argv)
    values = _parse(build_parser(), argv)
    groups = _groups(values)
    trainer = {**TRAINER_DEFAULTS, **values["trainer"]}
    seed = values["seed_everything"]
    for name in ("max_steps", "accumulate_grad_batches"):
        if type(trainer[name]) is not int:
            raise ConfigError(f"trainer.{name}={trainer[name]} must be a whole number")
    if not isinstance(trainer["gradient_clip_val"], int | float | NoneType):
        raise ConfigError(
            f"trainer.gradient_clip_val={trainer['gradient_clip_val']} must be a number (null: no clipping)"
        )
    Experiment(seed_everything=seed, **groups, trainer=trainer, yaml="")
    plain = {name: vars(values[name]) for name in GROUPS}
    return {"seed_everything": seed, **plain, "trainer": trainer}


def check_trainer(argv: Sequence[str]) -> None:
    """Raise ConfigError for settings of the trainer that its constructor does not take. Imports lightning."""
    _parse_trainer(argv)


def parse(argv: Sequence[str]) -> tuple[Experiment, str | None]:
    """The checked experiment and `--ckpt_path`. Imports lightning."""
    parser, values = _parse_trainer(argv)
    groups = _groups(values)
    built = _build(parser, values)
    ckpt_path = values.pop("ckpt_path")
    values.pop("config", None)
    experiment = Experiment(
        seed_everything=values["seed_everything"],
        **groups,
        trainer=vars(built["trainer"]),
        yaml=parser.dump(values, skip_unset=False),
    )
    return experiment, ckpt_path


def parse_plain(argv: Sequence[str]) -> Experiment:
    """The checked experiment with the trainer's group as it is written: nothing is built, lightning is not imported."""
    check_names(argv)
    values = _parse(build_parser(), argv)
    groups = _groups(values)
    trainer = {**TRAINER_DEFAULTS, **values["trainer"]}
    for name in ("max_steps", "accumulate_grad_batches"):
        if type(trainer[name]) is not int:
            raise ConfigError(f"trainer.{name}={trainer[name]} must be a whole number")
    if not isinstance(trainer["gradient_clip_val"], int | float | None):
        raise ConfigError(f"trainer.gradient_clip_val={trainer['gradient_clip_val']} must be a number, or null")
    return Experiment(seed_everything=values["seed_everything"], **groups, trainer=trainer, yaml="")


def _parse_trainer(argv: Sequence[str]) -> tuple[ArgumentParser, Namespace]:
    """As `_parse`, with the trainer's settings as its constructor takes them. Imports lightning, and what is named."""
    from lightning.pytorch import Trainer

    import_from_working_folder(argv, [load_yaml(path).get("trainer") for path in config_files(argv)])
    parser = build_parser(Trainer)
    values = _parse(parser, argv)
    check_no_class_as_text(vars(values["trainer"]))
    check_callbacks(values["trainer"]["callbacks"])
    return parser, values


def _without_start(argv: Sequence[str]) -> Iterator[str]:
    """The words without --ckpt_path: where a run begins is no part of its config."""
    words = iter(argv)
    for word in words:
        if word == "--ckpt_path":
            next(words, None)
        elif not word.startswith("--ckpt_path="):
            yield word


def _without_empty(argv: Sequence[str]) -> Iterator[str]:
    """The words without config files that hold nothing, or comments alone: they change nothing."""
    words = iter(argv)
    for word in words:
        if word == "--config" and (path := next(words, None)) is not None:
            yield from ("--config", path) if load_yaml(Path(path)) else ()
        elif not word.startswith("--config=") or load_yaml(Path(word.removeprefix("--config="))):
            yield word


def _parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    try:
        words = list(_without_empty(argv))
        if any(word.startswith("--print_config") for word in words):
            words = list(_without_start(words))
        return parser.parse_args(words)
    except OmegaConfBaseException as error:
        raise ConfigError(f"broken interpolation: {_interpolation(error)}") from error
    except ConfigError:
        raise
    except Exception as error:  # argparse's and jsonargparse's errors have no common base
        raise ConfigError(explain(str(error), argv) or one_line(str(error))) from error


def _build(parser: ArgumentParser, values: Namespace) -> Namespace:
    """Build the classes that the config names (callbacks, loggers, strategies)."""
    try:
        return parser.instantiate(values)
    except Exception as error:  # a constructor of somebody else's may raise anything
        line, cause = explain_build(vars(values["trainer"]), error)
        raise ConfigError(one_line(line)) from cause


def _groups(values: Namespace) -> dict[str, Any]:
    """The groups as their dataclasses; each checks itself."""
    for group, config in GROUPS.items():
        _refuse_null(group, config, vars(values[group]))
        _refuse_interpolation(group, vars(values[group]))
    for name in ("max_steps", "accumulate_grad_batches"):
        if values["trainer"].get(name, 0) is None:  # one that is left out has its default
            raise ConfigError(f"trainer.{name}=null must be a whole number")
    if values["seed_everything"] is None:
        raise ConfigError("seed_everything=null must be a whole number")
    built: dict[str, Any] = {
        group: config(**vars(values[group])) for group, config in GROUPS.items() if group != "model"
    }
    # Any vocabulary will do for the check: the tokenizer's is not known yet.
    try:
        model = asdict(GPTConfig(vocab_size=256, **vars(values["model"])))
    except ConfigError as error:
        raise ConfigError(_with_model_prefix(str(error))) from error
    del model["vocab_size"]
    return {**built, "model": model}


def _with_model_prefix(message: str) -> str:
    """GPTConfig names its fields, as Python does: here they are keys, `model.n_head`.

    A name is one where a value follows, or where it is no English word (`n_ff`, not `bias`).
    """
    names = [field.name for field in fields(GPTConfig)]
    spelt = "|".join(f"{name}(?==)" if "_" not in name else rf"{name}\b" for name in names)
    return re.sub(rf"(?<![\w.'])(?:{spelt})", r"model.\g<0>", message)


def _refuse_null(group: str, config: type, values: dict[str, Any]) -> None:
    """Raise ConfigError for `NAME: null` where that means nothing: jsonargparse takes it for any type."""
    for name, kind in get_type_hints(config).items():
        if name in values and values[name] is None and NoneType not in get_args(kind):
            raise ConfigError(f"{group}.{name}=null must be {TYPES.get(str(kind), 'given')}, or left out")


def _refuse_interpolation(group: str, values: dict[str, Any]) -> None:
    """Raise ConfigError for a text in which `${` is left after all is resolved: config.yaml could not say it.

    Escaped as omegaconf wants it, jsonargparse 4.53 still takes it for one when the file is read.
    """
    for name, value in values.items():
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{group}.{name}={value!r} must not hold ${{, with which an interpolation begins")


def _interpolation(error: OmegaConfBaseException) -> str:
    text = str(error).splitlines()[0]
    return f"{error.full_key}: {text}" if getattr(error, "full_key", None) else text


def one_line(message: str) -> str:
    """An error of jsonargparse in one line and in the words of a config."""
    text = re.sub(r"\s+", " ", message).strip()
    key = re.match(r'(?:Parser key|Key|Option) "([\w.]+)": ', text)
    value = re.search(r"(?:Got value|Given value): (.*)$", text)
    kinds = list(dict.fromkeys(re.findall(r"Expected an? (.+?)(?=\. Got value| - Expected| Given value|$)", text)))
    if not (key and value and kinds):
        config = re.match(r"unrecognized arguments: (\S+\.ya?ml)\b", text)
        hint = f", did you mean --config {config[1]}?" if config else ""
        return text.replace("unrecognized arguments:", "unexpected") + hint
    literal = re.search(r"Literal\[(.*?)\]", " ".join(kinds))
    if literal:
        choices = re.findall(r"'([^']*)'", literal[1])
        if key[1] == "trainer.precision":  # Lightning has more, and numbers
            from minigpt.system.precision import PRECISIONS

            choices = list(PRECISIONS)
        return f"{key[1]}={value[1]} must be one of {', '.join(choices)}{did_you_mean(value[1], choices)}"
    if kinds == ["<class 'tuple'>"] and value[1].startswith("["):
        return (
            f"{key[1]}={value[1]} cannot be read as a list, as in [a, b]: a bracket, a comma or a colon is out of place"
        )
    return f"{key[1]}={value[1]} must be {' or '.join(in_words(kind) for kind in kinds)}"
