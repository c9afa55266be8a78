"""Optimizers and schedules of the user's own, by dotted name: what is refused, and what every optimizer gets."""

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from minigpt.errors import CheckpointError, ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer, check_optimizer, set_for_step, skips_on_device, state_numbers
from minigpt.optim.config import OptimConfig
from minigpt.optim.schedules import learning_rate

IDEAS = '''
import torch

class Sign(torch.optim.Optimizer):
    """Sign descent with a distance that it estimates, kept in the group as Prodigy's is."""

    def __init__(self, params, lr=0.1, weight_decay=0.0, growth=1.5):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "growth": growth, "distance": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            group["distance"] *= group["growth"]
            for weight in group["params"]:
                if weight.grad is not None:
                    total = self.state[weight].setdefault("total", torch.zeros_like(weight))
                    total.add_(weight.grad)
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(total.sign(), alpha=-group["lr"] * group["distance"])
        return loss

class Twice(Sign):
    def step(self, closure):
        closure()
        return super().step(closure)

class Deaf(Sign):
    def step(self, closure=None):
        return super().step()

class NoClosure(Sign):
    def step(self):
        return super().step()

class Broken(Sign):
    def step(self, closure=None):
        return self.nothing

class NoRate(torch.optim.Optimizer):
    def __init__(self, params, weight_decay=0.0):
        super().__init__(params, {})

def triangle(step, steps, settings):
    return 1 - abs(2 * step / steps - 1)

def spoilt(step, steps, settings):
    return 1 / step

def negative(step, steps, settings):
    return -1

def no_number(step, steps, settings):
    return "high"
'''


@pytest.fixture(autouse=True)
def _ideas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_optim.py").write_text(IDEAS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_optim", raising=False)


def custom(name: str, **settings: object) -> OptimConfig:
    return OptimConfig(name=name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("torch.optim.Adagrad", {"options": {"lr_deacy": 0.1}}, "options.lr_deacy: .* no such .* mean lr_decay"),
        ("torch.optim.Adagrad", {"options": {"lr_decay": -1}}, "optim.name=torch.optim.Adagrad: .*Invalid lr_decay"),
        ("torch.optim.LBFGS", {}, "optim.name=torch.optim.LBFGS.* weight_decay: set optim.weight_decay to 0"),
        ("torch.optim.LBFGS", {"weight_decay": 0.0}, "optim.name=torch.optim.LBFGS: .*parameter groups"),
        ("torch.optim.SparseAdam", {"weight_decay": 0.0}, "SparseAdam does not support dense gradients"),
        ("torch.optim.Rprop", {}, "optim.weight_decay=0.1 has no effect with optim.name=torch.optim.Rprop"),
        ("torch.optim.Muon", {}, "optim.name=torch.optim.Muon: .*2D parameters"),
        ("torch.optim.Adagrid", {}, "has no Adagrid, did you mean Adagrad"),
        ("torch.nn.Linear", {}, "optim.name=torch.nn.Linear must be a torch.optim.Optimizer"),
        ("own_optim.triangle", {}, "must be a torch.optim.Optimizer"),
        ("own_optim.Twice", {}, "own_optim.Twice needs a closure"),
        ("own_optim.Deaf", {}, "calls the closure .* 0 times a step, not once"),
        ("own_optim.NoClosure", {}, "own_optim.NoClosure takes no closure"),
        ("own_optim.Broken", {}, "own_optim.py, line .*: return self.nothing: AttributeError"),
        ("own_optim.NoRate", {}, "takes no lr, which optim.lr and optim.schedule set"),
        ("own_optim.Sign", {"schedule": "own_optim.spoilt"}, "own_optim.py, line .*: return 1 / .*: ZeroDivision"),
        ("adamw", {"schedule": "own_optim.negative"}, "a finite factor of optim.lr, 0 or more: step 0 gave -1"),
        ("adamw", {"schedule": "own_optim.no_number"}, "optim.schedule=own_optim.no_number: .*TypeError"),
        ("adamw", {"schedule": "own_optim.tirangle"}, "has no tirangle, did you mean triangle"),
    ],
)
def test_what_cannot_train_is_one_line(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_optimizer(custom(name, **settings), 200)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "torch.optim.Adagrad", "betas": (0.8, 0.9)}, "optim.betas=.* no effect .* go into optim.options"),
        ({"name": "torch.optim.Adagrad", "muon_lr": 0.1}, "optim.muon_lr=0.1 has no effect with optim.name=torch"),
        ({"options": {"lr_decay": 0.1}}, "optim.options=.* has no effect with optim.name=adamw"),
        ({"name": "torch.optim.SGD", "options": {"lr": 0.1}}, "optim.options.lr is not set by hand: optim.lr sets it"),
        ({"name": "torch.optim.SGD", "options": [1]}, r"optim.options=\[1\] must be a mapping"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimConfig(**settings)


def test_fused_kernels_are_refused_where_gradients_are_scaled() -> None:
    adam = custom("torch.optim.Adam", options={"fused": True})
    check_optimizer(adam, 10)
    with pytest.raises(ConfigError, match=r"optim.options.fused=true cannot be used under trainer.precision=16-mixed"):
        check_optimizer(adam, 10, fused=False)


def small_gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=8, dropout=0.0))


