"""Every parameter stands in exactly one group, and settings reach the optimizer."""

from itertools import product

import pytest
import torch
from torch import nn

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer, set_for_step
from minigpt.optim.config import OptimConfig
from minigpt.optim.groups import parameter_groups


@pytest.mark.parametrize(
    ("tied", "bias", "norm", "position"),
    list(product([True, False], [True, False], ["layernorm", "rmsnorm"], ["learned", "rotary"])),
)
def test_groups_cover_every_parameter_once(tied: bool, bias: bool, norm: str, position: str) -> None:
    model = GPT(
        GPTConfig(
            vocab_size=11,
            n_layer=2,
            n_head=2,
            n_embd=8,
            bias=bias,
            tie_embeddings=tied,
            norm=norm,
            position=position,
            qk_norm=True,
        )
    )
    groups = parameter_groups(model, 0.1)
    members = [parameter for group in groups for parameter in group["params"]]
    assert len(members) == len({id(parameter) for parameter in members})
    assert {id(parameter) for parameter in members} == {id(parameter) for parameter in model.parameters()}
    decayed, kept = groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(names[id(p)].endswith("weight") and "norm" not in names[id(p)] for p in decayed["params"])
    assert all("norm" in names[id(p)] or names[id(p)].endswith("bias") for p in kept["params"])
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    assert [p for group in parameter_groups(model, 0.1) for p in group["params"]] == [model.bias]
    model.bias.requires_grad_(False)
    with pytest.raises(ConfigError, match="no trainable parameter"):
        parameter_groups(model, 0.1)


@pytest.mark.parametrize("fused", [True, False])
def test_update_is_adamw(fused: bool) -> None:
    """One step against the formula of Loshchilov and Hutter 2019, algorithm 2."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    config = OptimConfig(lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.5)
    optimizer = build_optimizer(model, config, fused=fused)
    gradient = torch.randn_like(before)
    model.weight.grad = gradient.clone()
    optimizer.step()
    # after one step the bias-corrected averages are the gradient and its square
    expected = before * (1 - 0.1 * 0.5) - 0.1 * gradient / (gradient.abs() + 1e-3)
    torch.testing.assert_close(model.weight.detach(), expected)


def test_restored_optimizer_takes_the_settings_of_the_command() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    old = build_optimizer(model, OptimConfig(weight_decay=0.1, betas=(0.9, 0.99)))
    new = build_optimizer(model, OptimConfig(weight_decay=0.3, betas=(0.5, 0.6), eps=1e-4))
    new.load_state_dict(old.state_dict())
    assert [group["weight_decay"] for group in new.param_groups] == [0.3, 0.0]
    assert all(group["betas"] == (0.5, 0.6) and group["eps"] == 1e-4 for group in new.param_groups)


def test_what_follows_the_step_is_set_in_every_group() -> None:
    config = OptimConfig(
        name="muon", lr=0.1, min_lr=0.0, warmup_steps=0, schedule="linear", muon_lr=0.2, muon_momentum_warmup=10
    )
    optimizer = build_optimizer(GPT(GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=8)), config)
    set_for_step(optimizer, config, 5, 11)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.05, 0.05])
    assert [group.get("momentum") for group in optimizer.param_groups] == [pytest.approx(0.9), None, None]
