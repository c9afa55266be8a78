"""Refuse a model or a batch larger than this machine's memory before anything is built: torch would fail late."""

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import INDEX_BYTES, parameter_count
from minigpt.system.limits import machine_bytes
from minigpt.system.units import bytes_text


def check_memory(config: GPTConfig, batch_size: int) -> None:
    """Raise ConfigError for a model or a batch larger than this machine's memory.

    Counted is what must pass through it whatever the device and the precision: the weights in float32, in which they
    are drawn, and the tokens of one batch. A run needs several times that, which is not checked here.
    """
    memory = machine_bytes()
    n_parameters = parameter_count(config)
    if 4 * n_parameters > memory:
        raise ConfigError(
            f"the model has {n_parameters:,} parameters, {bytes_text(4 * n_parameters)} of float32, and this machine "
            f"{bytes_text(memory)} of memory (vocab_size={config.vocab_size}, block_size={config.block_size}, "
            f"n_layer={config.n_layer}, n_embd={config.n_embd}, n_ff={config.ff_width})"
        )
    tokens = batch_size * (config.block_size + 1)
    if INDEX_BYTES * tokens > memory:
        raise ConfigError(
            f"data.batch_size={batch_size} windows of model.block_size={config.block_size} tokens take "
            f"{bytes_text(INDEX_BYTES * tokens)}, and this machine has {bytes_text(memory)} of memory"
        )