def train(model: GPT, optimizer: torch.optim.Optimizer, config: OptimConfig, steps: range) -> None:
    for step in steps:
        set_for_step(optimizer, config, step, 10)
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


OPTIMIZERS = {
    "adamw": {},
    "muon": {},
    "torch.optim.Adagrad": {"options": {"lr_decay": 0.01}},
    "torch.optim.SGD": {"options": {"momentum": 0.9, "nesterov": True}},
    "torch.optim.Adafactor": {},
    "torch.optim.NAdam": {},
    "torch.optim.Adam": {"options": {"fused": True, "amsgrad": True}},
    "own_optim.Sign": {"schedule": "own_optim.triangle"},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    config = custom(name, **OPTIMIZERS[name])
    check_optimizer(config, 10)
    model, again = small_gpt(), small_gpt()
    optimizer = build_optimizer(model, config)
    train(model, optimizer, config, range(3))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(saved["model"])
    resumed = build_optimizer(again, config)
    resumed.load_state_dict(saved["optimizer"])
    for each, its in ((model, optimizer), (again, resumed)):
        train(each, its, config, range(3, 6))
    for (key, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), key
    assert str(optimizer.state_dict()["param_groups"]) == str(resumed.state_dict()["param_groups"])


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "torch.optim.Adafactor"])
def test_decay_is_for_matrices_and_the_rate_follows_the_schedule(name: str) -> None:
    config = custom(name, **{"weight_decay": 0.3, "lr": 0.1} | OPTIMIZERS[name])
    model = small_gpt()
    optimizer = build_optimizer(model, config)
    set_for_step(optimizer, config, 3, 10)
    for group in optimizer.param_groups:
        assert group["weight_decay"] == (0.3 if group["params"][0].ndim >= 2 else 0.0)
        expected = learning_rate(3, 10, config) * (0.2 if group.get("use_muon") else 1.0)
        assert group["lr"] == pytest.approx(expected)


def test_schedule_of_the_users_own_is_a_factor_of_the_rate() -> None:
    config = OptimConfig(lr=0.5, schedule="own_optim.triangle", warmup_steps=7, min_lr=2.0)
    assert [learning_rate(step, 4, config) for step in range(5)] == [0.0, 0.25, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numbers_of_the_state_are_counted_without_memory(name: str) -> None:
    config, model = custom(name, **OPTIMIZERS[name]), small_gpt()
    optimizer = build_optimizer(model, config)
    train(model, optimizer, config, range(1))
    values = [value for kept in optimizer.state.values() for value in kept.values() if isinstance(value, Tensor)]
    expected = sum(value.numel() for value in values if value.ndim)
    with torch.device("meta"):
        without_memory = GPT(model.config)
    assert state_numbers(without_memory, config) == expected
    assert expected > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_another_shape_is_refused(name: str) -> None:
    """Fused kernels would read beyond its end."""
    config, model = custom(name, **OPTIMIZERS[name]), small_gpt()
    optimizer = build_optimizer(model, config)
    train(model, optimizer, config, range(1))
    good = optimizer.state_dict()
    kept = next(key for key, value in good["state"][0].items() if value.ndim)
    optimizer.load_state_dict(good)
    for bad in (torch.zeros(3), torch.zeros(1, 1).expand_as(good["state"][0][kept]), "x"):
        spoilt = {**good, "state": {**good["state"], 0: {**good["state"][0], kept: bad}}}
        with pytest.raises(CheckpointError, match=f"does not belong to its weights: '{kept}' of parameter 0"):
            optimizer.load_state_dict(spoilt)
    with pytest.raises(CheckpointError, match="what is kept of parameter 0"):
        optimizer.load_state_dict({**good, "state": {**good["state"], 0: {}}})
    with pytest.raises(CheckpointError, match="it has 1 groups, not"):
        optimizer.load_state_dict({**good, "param_groups": good["param_groups"][:1]})
    spoilt = [{**group, "params": group["params"][::-1]} for group in good["param_groups"]]
    with pytest.raises(CheckpointError, match="its groups hold other parameters"):
        optimizer.load_state_dict({**good, "param_groups": spoilt})


def test_an_optimizer_that_fails_cannot_be_planned() -> None:
    with pytest.raises(ConfigError, match=r"optim.name=own_optim.Broken: .*own_optim.py, line .*: return self.nothing"):
        state_numbers(small_gpt(), custom("own_optim.Broken"))


def test_who_leaves_a_step_out_on_the_device() -> None:
    model = small_gpt()
    skips = {name: skips_on_device(build_optimizer(model, custom(name, **OPTIMIZERS[name]))) for name in OPTIMIZERS}
    assert {name for name, skip in skips.items() if skip} == {"adamw", "muon", "torch.optim.Adam"}


def test_the_schedule_is_that_of_the_file_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another module of the same name, as of a run that keeps its own copy."""
    sys = __import__("sys")
    rate = functools.partial(learning_rate, 2, 4, OptimConfig(schedule="own_optim.triangle", lr=1.0))
    assert rate() == 1.0
    (tmp_path / "own_optim.py").write_text("def triangle(step, steps, settings):\n    return 0.125\n")
    monkeypatch.delitem(sys.modules, "own_optim")
    __import__("importlib").invalidate_caches()
    (tmp_path / "__pycache__").exists() and __import__("shutil").rmtree(tmp_path / "__pycache__")
    assert rate() == 0.125
