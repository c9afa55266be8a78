"""Schedules: pure functions of the step with known values at the ends and in the middle."""

import math
from typing import get_args

import pytest

from minigpt.optim.config import OptimConfig, ScheduleName
from minigpt.optim.muon import muon_momentum
from minigpt.optim.schedules import SCHEDULES, learning_rate

STEPS, WARMUP = 101, 20


def config(schedule: ScheduleName) -> OptimConfig:
    floor = {} if schedule == "constant" else {"min_lr": 0.1}
    return OptimConfig(lr=1.0, schedule=schedule, warmup_steps=WARMUP, **floor)


def test_table_has_every_name() -> None:
    assert set(SCHEDULES) == set(get_args(ScheduleName))


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_warm_up_is_linear_and_never_zero(schedule: ScheduleName) -> None:
    rates = [learning_rate(step, STEPS, config(schedule)) for step in range(WARMUP)]
    assert rates == pytest.approx([(step + 1) / WARMUP for step in range(WARMUP)])


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [("constant", 1.0), ("linear", 0.55), ("cosine", 0.55), ("wsd", 1.0)],
)
def test_peak_middle_and_end(schedule: ScheduleName, middle: float) -> None:
    settings = config(schedule)
    end = 1.0 if schedule == "constant" else 0.1
    assert learning_rate(WARMUP, STEPS, settings) == pytest.approx(1.0)
    assert learning_rate(60, STEPS, settings) == pytest.approx(middle)  # half-way from 20 to 100
    assert learning_rate(STEPS - 1, STEPS, settings) == pytest.approx(end)
    assert learning_rate(STEPS + 50, STEPS, settings) == pytest.approx(end)


def test_cosine_quarter() -> None:
    expected = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))
    assert learning_rate(40, STEPS, config("cosine")) == pytest.approx(expected)


def test_wsd_decays_over_its_last_part() -> None:
    settings = OptimConfig(lr=1.0, min_lr=0.0, schedule="wsd", warmup_steps=0, decay_fraction=0.5)
    assert learning_rate(50, STEPS, settings) == pytest.approx(1.0)
    assert learning_rate(75, STEPS, settings) == pytest.approx(0.5)


def test_schedule_follows_a_new_horizon() -> None:
    """A resumed run with a larger max_steps is on the new curve at once: nothing is remembered."""
    settings = config("linear")
    assert learning_rate(60, 2 * STEPS, settings) > learning_rate(60, STEPS, settings)


def test_run_shorter_than_its_warm_up() -> None:
    assert learning_rate(4, 5, config("cosine")) == pytest.approx(0.25)


def test_the_momentum_of_muon_warms_up() -> None:
    settings = OptimConfig(name="muon", muon_momentum=0.95, muon_momentum_warmup=200, muon_momentum_start=0.75)
    found = [muon_momentum(step, settings) for step in (0, 50, 199, 200, 5000)]
    assert found == pytest.approx([0.75, 0.8, 0.949, 0.95, 0.95])
    assert muon_momentum(0, OptimConfig(name="muon", muon_momentum=0.9)) == 0.9
