"""Estimate memory, time, cost and loss of a run before it starts; every key of the config is an option too."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import OptionParser, argument, option
from minigpt.errors import ConfigError, DataError, did_you_mean
from minigpt.runs.ownership import is_run
from minigpt.runs.paths import CONFIG
from minigpt.system.output import as_json, console, echo
from minigpt.system.shipped_configs import shipped_configs

if TYPE_CHECKING:
    from rich.console import Console

    from minigpt.lab.plan.machine import Machine
    from minigpt.lab.plan.plan import Plan
    from minigpt.lab.plan.warnings import PlanWarning
    from minigpt.lab.plan.workload import Workload
    from minigpt.training.config import Experiment

_EPILOG = "Every key of a config is an option, as in minigpt fit: --model.n_layer 6, --trainer.precision bf16-mixed."
HERE = ("cpu", "cuda", "mps", "auto")
"""Names of this machine's own devices."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is planned, for which device."""

    config: str = argument("CONFIG")
    """YAML file, name of a shipped config, or folder of a run."""
    device: str | None = option(None, "NAME")
    """Device: h200, A100-80GB, rtx4090 and so on by the data sheet, or cpu, cuda, mps of this machine, timed (default:
    what trainer.accelerator finds here)."""
    devices: int | None = None
    """How many (default: trainer.devices)."""
    price: float | None = option(None, "PER_HOUR")
    """Price of one device for an hour, in any currency."""
    utilisation: float | None = option(None, "SHARE")
    """Share of the peak FLOP/s, 0 to 1 (default: measured here, 0.35 of a data sheet's)."""
    memory_gb: float | None = option(None, "GB")
    """Memory of one device, in place of what is known of it."""
    law: Path | None = option(None, "FILE")
    """A scaling.json that minigpt scaling wrote (default: the newest below run.root that is of this text)."""
    json: bool = False
    """Print all numbers as JSON."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        rules = {
            "devices": (self.devices is None or self.devices >= 1, "a whole number, 1 or more"),
            "price": (self.price is None or 0 <= self.price < float("inf"), "a number, 0 or more"),
            "utilisation": (self.utilisation is None or 0 < self.utilisation <= 1, "more than 0 and at most 1"),
            "memory_gb": (self.memory_gb is None or self.memory_gb > 0, "a number above 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ConfigError(f"--{name} {getattr(self, name)} must be {rule}")


def main(argv: Sequence[str]) -> int:
    """Check the command line, estimate and print; gives 0, whatever the plan warns of."""
    options, words = read(argv)
    plan, warnings = estimate(options, words)
    if options.json:
        content = asdict(plan) | {
            "total_bytes": plan.memory.total,
            "total_seconds": plan.duration.total,
            "tokens_per_second": plan.tokens_per_second,
            "utilisation": plan.utilisation,
            "cost": plan.cost,
            "warnings": [str(warning) for warning in warnings],
        }
        echo(as_json(content, indent=1))
    else:
        show_plan(plan, warnings, console())
    return 0


def estimate(options: Options, words: Sequence[str]) -> "tuple[Plan, list[PlanWarning]]":
    """Return the plan of the run that `minigpt fit` would train with `words`, and what speaks against it."""
    from minigpt.cli.classes import names_classes
    from minigpt.cli.experiment import check_trainer, read_experiment

    experiment = read_experiment(words)
    if names_classes(experiment.trainer):  # what fit would refuse; asking lightning takes seconds
        check_trainer(words)
    from minigpt.lab.plan.plan import make_plan
    from minigpt.lab.plan.speed import find_speed
    from minigpt.lab.plan.warnings import warnings_of
    from minigpt.lab.scaling.law_file import find_law, read_law

    machine = find_machine(experiment, options)
    workload = make_workload(experiment, machine.devices)
    root = Path(experiment.run.root)
    law = read_law(options.law) if options.law else find_law(root, workload.text_in_tokens)
    speed = find_speed(workload, machine, options.utilisation)
    plan = make_plan(workload, machine, speed, law=law, price_per_hour=options.price)
    return plan, warnings_of(plan, _free_bytes(root))


def show_plan(plan: "Plan", warnings: "Sequence[PlanWarning]", screen: "Console") -> None:
    """Print the plan as lines and a table of memory, then its warnings."""
    from minigpt.lab.plan.text import memory_table, plan_lines
    from minigpt.system.tables import say, show

    for label, fact in plan_lines(plan):
        say(screen, fact, label=f"{label:<11}")
    say(screen)
    show(screen, memory_table(plan))
    say(screen, "* as the config says")
    say(screen)
    for warning in warnings:
        say(screen, str(warning), label="warning: ")
    if not warnings:
        say(screen, "no warnings")


def read(argv: Sequence[str]) -> tuple[Options, list[str]]:
    """Return plan's own options, and the words for the parser of `minigpt fit`; raises ConfigError."""
    from minigpt.cli.keys import check_names

    parser = OptionParser("plan", __doc__, Options, _EPILOG)
    words = list(argv)
    if words and words[0].startswith("--") and not {"-h", "--help"} & set(words):
        raise ConfigError("plan begins with the config: minigpt plan base")
    options, rest = parser.parse_known_options(words)
    own = [name.removeprefix("--") for name in parser.option_names()]
    check_names(rest, also=own)
    words = ["--config", str(_config_file(Path(options.config))), *rest]
    check_names(words, also=own)
    return options, words


