"""The checks of the sampling settings."""

import math
import subprocess
import sys

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_new_tokens": -1}, ["max_new_tokens=-1", "0 or more"]),
        ({"max_new_tokens": 1.5}, ["max_new_tokens=1.5", "whole number"]),
        ({"max_new_tokens": True}, ["max_new_tokens=True", "whole number"]),
        ({"temperature": 0}, ["temperature=0", "above 0", "--greedy"]),
        ({"temperature": -1.0}, ["temperature=-1.0", "above 0"]),
        ({"temperature": math.inf}, ["temperature=inf", "finite"]),
        ({"temperature": math.nan}, ["temperature=nan", "finite"]),
        ({"temperature": "hot"}, ["temperature='hot'"]),
        ({"top_k": 0}, ["top_k=0", "1 or more"]),
        ({"top_p": 0.0}, ["top_p=0.0", "above 0"]),
        ({"top_p": 1.1}, ["top_p=1.1", "at most 1"]),
        ({"min_p": 0}, ["min_p=0", "leave it out"]),
        ({"min_p": 2}, ["min_p=2", "at most 1"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"seed": 2**63}, [f"seed={2**63}", "below 2**63"]),
        ({"context": 0}, ["context=0", "1 or more"]),
        ({"greedy": 1}, ["greedy=1", "true or false"]),
        ({"use_cache": None}, ["use_cache=None", "true or false"]),
        ({"greedy": True, "temperature": 0.5}, ["greedy=True", "temperature=0.5"]),
        ({"greedy": True, "top_k": 3}, ["greedy=True", "top_k=3"]),
        ({"greedy": True, "top_p": 0.9}, ["greedy=True", "top_p=0.9"]),
        ({"greedy": True, "min_p": 0.1}, ["greedy=True", "min_p=0.1"]),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(settings, words):
    with pytest.raises(ConfigError) as caught:
        SamplingOptions(**settings)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_what_lies_on_the_border_is_accepted():
    SamplingOptions(max_new_tokens=0, temperature=1e-9, top_k=1, top_p=1, min_p=1.0, seed=0, context=1)
    SamplingOptions(greedy=True, seed=5)


def test_samples_have_consecutive_seeds_however_many_there_are():
    options = SamplingOptions(seed=7)
    assert [sample.seed for sample in options.for_samples(3)] == [7, 8, 9]
    assert options.for_samples(1) == options.for_samples(3)[:1]


def test_a_missing_seed_is_drawn_anew_and_not_from_torch():
    before = torch.get_rng_state()
    seeds = {SamplingOptions().first_seed() for _ in range(5)}
    assert len(seeds) == 5
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["max_new_tokens", "top_k", "seed", "context"])
def test_what_no_tensor_can_count_is_refused(name):
    with pytest.raises(ConfigError, match=rf"{name}=\(a number of 1329 bits\) must be below 2\*\*63"):
        SamplingOptions(**{name: 10**400})
    with pytest.raises(ConfigError, match="temperature="):
        SamplingOptions(temperature=10**400)


@pytest.mark.parametrize("n_samples", [0, -2, 1.0, True, 10_001, 10**12])
def test_an_impossible_number_of_samples_is_refused(n_samples):
    with pytest.raises(ConfigError, match="n_samples="):
        SamplingOptions().for_samples(n_samples)


def test_several_greedy_samples_are_refused():
    assert len(SamplingOptions(greedy=True).for_samples(1)) == 1
    with pytest.raises(ConfigError, match="n_samples=2"):
        SamplingOptions(greedy=True).for_samples(2)


def test_the_settings_need_no_torch():
    code = "import sys, minigpt.generate.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
