"""From YAML files and options to a checked Experiment, without lightning or with it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser, Namespace
from omegaconf.errors import OmegaConfBaseException

from minigpt.cli.class_errors import check_no_class_as_text, explain, explain_build
from minigpt.cli.classes import check_callbacks, import_from_working_folder
from minigpt.cli.keys import GROUPS, check_names, config_files
from minigpt.cli.messages import TYPES, one_line, with_model_prefix
from minigpt.cli.parser import build_parser
from minigpt.cli.yaml_files import load_yaml
from minigpt.errors import ConfigError
from minigpt.system.shipped_configs import find_config
from minigpt.training.config import TRAINER_DEFAULTS, UNKNOWN_VOCAB_SIZE, Experiment


def read_experiment(argv: Sequence[str]) -> Experiment:
    """Return the checked experiment with the trainer's group as it is written: lightning is not imported.

    Names, types, choices and combinations are checked, and of the trainer's settings the numbers that a run is built
    on; `check_trainer` checks the others. Raises ConfigError.
    """
    check_names(argv)
    return _experiment(_parse(build_parser(), argv))


def build_experiment(argv: Sequence[str]) -> tuple[Experiment, str | None]:
    """Return the checked experiment with the classes that it names built, and `--ckpt_path`. Imports lightning."""
    parser, values = _parse_trainer(argv)
    experiment = _experiment(values)
    built = _build(parser, values)
    ckpt_path = values.pop("ckpt_path")
    values.pop("config", None)
    return replace(experiment, trainer=vars(built["trainer"]), yaml=parser.dump(values, skip_unset=False)), ckpt_path


def check_trainer(argv: Sequence[str]) -> None:
    """Raise ConfigError for settings of the trainer that its constructor does not take. Imports lightning."""
    _parse_trainer(argv)


def _parse_trainer(argv: Sequence[str]) -> tuple[ArgumentParser, Namespace]:
    """As `_parse`, with the trainer's settings as its constructor takes them. Imports lightning, and what is named."""
    from lightning.pytorch import Trainer

    import_from_working_folder(argv, [load_yaml(path).get("trainer") for path in config_files(argv)])
    parser = build_parser(Trainer)
    values = _parse(parser, argv)
    check_no_class_as_text(vars(values["trainer"]))
    check_callbacks(values["trainer"]["callbacks"], values["run"]["evaluations"] or ())
    return parser, values


def _parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    try:
        words = list(_with_config_paths(argv))
        if any(word.startswith("--print_config") for word in words):
            words = list(_without_ckpt_path(words))
        return parser.parse_args(words)
    except OmegaConfBaseException as error:
        text = str(error).splitlines()[0]
        where = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise ConfigError(f"broken interpolation: {where}{text}") from error
    except ConfigError:
        raise
    except Exception as error:  # argparse's and jsonargparse's errors have no common base
        raise ConfigError(explain(str(error), argv) or one_line(str(error))) from error


def _without_ckpt_path(argv: Sequence[str]) -> Iterator[str]:
    """Yield the words without --ckpt_path: where a run begins is no part of its config."""
    words = iter(argv)
    for word in words:
        if word == "--ckpt_path":
            next(words, None)
        elif not word.startswith("--ckpt_path="):
            yield word


def _with_config_paths(argv: Sequence[str]) -> Iterator[str]:
    """Yield the words with the paths of config files, and without those that hold nothing: they change nothing."""
    words = iter(argv)
    for word in words:
        given = next(words, None) if word == "--config" else word.removeprefix("--config=")
        if given is None or word.partition("=")[0] != "--config":
            yield word
        elif load_yaml(path := find_config(given)):
            yield f"--config={path}"


def _build(parser: ArgumentParser, values: Namespace) -> Namespace:
    """Build the classes that the config names (callbacks, loggers, strategies)."""
    try:
        return parser.instantiate(values)
    except Exception as error:  # a constructor of somebody else's may raise anything
        line, cause = explain_build(vars(values["trainer"]), error)
        raise ConfigError(one_line(line)) from cause


def _experiment(values: Namespace) -> Experiment:
    """Build the groups' dataclasses from the parsed values; each checks itself."""
    if values["seed_everything"] is None:
        raise ConfigError("seed_everything=null must be a whole number")
    groups = {group: vars(values[group]) for group in GROUPS}
    for group, settings in groups.items():
        _refuse_null(group, settings)
        _refuse_interpolation(group, settings)
    built: dict[str, Any] = {name: config(**groups[name]) for name, config in GROUPS.items() if name != "model"}
    try:
        model = GROUPS["model"](vocab_size=UNKNOWN_VOCAB_SIZE, **groups["model"])
    except ConfigError as error:
        raise ConfigError(with_model_prefix(str(error))) from error
    trainer = values["trainer"] if isinstance(values["trainer"], dict) else vars(values["trainer"])
    return Experiment(
        seed_everything=values["seed_everything"], **built, model=model, trainer=TRAINER_DEFAULTS | trainer, yaml=""
    )


def _refuse_null(group: str, settings: dict[str, Any]) -> None:
    """Raise ConfigError for `NAME: null` where that means nothing: jsonargparse takes it for any type."""
    for name, kind in get_type_hints(GROUPS[group]).items():
        if name in settings and settings[name] is None and NoneType not in get_args(kind):
            raise ConfigError(f"{group}.{name}=null must be {TYPES.get(str(kind), 'given')}, or left out")


def _refuse_interpolation(group: str, settings: dict[str, Any]) -> None:
    """Raise ConfigError for a text in which `${` is left after all is resolved: config.yaml could not say it.

    Escaped as omegaconf wants it, jsonargparse 4.53 still takes it for one when the file is read.
    """
    for name, value in settings.items():
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{group}.{name}={value!r} must not hold ${{, with which an interpolation begins")
