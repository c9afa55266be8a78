"""Muon: against an SVD, against the update written out, every parameter once, state that resumes to the bit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim import muon as module
from minigpt.optim.build import build_optimizer
from minigpt.optim.config import OptimConfig
from minigpt.optim.muon import Muon, orthogonalise
from minigpt.optim.muon import groups as muon_groups

CONFIG = OptimConfig(name="muon", lr=0.01, muon_lr=0.03, muon_momentum=0.9, weight_decay=0.2, betas=(0.8, 0.9))


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The iteration in float32 whatever this processor can, so that it can be compared."""
    monkeypatch.setattr(module, "_working_dtype", lambda device_type: torch.float32)


def small_gpt(**settings: object) -> GPT:
    torch.manual_seed(0)
    small = {"vocab_size": 11, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 16, "dropout": 0.0}
    return GPT(GPTConfig(**small | settings))


def give_gradients(model: GPT, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 16, 64), (2, 64, 16), (1, 20, 33)])
def test_result_is_the_orthogonal_factor_but_for_its_singular_values(shape: tuple[int, ...]) -> None:
    """U^T X V is diagonal, and its diagonal is near 1 (U, V from torch's SVD)."""
    generator = torch.Generator().manual_seed(1)
    U, _, V = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    known = torch.linspace(1.0, 3.0, U.shape[-1], dtype=torch.float64).diag()
    core = U.mT @ orthogonalise(U @ known @ V) @ V.mT
    diagonal = core.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.65
    assert diagonal.max() < 1.21
    assert (core - torch.diag_embed(diagonal)).abs().max() < 1e-9


def test_both_ways_to_iterate_are_one() -> None:
    X = torch.randn(2, 8, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 10
    torch.testing.assert_close(module._iterate(X, 5), module._iterate_gram(X, 5), rtol=1e-10, atol=1e-12)
    expected = X[0]
    for _ in range(5):  # one by one, as the paper has it
        A = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * A + 2.0315 * A @ A) @ expected
    torch.testing.assert_close(module._iterate(X, 5)[0], expected, rtol=1e-10, atol=1e-12)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_bfloat16_is_near_enough() -> None:
    """What a processor with bfloat16 does: 0.012 off at most, where values go up to 0.234."""
    M = torch.randn(4, 64, 256, generator=torch.Generator().manual_seed(0))
    gap = (orthogonalise(M.bfloat16()).float() - orthogonalise(M)).abs().max()
    assert gap < 0.025


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(32, 128), (64, 64), (128, 32)])
def test_gradient_of_low_rank_stays_bounded(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    """As at the beginning of a training. Iterating on the Gram matrix in bfloat16 fails here, and the run with it."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, 4, generator=generator) for size in shape)
    result = orthogonalise((left @ right.T)[None].to(dtype))[0].float()
    assert torch.linalg.svdvals(result).max() < 1.3


def test_every_parameter_is_in_one_group_and_the_matrices_of_the_blocks_in_muons() -> None:
    for settings in ({}, {"activation": "swiglu", "tie_embeddings": False, "qk_norm": True, "n_layer": 0}):
        model = small_gpt(**settings)
        groups = muon_groups(model, CONFIG)
        members = [parameter for group in groups for parameter in group["params"]]
        assert len(members) == len(list(model.parameters()))
        assert {id(parameter) for parameter in members} == {id(parameter) for parameter in model.parameters()}
        chosen = {id(parameter) for group in groups if group["use_muon"] for parameter in group["params"]}
        for name, parameter in model.named_parameters():
            assert (id(parameter) in chosen) == (name.startswith("blocks.") and parameter.ndim == 2), name


def test_queries_keys_and_values_are_matrices_of_their_own() -> None:
    model = small_gpt()
    (group,) = [group for group in muon_groups(model, CONFIG) if group["use_muon"]]
    parts = dict(zip(map(id, group["params"]), group["parts"], strict=True))
    assert parts[id(model.blocks[0].attention.qkv.weight)] == (16, 8, 8)
    assert parts[id(model.blocks[0].feedforward.up.weight)] == (64,)
    assert all(sum(rows) == len(parameter) for parameter, rows in zip(group["params"], group["parts"], strict=True))


def reference_step(weight: Tensor, grad: Tensor, buffer: Tensor, rows: tuple[int, ...]) -> None:
    """Muon's update of one parameter, written out."""
    buffer.mul_(0.9).add_(0.1 * grad)
    direction = 0.1 * grad + 0.9 * buffer
    weight.mul_(1 - 0.03 * 0.2)
    for part, into in zip(direction.split(rows), weight.split(rows), strict=True):
        X = part / (part.norm() + 1e-7)
        transposed = X.shape[0] > X.shape[1]
        X = X.T if transposed else X
        for _ in range(5):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        into -= 0.03 * max(1.0, part.shape[0] / part.shape[1]) ** 0.5 * (X.T if transposed else X)


def test_update_is_the_one_written_out_and_adamw_for_the_rest() -> None:
    model, twin = small_gpt(), small_gpt()
    optimizer = build_optimizer(model, CONFIG)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    (group,) = [group for group in optimizer.param_groups if group["use_muon"]]
    rows = {names[id(p)]: parts for p, parts in zip(group["params"], group["parts"], strict=True)}
    weights = dict(twin.named_parameters())
    buffers = {name: torch.zeros_like(weights[name]) for name in rows}
    others = [parameter for name, parameter in weights.items() if name not in rows]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in others if p.ndim >= 2], "weight_decay": 0.2},
            {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.8, 0.9),
    )
    for seed in range(3):
        give_gradients(model, seed)
        give_gradients(twin, seed)
        optimizer.step()
        adamw.step()
        with torch.no_grad():
            for name, buffer in buffers.items():
                reference_step(weights[name], weights[name].grad, buffer, rows[name])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=1e-4, atol=1e-6, msg=name)