def _config_file(given: Path) -> Path:
    """Return the YAML file that `given` names, a shipped config, or the config of the run in that folder."""
    from minigpt.cli.yaml_files import load_yaml, near_path

    given = shipped_configs().get(str(given), given) if not given.exists() else given
    if given.is_dir() and not ((given / CONFIG).is_file() and is_run(given)):
        why = "that minigpt fit did not write" if (given / CONFIG).is_file() else f"without {CONFIG}"
        raise ConfigError(f"{given}: a folder {why}, so no run's: plan takes a run's, or a YAML file")
    if not given.exists() and given.suffix not in {".yaml", ".yml"}:
        near = near_path(given, (found.parent for found in given.parent.glob(f"*/{CONFIG}"))) or did_you_mean(
            str(given), shipped_configs()
        )
        raise ConfigError(f"{given}: there is no such run, and no such file{near}")
    path = given / CONFIG if given.is_dir() else given
    if not load_yaml(path, named="") and given.is_dir():
        raise ConfigError(f"{path} is empty: the settings of this run are lost")
    return path


def find_machine(experiment: "Experiment", options: Options) -> "Machine":
    """Return the machine that is asked for, or the one that the Trainer would use here."""
    from minigpt.lab.plan.machine import listed_machine, this_machine
    from minigpt.system.devices import find_device

    name = options.device
    if name is None:
        accelerator = str(experiment.trainer["accelerator"])
        name = {"gpu": "auto"}.get(accelerator, accelerator)
    if name in HERE:
        device = find_device(name)
        machine = this_machine(device, options.devices or _devices(experiment, device.type))
    else:
        machine = listed_machine(name, options.devices or _devices(experiment, None))
    return machine if options.memory_gb is None else replace(machine, bytes_per_device=options.memory_gb * 1e9)


def _devices(experiment: "Experiment", here: str | None) -> int:
    """Return `trainer.devices` x `trainer.num_nodes`; auto is all GPUs of this machine, and one of another."""
    wanted, nodes = experiment.trainer["devices"], experiment.trainer.get("num_nodes") or 1
    if type(nodes) is not int or nodes < 1:
        raise ConfigError(f"trainer.num_nodes={nodes} must be a whole number, 1 or more")
    if isinstance(wanted, list) and wanted:
        return len(wanted) * nodes
    if str(wanted).isdigit() and int(wanted) > 0:
        return int(wanted) * nodes
    if str(wanted) not in {"auto", "-1"}:
        raise ConfigError(f"trainer.devices={wanted} must be auto, or a whole number, 1 or more")
    if here == "cuda":
        import torch

        return torch.cuda.device_count() * nodes
    return nodes


def make_workload(experiment: "Experiment", devices: int) -> "Workload":
    """Return the workload of an experiment on so many devices; its corpus is looked up but not prepared."""
    from minigpt.data.batches import check_length
    from minigpt.data.token_estimate import look_ahead
    from minigpt.lab.plan.memory import strategy_name
    from minigpt.lab.plan.workload import Workload
    from minigpt.model.config import padded_vocabulary
    from minigpt.runs.checkpoint import find_checkpoint, read_checkpoint
    from minigpt.system.precision import check_precision
    from minigpt.training.config import SAMPLE_TOKENS

    run, data, trainer = experiment.run, experiment.data, experiment.trainer
    start = read_checkpoint(find_checkpoint(run.init_from)) if run.init_from else None
    text = look_ahead(data.prepare_options(), start.tokenizer if start else None)
    if text.train_tokens < 1:
        raise DataError(f"{data.corpus}: the text is too short: it leaves no token to train on")
    vocab_size = start.config.vocab_size if start else padded_vocabulary(text.vocab_size, data.vocab_multiple)
    config = replace(experiment.model, vocab_size=vocab_size)
    if text.is_exact:  # an estimate is warned of
        check_length(text.train_tokens, config.block_size, f"the training part of data.corpus={data.corpus}")
        check_length(text.val_tokens, config.block_size, f"the validation part of data.corpus={data.corpus}")
    return Workload(
        config=config,
        optim=experiment.optim,
        text=text,
        corpus=data.corpus,
        tokenizer=f"{start.tokenizer.kind} of {run.init_from}" if start else data.tokenizer,
        batch_size=data.batch_size,
        accumulate=trainer["accumulate_grad_batches"],
        max_steps=trainer["max_steps"],
        eval_every=run.eval_every,
        eval_batches=run.eval_batches,
        save_every=run.save_every,
        keep=run.keep,
        sample_every=run.sample_every,
        sample_tokens=SAMPLE_TOKENS,
        precision=check_precision(experiment.trainer["precision"]),
        strategy=strategy_name(trainer.get("strategy"), devices),
        devices=devices,
        compiled=run.compile,
    )


def _free_bytes(root: Path) -> float:
    """Return the free space on the disk of the runs."""
    folder = next((path for path in (root, *root.absolute().parents) if path.is_dir()), None)
    return float("inf") if folder is None else float(shutil.disk_usage(folder).free)
