"""The settings of a run, of its data and of the trainer, checked without an import of torch or lightning."""

import math
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal, get_args

from minigpt.data.options import PrepareOptions, SplitName
from minigpt.errors import ConfigError, did_you_mean
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig
from minigpt.system.components import check_choice, is_dotted
from minigpt.system.settings import refuse_without_effect
from minigpt.training.panels.names import parse_panels

DivergencePolicy = Literal["stop", "skip"]
EVALUATIONS = {"repetition": "minigpt.evaluate.repetition.repetition"}
"""The built-in evaluations: what `run.evaluations` may name without a dot."""
SAMPLE_TOKENS = 200
"""Length of the texts that a run samples while it trains, in tokens."""


def evaluation_label(name: str) -> str:
    """How curves name an evaluation: the last part of its dotted name."""
    return name.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run lives and how often it logs, validates and saves: in optimizer steps, whatever the accumulation."""

    name: str = "base"
    """Name of the run; its folder is ROOT/NAME, or NAME-2, NAME-3, ... where that is taken."""
    root: str = "runs"
    """Folder that holds the runs."""
    log_every: int = 10
    """Optimizer steps between two points of the training curves."""
    eval_every: int = 100
    """Optimizer steps between two validations; there is always one at the last step."""
    eval_batches: int = 10
    """Batches of the validation split that a validation reads: always the first ones."""
    save_every: int = 100
    """Optimizer steps between two checkpoints; there is always one at the last step."""
    keep: int = 3
    """Newest checkpoints to keep beside the best one (0: all)."""
    sample_every: int = 100
    """Optimizer steps between two sampled texts in TensorBoard (0: none)."""
    sample_prompt: str = "def "
    """Beginning of the sampled texts."""
    panels: tuple[str, ...] = ()
    """Panels to show in TensorBoard: attention, histograms, ratios, position, frequency, calibration, samples;
    NAME:STEPS gives one a report interval of its own."""
    panel_every: int = 100
    """Report interval of the other panels, in optimizer steps; there is always a report at the last step."""
    panel_heads: tuple[tuple[int, int], ...] = ()
    """Heads that the attention panel shows enlarged, each as [layer, head], counted from 0."""
    panel_sentence: str | None = None
    """Text whose attention and activations the panels show; null: the beginning of the validation split."""
    panel_temperatures: tuple[float, ...] = (0.5, 0.8, 1.1)
    """Temperatures of the samples panel, which continues sample_prompt."""
    evaluations: tuple[str, ...] = ()
    """Evaluations whose numbers become curves: repetition (of sampled texts), or your own as my_ideas.Rhymes."""
    evaluate_every: int = 0
    """Steps between two evaluations (0: one at each validation); there is always one at the last step."""
    module: str | None = None
    """A subclass of GPTModule of your own, as my_ideas.Distilled: another loss, or an extra step (null: GPTModule)."""
    compile: bool = False
    """Compile the model with torch.compile: slow to start, faster on a GPU."""
    init_from: str | None = None
    """Run or checkpoint whose weights and tokenizer a new run starts from; step, optimizer and data start afresh."""
    on_divergence: DivergencePolicy = "stop"
    """What to do when loss or gradient are not finite, or spike: stop the run, or skip the step."""
    spike_threshold: float | None = None
    """A loss this many standard deviations above the mean of the last 100 steps is a spike; null: no limit."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        if not self.name or self.name != PurePath(self.name).name or self.name in {".", ".."}:
            raise ConfigError(f"run.name={self.name!r} must be a plain folder name; the folder above it is run.root")
        if not self.name.isprintable():  # YAML, a terminal and a log would each make something else of it
            raise ConfigError(f"run.name={self.name!r} must hold no control characters")
        if not self.root:
            raise ConfigError("run.root='' must name the folder that holds the runs; . is the current one")
        for name in ("log_every", "eval_every", "eval_batches", "save_every", "panel_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"run.{name}={getattr(self, name)} must be at least 1")
        for name in ("keep", "sample_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"run.{name}={getattr(self, name)} must not be negative")
        self._check_panels()
        self._check_components()
        if self.on_divergence not in get_args(DivergencePolicy):
            choices = get_args(DivergencePolicy)
            near = did_you_mean(str(self.on_divergence), choices)
            raise ConfigError(f"run.on_divergence={self.on_divergence} must be one of {', '.join(choices)}{near}")
        if self.init_from is not None and not self.init_from:
            raise ConfigError("run.init_from='' must be a run or a checkpoint (null: none)")
        if self.spike_threshold is not None and not 0 < self.spike_threshold < math.inf:
            raise ConfigError(f"run.spike_threshold={self.spike_threshold} must be a finite number above 0 (null: off)")

    def _check_components(self) -> None:
        if self.module is not None and not is_dotted(self.module):
            raise ConfigError(f"run.module={self.module} must be a class of your own as my_file.Name (null: none)")
        for name in self.evaluations:
            check_choice("run.evaluations", name, EVALUATIONS)
        labels = list(map(evaluation_label, self.evaluations))
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise ConfigError(f"run.evaluations={list(self.evaluations)} has two whose curves would be eval/{twice}")
        if self.evaluate_every and not self.evaluations:
            raise ConfigError(f"run.evaluate_every={self.evaluate_every} has no effect without run.evaluations")

    def custom_names(self) -> dict[str, list[str]]:
        """The dotted names of components, by setting."""
        own = list(filter(is_dotted, self.evaluations))
        return {"run.module": [self.module] if self.module else [], "run.evaluations": own}

    def _check_panels(self) -> None:
        panels = parse_panels(self.panels, self.panel_every)
        heads = list(map(list, self.panel_heads))
        if any(number < 0 for pair in self.panel_heads for number in pair):
            raise ConfigError(f"run.panel_heads={heads} must count from 0: [layer, head]")
        twice = next((head for head in heads if heads.count(head) > 1), None)
        if twice is not None:
            raise ConfigError(f"run.panel_heads={heads} names the head {twice} twice")
        if heads and "attention" not in panels:
            raise ConfigError(f"run.panel_heads={heads} has no effect without attention in run.panels")
        if self.panel_sentence == "":
            raise ConfigError("run.panel_sentence='' must hold a text (null: the beginning of the validation split)")
        if not all(0 < temperature < math.inf for temperature in self.panel_temperatures):
            raise ConfigError(f"run.panel_temperatures={list(self.panel_temperatures)} must be finite and above 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The corpus, its tokenizer, its split and the batch size."""

    corpus: str = "python"
    """python (the standard library), shakespeare, a file, folder, glob, .jsonl or .parquet, a prepared folder, or a
    function of your own that yields texts, as my_ideas.documents."""
    tokenizer: str = "bpe"
    """byte, char, bpe (trained on the corpus), gpt2, or a tokenizer.json."""
    vocab_size: int = PrepareOptions.vocab_size
    """Tokens that a bpe tokenizer learns; the other tokenizers bring their own number."""
    vocab_multiple: int = 1
    """The model's vocabulary is the tokenizer's, padded up to a multiple of this: 64 is faster on a GPU."""
    batch_size: int = 32
    """Windows in a batch, those of all devices together."""
    val_fraction: float = PrepareOptions.val_fraction
    """Share of the text that is held out for validation."""
    split: SplitName = PrepareOptions.split
    """Hold out whole documents, or the end of the text (position); auto: documents where whole ones hit the share."""
    text_field: str = PrepareOptions.text_field
    """Field or column with the text in .jsonl and .parquet files."""
    unknown: bool = PrepareOptions.unknown
    """char only: keep one token for characters that the corpus lacks, instead of refusing them."""
    allow_lossy_tokenizer: bool = PrepareOptions.allow_lossy_tokenizer
    """Train with a tokenizer that does not give the text back, which is otherwise refused with what it loses."""
    num_workers: int = 0
    """Processes that prepare the text and then load batches; the batches are the same for any number."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        for name in ("batch_size", "vocab_multiple"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name}={getattr(self, name)} must be at least 1")
        for name in ("corpus", "tokenizer", "text_field"):
            if not getattr(self, name):
                raise ConfigError(f"data.{name}='' must not be empty")
        if self.num_workers < 0:
            raise ConfigError(f"data.num_workers={self.num_workers} must not be negative")
        refuse_without_effect(self, "data.", "vocab_size", "tokenizer", ("bpe",))
        refuse_without_effect(self, "data.", "unknown", "tokenizer", ("char",))
        self.prepare_options()  # checks what it is made of

    def prepare_options(self) -> PrepareOptions:
        """Return the options by which the corpus becomes shards."""
        return PrepareOptions(
            corpus=self.corpus,
            tokenizer=self.tokenizer,
            vocab_size=self.vocab_size,
            val_fraction=self.val_fraction,
            split=self.split,
            text_field=self.text_field,
            unknown=self.unknown,
            allow_lossy_tokenizer=self.allow_lossy_tokenizer,
            workers=max(1, self.num_workers),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a checkpoint keeps them."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: the settings of one YAML file, resolved and checked."""

    seed_everything: int
    run: RunConfig
    model: GPTConfig
    """With UNKNOWN_VOCAB_SIZE until there is a tokenizer: `replace(experiment.model, vocab_size=...)`."""
    optim: OptimConfig
    data: DataConfig
    trainer: dict[str, Any]
    """Arguments of Lightning's Trainer; objects where the YAML names a class and build_experiment read it."""
    yaml: str
    """The whole experiment as YAML, for the run's config.yaml."""

    def __post_init__(self) -> None:
        """Check what the groups cannot check themselves; raises ConfigError with the value and the rule."""
        if not 0 <= self.seed_everything < 2**32:
            raise ConfigError(f"seed_everything={self.seed_everything} must lie between 0 and 2^32 - 1")
        for name in ("max_steps", "accumulate_grad_batches"):
            value = self.trainer[name]
            if type(value) is not int:
                raise ConfigError(f"trainer.{name}={'null' if value is None else value} must be a whole number")
            if value < 1:
                raise ConfigError(f"trainer.{name}={value} must be at least 1")
        clip = self.trainer["gradient_clip_val"]
        if not isinstance(clip, int | float | None):
            raise ConfigError(f"trainer.gradient_clip_val={clip} must be a number (null: no clipping)")
        if clip is not None and not clip >= 0:
            raise ConfigError(f"trainer.gradient_clip_val={clip} must not be negative (null: no clipping)")

    def settings(self) -> dict[str, Any]:
        """Return all settings by group, as a config names them."""
        groups = {name: asdict(getattr(self, name)) for name in ("run", "model", "optim", "data")}
        del groups["model"]["vocab_size"]
        return {"seed_everything": self.seed_everything, **groups, "trainer": self.trainer}

    def custom_names(self) -> dict[str, list[str]]:
        """The dotted names of components, by setting: `model.position`, `run.evaluations`, ..."""
        from minigpt.data.corpus_function import is_function  # imports numpy

        groups = {"model": vars(self.model), "optim": vars(self.optim)}
        settings = {f"{group}.{key}": value for group, each in groups.items() for key, value in each.items()}
        named = {key: [value] for key, value in settings.items() if is_dotted(value)}
        if is_function(self.data.corpus):
            named["data.corpus"] = [self.data.corpus]
        return named | self.run.custom_names()


UNKNOWN_VOCAB_SIZE = 1
"""Stands in `Experiment.model` for the tokenizer's vocabulary, which no config says."""


TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": 1000,
    "accelerator": "auto",
    "devices": "auto",
    "precision": "32-true",
    "gradient_clip_val": 1.0,
    "accumulate_grad_batches": 1,
}
"""Where a run's Trainer differs from Lightning's own defaults, or where base.yaml wants the value to be seen."""

TRAINER_HELP: dict[str, str] = {
    "max_steps": "Optimizer steps of the run.",
    "accelerator": "cpu, gpu, mps and so on; auto: the GPU where there is one.",
    "devices": "How many, or a list of which; auto: all GPUs, or one CPU.",
    "precision": "bf16-mixed is faster on a GPU.",
    "gradient_clip_val": "Largest norm of the gradient, to which a longer one is shortened (null: no clipping).",
    "accumulate_grad_batches": "Batches whose gradients make one optimizer step.",
}

TRAINER_OWNED: dict[str, str] = {
    "max_epochs": "trainer.max_steps says how long a run is",
    "min_epochs": "a run is one endless epoch; trainer.max_steps says how long",
    "val_check_interval": "run.eval_every says how often to validate, in optimizer steps",
    "check_val_every_n_epoch": "run.eval_every says how often to validate, in optimizer steps",
    "limit_val_batches": "run.eval_batches says how many batches a validation reads",
    "limit_train_batches": "trainer.max_steps says how long a run is",
    "num_sanity_val_steps": "run.eval_every says how often to validate, in optimizer steps",
    "overfit_batches": "a small text in data.corpus does it",
    "fast_dev_run": "trainer.max_steps=2 does it, with checkpoints and curves",
    "log_every_n_steps": "run.log_every says how often to log, in optimizer steps",
    "enable_checkpointing": "run.save_every and run.keep say which checkpoints there are",
    "default_root_dir": "run.root and run.name say where a run lives",
    "use_distributed_sampler": "the batches are a function of the step and the rank already",
    "reload_dataloaders_every_n_epochs": "a run is one endless epoch",
}
"""Arguments of Lightning's Trainer that minigpt sets itself, each with what to use instead."""