def test_state_goes_on_to_the_bit_and_loads_safely(tmp_path: Path) -> None:
    model = small_gpt()
    optimizer = build_optimizer(model, CONFIG)
    give_gradients(model, 0)
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again = small_gpt()
    again.load_state_dict(saved["model"])
    resumed = build_optimizer(again, CONFIG)
    resumed.load_state_dict(saved["optimizer"])
    for one, its in ((model, optimizer), (again, resumed)):
        give_gradients(one, 1)
        for group in its.param_groups:
            group["lr"] = 0.005  # a schedule must reach AdamW's part too, after a load as before
        its.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.state_dict()[name]), name
    assert len(resumed.state_dict()["state"]) == len(list(model.parameters()))


def test_parameter_without_a_gradient_is_left_alone() -> None:
    model = small_gpt()
    optimizer = build_optimizer(model, CONFIG)
    assert isinstance(optimizer, Muon)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim.muon_lr=0.1 has no effect with optim.name=adamw: .*choose muon"):
        OptimConfig(muon_lr=0.1)
    with pytest.raises(ConfigError, match=r"optim.name='mun' must be one of adamw, muon, .*, did you mean muon"):
        OptimConfig(name="mun")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"optim.muon_momentum=1.0 must lie in \[0, 1\)"):
        OptimConfig(name="muon", muon_momentum=1.0)


def test_found_inf_leaves_a_step_out_and_changes_no_other() -> None:
    """As torch's fused AdamW does by the same attribute: gradients without a flag, with two that say no, and with a
    third, bad one between them."""
    results = []
    for flags in ((None, None), (0.0, 0.0), (0.0, 1.0, 0.0)):
        model = small_gpt()
        optimizer = build_optimizer(model, CONFIG)
        good = iter(range(9))
        for flag in flags:
            if flag:
                for parameter in model.parameters():
                    parameter.grad = torch.full_like(parameter, float("nan"))
            else:
                give_gradients(model, next(good))
            optimizer.found_inf = None if flag is None else torch.tensor(flag)
            optimizer.step()
        state = optimizer.state_dict()["state"]
        results.append([*model.parameters(), *(value for each in state.values() for value in each.values())])
    for plain, watched, spared in zip(*results, strict=True):
        assert torch.equal(plain, watched)
        assert torch.equal(plain, spared)
