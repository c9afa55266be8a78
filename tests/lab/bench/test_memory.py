"""Memory of a step: what torch's profiler saw is what the closed forms say."""

from pathlib import Path

import pytest

from minigpt.lab.bench.contenders import our_loop
from minigpt.lab.bench.memory import highest_level, resident_bytes, step_bytes, working_bytes
from minigpt.lab.bench.setting import make_setting
from minigpt.model.sizes import activation_bytes, parameter_count

from .conftest import experiment_of


def test_highest_level() -> None:
    assert highest_level(iter([3, 4, -5, 2, -4])) == 7
    assert highest_level(iter([])) == 0


def test_weights_gradients_and_adamws_two_averages(corpus_file: Path) -> None:
    setting = make_setting(experiment_of(corpus_file))
    loop = our_loop(setting)
    loop.run(1)
    n_weights = parameter_count(setting.config)
    assert resident_bytes(loop) == pytest.approx(4 * 4 * n_weights, rel=0.01)


def test_a_step_holds_at_least_what_autograd_keeps(corpus_file: Path) -> None:
    """And not twice as much; the gradients are made anew within the step."""
    setting = make_setting(experiment_of(corpus_file, data__batch_size=32, model__block_size=32, model__n_layer=4))
    loop = our_loop(setting)
    loop.run(2)
    kept = activation_bytes(setting.config, 32)
    assert kept < working_bytes(loop) < 2 * kept
    assert step_bytes(loop) > kept + resident_bytes(loop) - 4 * parameter_count(setting.config)
