"""The tables of names are bijections, onto our state dict and onto that of the real model."""

from dataclasses import fields

import pytest
import torch

from minigpt.errors import CheckpointError
from minigpt.interop.families import FAMILIES, read_config
from minigpt.interop.names import EMBEDDING, HEAD, NANOGPT_NAMES, renamed, rows_for, shapes_of, to_ours, to_theirs
from minigpt.model.config import GPTConfig

from .foreign import NANO_ARGS, REFERENCES, NanoGPT, gpt2, randomise


def real_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter once, under its first name."""
    return {name: value.detach() for name, value in model.named_parameters()}


def nano_case(bias: bool):
    model = NanoGPT(**NANO_ARGS | {"bias": bias})
    randomise(model)
    return NANOGPT_NAMES, GPTConfig(**NANO_ARGS | {"bias": bias}), real_state(model)


def hf_case(name: str):
    model = REFERENCES[name]()
    family, config, _ = read_config(model.config.to_dict(), "config.json")
    return family.names, config, real_state(model)


CASES = {name: lambda name=name: hf_case(name) for name in REFERENCES}
CASES |= {"nanogpt": lambda: nano_case(True), "nanogpt without biases": lambda: nano_case(False)}


@pytest.mark.parametrize("case", CASES)
def test_every_weight_of_either_side_has_one_partner(case: str) -> None:
    names, config, state = CASES[case]()
    rows = list(rows_for(names, config))
    theirs = [part for row in rows for part in row.theirs]
    assert len(theirs) == len(set(theirs))
    assert set(theirs) == set(state)
    ours = [row.ours for row in rows] + [HEAD] * config.tie_embeddings
    assert sorted(ours) == sorted(shapes_of(config))


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_is_the_same_bits(case: str) -> None:
    names, config, state = CASES[case]()
    ours = to_ours(names, config, state, "here")
    assert {name: value.shape for name, value in ours.items()} == shapes_of(config)
    back = to_theirs(names, config, ours)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert len({value.data_ptr() for value in back.values()}) == len(back)  # safetensors takes no shared memory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("transformer.h.1.ln_2.bias"), "lack 'transformer.h.1.ln_2.bias'"),
        (lambda state: state.update(extra=torch.zeros(1)), "have 'extra', which the config does not know"),
        (
            lambda state: state.update({"transformer.ln_f.bias": torch.zeros(3)}),
            r"has shape \(3,\), .* asks for \(32,\)",
        ),
        (
            lambda state: state.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(96, 32)}),
            r"'transformer.h.0.attn.c_attn.weight' has shape \(96, 32\), the config asks for \(32, 96\)",
        ),
        (lambda state: state.update({"transformer.ln_f.bias": torch.zeros(32, dtype=torch.int8)}), "torch.int8: quant"),
        (lambda state: state.update({"lm_head.weight": torch.zeros(41, 32)}), "although the config ties them"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(change, message: str) -> None:
    state = real_state(gpt2())
    change(state)
    config = read_config(gpt2().config.to_dict(), "")[1]
    with pytest.raises(CheckpointError, match=f"^here: .*{message}") as error:
        to_ours(FAMILIES["gpt2"].names, config, state, "here")
    assert "\n" not in str(error.value)


def test_a_config_of_absurd_depth_is_refused_before_it_is_built() -> None:
    config = GPTConfig(vocab_size=41, n_layer=10**9)
    with pytest.raises(CheckpointError, match="n_layer=1000000000, but the file holds only 1 weights"):
        to_ours(NANOGPT_NAMES, config, {"x": torch.zeros(1)}, "here")


@pytest.mark.parametrize("name", ["vocab_size", "block_size", "n_embd", "n_ff"])
@pytest.mark.parametrize("size", [2**40, 2**62, 2**80])
def test_sizes_that_no_weights_have_are_one_line(name: str, size: int) -> None:
    """Alone or together: two of 2^40 make a matrix whose bytes no 64 bits count."""
    config = GPTConfig(**{"vocab_size": 2**40, "n_layer": 1, "n_embd": 2**24} | {name: size})
    with pytest.raises(CheckpointError, match=r"^here: no weights can have these sizes: vocab_size=") as error:
        to_ours(NANOGPT_NAMES, config, {"x": torch.zeros(1)}, "here")
    assert "\n" not in str(error.value)


def test_a_tied_matrix_that_is_there_twice_is_taken_once() -> None:
    names, config, state = hf_case("gpt2")
    state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    ours = to_ours(names, config, state, "here")
    assert ours[HEAD] is ours[EMBEDDING]


def test_a_name_with_and_without_its_prefix_is_refused() -> None:
    state = {"wte.weight": torch.zeros(1), "transformer.wte.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"'transformer\.wte\.weight' twice"):
        renamed(state, "transformer.", "here")


# What a family carries over as it is, or what changes no logit.
CARRIED = {
    "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_ff", "dropout", "bias", "norm_eps", "tie_embeddings",
    "attention", "zero_init",
    "window_pattern",  # says nothing without sliding_window, which is refused
}  # fmt: skip


@pytest.mark.parametrize(("name", "more"), [("gpt2", {"rotary_base"}), ("llama", {"n_kv_head", "rotary_base"})])
def test_every_setting_of_ours_is_thought_of(name: str, more: set[str]) -> None:
    """A new field of GPTConfig must be carried over or refused, never forgotten: the logits would be others."""
    assert set(FAMILIES[name].expressible) | CARRIED | more == {field.name for field in fields(GPTConfig)}
