"""Prefill and decode: which shapes, how many tokens, and no rates from the warm-up."""

import pytest

from minigpt.errors import ConfigError
from minigpt.lab.bench import decoding
from minigpt.lab.bench.decoding import CACHED, UNCACHED, Shape, decode, shapes
from minigpt.lab.bench.report import decode_report
from minigpt.lab.bench.setting import Setting


def test_shapes_fill_the_window() -> None:
    assert shapes(256, [1], None) == [
        Shape(batch_size=1, prompt=1, new=256),
        Shape(batch_size=1, prompt=128, new=129),
    ]
    assert shapes(1024, [2], [8]) == [Shape(batch_size=2, prompt=8, new=256)]


@pytest.mark.parametrize("prompt", [0, 16, 99])
def test_a_prompt_that_leaves_no_room(prompt: int) -> None:
    with pytest.raises(ConfigError, match=f"--contexts {prompt} must lie between 1 and 15"):
        shapes(16, [1], [prompt])


def test_rates_of_every_round(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = decoding.generate_tokens

    def noted(model: object, prompt: object, options: object, vocab: object) -> object:
        asked.append((options.use_cache, options.max_new_tokens))  # type: ignore[attr-defined]
        return real(model, prompt, options, vocab)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "generate_tokens", noted)
    shape = Shape(batch_size=2, prompt=3, new=12)
    decoded = decode(setting, shape, 2)
    assert asked == [(True, 8), (False, 8), (True, 12), (False, 12), (False, 12), (True, 12)]
    for rates in (decoded.prefill, decoded.decode):
        assert {name: len(values) for name, values in rates.items()} == {CACHED: 2, UNCACHED: 2}
    report = decode_report(setting, [decoded])
    assert report.rows[0][:3] == ("2", "3 tokens", "12 tokens")
    assert "times as fast as without" in report.verdict
