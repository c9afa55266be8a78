"""Maximal-update parametrisation: nothing changes at the base width, and no activation grows with the width."""

import itertools
import math
import statistics

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer, set_for_step, set_learning_rate
from minigpt.optim.config import OptimConfig
from minigpt.optim.groups import parameter_groups

WIDTHS = (32, 64, 128, 256)


def config_of(width: int, base: int | None, **settings) -> GPTConfig:
    """Heads of 16 channels, however many that makes."""
    small = {"vocab_size": 31, "block_size": 16, "n_layer": 2, "dropout": 0.0, "position": "rotary"}
    return GPTConfig(**small | settings, n_embd=width, n_head=width // 16, mup_base_width=base)


def test_at_its_base_width_a_model_is_the_usual_one_to_the_bit():
    tokens = torch.randint(31, (2, 16))
    results = []
    for base in (64, None):
        torch.manual_seed(0)
        model = GPT(config_of(64, base))
        optimizer = build_optimizer(model, OptimConfig())
        for _ in range(3):
            optimizer.zero_grad()
            model.loss(tokens, tokens).backward()
            optimizer.step()
        results.append(model.state_dict())
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("tied", [True, False])
def test_init_rates_and_decay_follow_the_width(tied):
    """The rows for Adam of table 8 of "Tensor Programs V"."""
    torch.manual_seed(0)
    model = GPT(config_of(256, 64, tie_embeddings=tied))
    stds = {name: float(weight.detach().std()) for name, weight in model.named_parameters() if weight.ndim == 2}
    assert stds["token_embedding.weight"] == pytest.approx(0.02, rel=0.05)
    assert stds.get("head.weight", 0.02) == pytest.approx(0.02, rel=0.05)
    assert stds["blocks.0.attention.qkv.weight"] == pytest.approx(0.02 / 2, rel=0.05)
    assert stds["blocks.0.feedforward.down.weight"] == pytest.approx(0.02 / 2 / math.sqrt(4), rel=0.05)
    hidden = torch.randn(3, 256)
    torch.testing.assert_close(model.logits(hidden), model.head(hidden) / 4)

    optimizer = build_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.3))
    optimizer.load_state_dict(build_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.2)).state_dict())
    set_learning_rate(optimizer, OptimConfig(lr=0.1), 0.04)
    settings = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name, weight in model.named_parameters()
        if any(weight is member for member in group["params"])
    }
    assert settings.keys() == dict(model.named_parameters()).keys()
    for name, (rate, decay) in settings.items():
        is_matrix = name.startswith("blocks.") and name.endswith("weight") and "norm" not in name
        expected = 0.3 if name.endswith("weight") and "norm" not in name else 0.0
        assert rate == pytest.approx(0.01 if is_matrix else 0.04), name
        assert decay == pytest.approx(4 * expected if is_matrix else expected), name


def test_a_layer_that_stays_as_wide_is_refused():
    with pytest.raises(ConfigError, match=r"mup_base_width=32 asks for layers that all grow .* leave n_ff=128"):
        config_of(64, 32, n_ff=128)


def test_muon_has_its_own_way_of_carrying_a_rate_over():
    model = GPT(config_of(256, 64))
    optimizer = build_optimizer(model, OptimConfig(name="muon"))
    assert all("lr_scale" not in group for group in optimizer.param_groups)
    members = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert len(members) == len({id(weight) for weight in members}) == len(list(model.parameters()))


def test_frozen_matrices_are_in_no_group():
    model = GPT(config_of(128, 64))
    model.blocks.requires_grad_(False)
    members = {id(weight) for group in parameter_groups(model, 0.1) for weight in group["params"]}
    assert members == {id(weight) for weight in model.parameters() if weight.requires_grad}


def changes_after(steps: int, width: int, base: int | None, optim: OptimConfig) -> dict[str, float]:
    """The coordinate check: by how much, in root mean square, the stream and the logits have changed after some steps,
    which is what an update of too high a rate would let grow."""
    torch.manual_seed(1)
    model = GPT(config_of(width, base))
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(31, (8, 17), generator=generator)
    optimizer = build_optimizer(model, optim)

    stream: list[torch.Tensor] = []
    model.final_norm.register_forward_pre_hook(lambda _, inputs: stream.append(inputs[0]))

    @torch.no_grad()
    def look() -> dict[str, torch.Tensor]:
        logits = model(tokens)
        return {"stream": stream[-1], "logits": logits}

    before = look()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
    return {name: float((after - before[name]).square().mean().sqrt()) for name, after in look().items()}


def growth(what: str, base: int | None, optim: OptimConfig) -> float:
    """Of the change, as a power of the width."""
    changes = [changes_after(3, width, base, optim)[what] for width in WIDTHS]
    return statistics.fmean(math.log2(wide / narrow) for narrow, wide in itertools.pairwise(changes))


@pytest.mark.parametrize("what", ["stream", "logits"])
def test_coordinate_check(what):
    """Yang et al. 2022, figure 5 and appendix D.1: flat in the width, where the usual parametrisation grows."""
    adam = OptimConfig(lr=0.01, weight_decay=0.0)
    assert abs(growth(what, 32, adam)) < 0.15
    assert growth(what, None, adam) > 0.25


@pytest.mark.parametrize("what", ["stream", "logits"])
def test_coordinate_check_of_muon(what):
    """Its update of a matrix has singular values of 1, whatever the width."""
    assert abs(growth(what, 32, OptimConfig(name="muon", lr=0.01, muon_lr=0.02, weight_decay=0.0))) < 0.2


def loss_at(rate: float, width: int, base: int | None) -> float:
    """Mean of the last 10 of 60 steps on sentences of a small grammar: 12 words of 2 to 4 letters, each followed by one
    of two others."""
    generator = torch.Generator().manual_seed(3)
    words = [torch.randint(31, (2 + number % 3,), generator=generator) for number in range(12)]
    word, stream = 0, []
    for turn in torch.randint(2, (3000,), generator=generator).tolist():
        stream.append(words[word])
        word = (5 * word + 1 + 4 * turn) % len(words)
    text = torch.cat(stream)
    torch.manual_seed(1)
    model = GPT(config_of(width, base))
    optim = OptimConfig(lr=rate, min_lr=0.0, warmup_steps=6, weight_decay=0.0)
    optimizer = build_optimizer(model, optim)
    losses = []
    for step in range(60):
        set_for_step(optimizer, optim, step, 60)
        starts = torch.randint(len(text) - 17, (8,), generator=generator)
        windows = torch.stack([text[start : start + 17] for start in starts])
        optimizer.zero_grad()
        loss = model.loss(windows[:, :-1], windows[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return statistics.fmean(losses[-10:])


def test_the_best_rate_of_a_narrow_model_is_that_of_a_wide_one():
    """Yang et al. 2022, figure 1, at three widths: as the width grows eightfold, the usual best rate falls fourfold or
    more, and this one stays within one step of two."""
    powers = range(-9, -3)
    best = {}
    for base in (32, None):
        losses = [[loss_at(2.0**power, width, base) for power in powers] for width in (32, 128, 256)]
        best[base] = [powers[row.index(min(row))] for row in losses]
    assert max(best[32]) - min(best[32]) <= 1, best
    assert best[None][0] - best[None][-1] >= 2, best
