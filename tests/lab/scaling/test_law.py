"""Which law tells the loss of a run, and when none does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minigpt.data.identity import DataIdentity
from minigpt.lab.scaling.law import (
    PUBLISHED,
    FittedLaw,
    Forecast,
    Interval,
    Law,
    TextInTokens,
    compute_optimal,
    forecast,
)
from minigpt.lab.scaling.law_file import find_law, read_law, write_law

OURS = FittedLaw(
    law=Law(E=1.0, A=10.0, B=20.0, alpha=0.3, beta=0.4),
    name="the sweep small of 9 runs",
    corpus="python",
    tokenizer="byte",
    vocab_size=257,
    parameters=(1e4, 1e6),
    tokens=(1e5, 1e7),
    data=DataIdentity(train="t", val="v", fingerprint="f"),
    tokenizer_fingerprint="bytes",
)
TEXT = TextInTokens(corpus="python", tokenizer="byte", vocab_size=257, data=OURS.data, tokenizer_fingerprint="bytes")
OTHER = DataIdentity(train="t", val="w", fingerprint="g")


def told(fitted: FittedLaw | None, **changes: Any) -> Forecast:
    run: dict[str, Any] = {"n_parameters": 100_000, "n_tokens": 1e6, "epochs": 1.0}
    text = replace(TEXT, **{name: changes.pop(name) for name in list(changes) if hasattr(TEXT, name)})
    return forecast(fitted, **{**run, "text": text, **changes})


def test_our_own_law_of_the_same_text() -> None:
    found = told(OURS)
    assert found.loss == pytest.approx(1 + 10 / 100_000**0.3 + 20 / 1e6**0.4)
    assert found.text.endswith("nats a token by the sweep small of 9 runs")
    assert "4 times outside the range of the runs it was fitted to" in told(OURS, n_parameters=4_000_000).text
    assert "5 times outside" in told(OURS, n_tokens=2e4).text


def test_a_forecast_has_an_interval_of_law_and_noise() -> None:
    def interval(laws: list[Law], noise: float) -> Interval:
        found = told(replace(OURS, resampled=tuple(laws), noise=noise))
        assert found.loss == told(OURS).loss
        assert found.interval is not None
        low, high = found.interval.low, found.interval.high
        assert f"nats a token ({low:.3f} to {high:.3f}: nine runs in ten) by the sweep small" in found.text
        return found.interval

    loss = told(OURS).loss
    assert loss is not None
    noisy = interval([OURS.law], 0.02)  # a normal's nine in ten
    assert (noisy.low, noisy.high) == (pytest.approx(loss * 0.9677, rel=2e-3), pytest.approx(loss * 1.0334, rel=2e-3))
    laws = [replace(OURS.law, E=1 + step / 100) for step in range(-50, 51)]
    known = interval(laws, 0.0)
    assert (known.low, known.high) == (pytest.approx(loss - 0.45, abs=0.011), pytest.approx(loss + 0.45, abs=0.011))
    both = interval(laws, 0.1)
    assert both.low < known.low < known.high < both.high


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vocab_size": 1024, "tokenizer": "bpe"}, "this run for python in 1,024 tokens of bpe"),
        ({"corpus": "shakespeare", "data": OTHER}, "is for python in 257 tokens of byte, this run for shakespeare"),
        ({"data": OTHER}, "is for another text of the same name"),
        ({"tokenizer_fingerprint": "other"}, "is for another tokenizer of the same name"),
        ({"corpus": "shakespeare", "data": DataIdentity()}, "this run for shakespeare"),
        ({"epochs": 40.0}, "they hold for new tokens, and this run trains 40 epochs"),
    ],
)
def test_another_text_or_a_repeated_one_has_no_forecast(changes: dict[str, Any], reason: str) -> None:
    found = told(OURS, **changes)
    assert found.loss is None
    assert reason in found.text


def test_a_law_is_of_a_text_by_its_content_and_not_by_its_name() -> None:
    assert told(OURS, corpus="elsewhere/copy.txt", tokenizer="bytes.json").loss == told(OURS).loss
    old = replace(OURS, data=DataIdentity(), tokenizer_fingerprint="")
    for unknown in (told(old), told(OURS, data=DataIdentity(), tokenizer_fingerprint="")):
        assert unknown.loss == told(OURS).loss
        assert unknown.text.endswith("it is not known whether its text is the same, only that the names agree")


def test_the_published_law_is_for_large_vocabularies_and_named() -> None:
    assert told(None).loss is None
    assert "no published law applies: they hold for vocabularies of 16,000 to 128,000 tokens" in told(None).text
    large = told(None, vocab_size=50_257, tokenizer="gpt2", n_parameters=124_000_000, n_tokens=2.5e9)
    assert large.loss == pytest.approx(PUBLISHED.law.loss(124e6, 2.5e9))
    assert "Besiroglu et al. 2024" in large.text
    assert large.text.endswith("a rough guide without an interval")
    assert large.interval is None


def test_twenty_tokens_a_parameter() -> None:
    n, d = compute_optimal(6 * 70e9 * 1.4e12)  # Hoffmann et al. 2022: Chinchilla
    assert (n, d) == (pytest.approx(70e9), pytest.approx(1.4e12))


def test_a_law_comes_back_from_its_file_and_the_newest_of_this_text_is_found(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write_law(tmp_path / "a" / "scaling.json", OURS, {"residual": 0.01})
    assert read_law(tmp_path / "a" / "scaling.json") == OURS
    sure = replace(OURS, resampled=(replace(OURS.law, E=0.9), OURS.law), noise=0.02)
    write_law(tmp_path / "a" / "sure.json", sure)
    assert read_law(tmp_path / "a" / "sure.json") == sure
    (tmp_path / "b" / "scaling.json").write_text("{", encoding="utf-8")
    assert find_law(tmp_path, TEXT) == OURS
    assert find_law(tmp_path, replace(TEXT, tokenizer="bpe", vocab_size=1024)) is None
    assert find_law(tmp_path, replace(TEXT, data=OTHER)) is None
    assert find_law(tmp_path / "none", TEXT) is None
    (tmp_path / "c").mkdir()
    write_law(tmp_path / "c" / "scaling.json", replace(OURS, data=DataIdentity(), name="old"))
    assert find_law(tmp_path, TEXT) == OURS, "the newer one only has the same name"
    found = find_law(tmp_path, replace(TEXT, data=OTHER))
    assert found is not None
    assert found.name == "old"
