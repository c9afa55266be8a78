"""The parser of `minigpt fit`: every setting as an option and as a key of the YAML, by jsonargparse."""

import warnings
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, set_parsing_settings

from minigpt.cli.keys import COMMAND_LINE, GROUPS
from minigpt.cli.messages import one_line
from minigpt.cli.yaml_files import NOT_SERIALIZABLE, register_with_jsonargparse
from minigpt.errors import ConfigError
from minigpt.training.config import TRAINER_DEFAULTS, TRAINER_OWNED

_MODE = "omegaconf+"  # resolves ${...} once, after all files and options are merged
SEED = 1337
SEED_HELP = "Seed of the weights, the order of the batches and the dropout."
_GROUP_HELP = {
    "run": "The run: its name, its folder, how often it validates, saves and logs",
    "model": "The transformer",
    "optim": "The optimizer and its learning rate",
    "data": "The text, its tokens, its batches",
}
_SKIPPED = {"model": {"vocab_size"}}


class _Parser(ArgumentParser):
    """jsonargparse's parser, whose errors are one line instead of a page of usage."""

    def dump(self, cfg: Any, **settings: Any) -> str:
        """Return the settings as YAML, for --print_config and config.yaml: without command-line options not given."""
        kept = cfg.clone()
        for name in COMMAND_LINE:
            if kept.get(name) is None:
                kept.pop(name, None)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f"(?s).*{NOT_SERIALIZABLE}")
            return str(super().dump(kept, **settings))

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        if not self.exit_on_error and ex is not None:
            raise ex
        raise ConfigError(one_line(message))


def build_parser(trainer: type | None = None) -> ArgumentParser:
    """Build the parser of `minigpt fit`.

    Without `trainer` the trainer's group is a plain mapping, and lightning is not imported. With Lightning's Trainer as
    `trainer` that group is checked too, and classes that it names by `class_path` can be built.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True, omegaconf_absolute_to_relative_paths=True)
    register_with_jsonargparse(_MODE)
    parser = _Parser(
        prog="minigpt fit",
        usage="minigpt fit --config FILE [--GROUP.KEY VALUE ...] [--ckpt_path last | RUN | FILE]\n"
        "       minigpt fit --resume RUN [--trust_code] [--GROUP.KEY VALUE ...]",
        description="Train a GPT. Every key of the YAML is an option too, and an option wins over the YAML. "
        "--resume RUN continues that run, in its folder and by its own config.yaml: RUN is its folder, its name under "
        "runs/, or its newest checkpoint; --trust_code imports components of your own from the copies that it keeps.",
        parser_mode=_MODE,
        exit_on_error=False,
        default_env=False,
    )
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        help="A YAML file, or the name of a shipped config; several are merged, the last one wins.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="last: continue the newest run of this experiment, in its folder; RUN or FILE: start a new run from its "
        "last checkpoint, or from that file.",
    )
    parser.add_argument("--seed_everything", type=int, default=SEED, help=SEED_HELP)
    for group, config in GROUPS.items():
        parser.add_class_arguments(config, group, help=_GROUP_HELP[group], skip=_SKIPPED.get(group), instantiate=False)
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
