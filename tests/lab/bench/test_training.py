"""The race: the Trainer hosts it, everyone has as many steps, and nothing is left behind."""

import gc
import tempfile
from pathlib import Path

import pytest

from minigpt.lab.bench.report import race_report
from minigpt.lab.bench.setting import Setting, make_setting
from minigpt.lab.bench.training import BARE, TRAINER, race
from minigpt.system.utilisation import utilisation

from .conftest import experiment_of


def test_a_race_against_transformers(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = race(setting, against="transformers", steps=3, n_rounds=2, warmup=2)
    assert [each.name for each in result.results] == [TRAINER, BARE, "transformers"]
    assert all(len(each.seconds) == 2 and min(each.seconds) > 0 for each in result.results)
    assert [each.n_bytes is None for each in result.results] == [True, False, False]
    assert not list(tmp_path.iterdir())  # no run's folder, here or among the temporary ones
    assert gc.isenabled()
    assert "callbacks" not in setting.experiment.trainer
    report = race_report(setting, result, 3)
    assert len(report.rows) == 3
    assert report.verdict.startswith("a step of minigpt takes ")
    assert "of the time of transformers; the Trainer's step takes" in report.verdict


def test_the_reported_share_is_that_of_the_rate(setting: Setting) -> None:
    result = race(setting, against=None, steps=2, n_rounds=1, warmup=1)
    report = race_report(setting, result, 2)
    bare = next(each for each in result.results if each.name == BARE)
    rate = setting.tokens_per_step / bare.seconds[0]
    share = 100 * utilisation(bare.flops_per_token, rate, result.peak)
    shown = float(next(row for row in report.rows if row[0] == BARE)[4].split()[0].removesuffix("%"))
    assert shown == pytest.approx(share, abs=0.06)


def test_random_tokens_will_do(tmp_path: Path) -> None:
    setting = make_setting(experiment_of(tmp_path / "missing.txt", data__tokenizer="char"))
    result = race(setting, against=None, steps=1, n_rounds=2, warmup=1)
    assert f"Note: {setting.note}" in race_report(setting, result, 1).notes
