"""The logit lens: what the model would say if it stopped at each layer."""

import torch
from torch import Tensor

from minigpt.interpret.tracing import Trace
from minigpt.model.gpt import GPT


def logit_lens(model: GPT, trace: Trace) -> Tensor:
    """Logits (L + 1, B, T, V) of the stream before each layer and after the last, read by the model's own last norm
    and output layer (nostalgebraist 2020, "interpreting GPT: the logit lens").

    The last of them are the model's own logits. `trace` is one of `model` that kept `stream`.
    """
    layers = [trace[f"stream.{layer}"] for layer in range(model.config.n_layer + 1)]
    # Layer by layer: products of another number of rows may round otherwise, and the last is to be the model's own.
    return torch.stack([model.logits(model.final_norm(stream)) for stream in layers])
