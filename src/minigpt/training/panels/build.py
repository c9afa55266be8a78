"""From a run's settings to its panels."""

from minigpt.data.batches import ValidationBatches, Windows
from minigpt.data.prepared import Prepared
from minigpt.errors import ConfigError, DataError
from minigpt.generate.text import encode_prompt
from minigpt.model.config import GPTConfig
from minigpt.training.config import Experiment
from minigpt.training.panels.names import parse_panels
from minigpt.training.panels.panel import PanelSource
from minigpt.training.panels.table import Panels
from minigpt.training.position import TrainingClock


def build_panels(experiment: Experiment, config: GPTConfig, prepared: Prepared, clock: TrainingClock) -> Panels:
    """The panels of `run.panels`; ConfigError for a head that the model lacks, or a text that it cannot read."""
    run = experiment.run
    for layer, head in run.panel_heads:
        if not (layer < config.n_layer and head < config.n_head):
            raise ConfigError(
                f"run.panel_heads=[{layer}, {head}] is [layer, head], counted from 0: "
                f"the model has {config.n_layer} layers of {config.n_head} heads"
            )
    intervals = parse_panels(run.panels, run.panel_every)
    own = config.custom_names().get("model.attention")
    if own and "attention" in intervals:
        raise ConfigError(
            f"run.panels: attention cannot show the weights of model.attention={own}, which are not known"
        )
    texts = {"panel_sentence": run.panel_sentence or ""}
    if "samples" in intervals:
        texts["sample_prompt"] = run.sample_prompt
    for name, text in texts.items():
        try:
            encode_prompt(prepared.tokenizer, text)
        except DataError as error:
            raise ConfigError(f"run.{name}={text!r}: {error}; the panels need another one") from error
    windows = Windows(prepared.val.shards, config.block_size)
    batches = ValidationBatches(windows, experiment.data.batch_size, run.eval_batches)
    source = PanelSource(
        prepared=prepared,
        batches=batches,
        heads=run.panel_heads,
        sentence=run.panel_sentence,
        prompt=run.sample_prompt,
        temperatures=run.panel_temperatures,
    )
    return Panels(intervals, source, clock)
