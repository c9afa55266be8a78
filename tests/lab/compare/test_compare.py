"""`compare`: groups, values at equal cost, verdicts in words, what cannot be compared, what is left out."""

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from lab.folders import write_run, write_sweep
from minigpt.cli.compare import show_comparison
from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import CheckpointError, ConfigError
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.groups import NEUTRAL_SETTINGS
from minigpt.lab.compare.labels import labels, stem
from minigpt.lab.compare.picture import draw_curves
from minigpt.lab.compare.report import write_report
from minigpt.lab.compare.result import as_plain
from minigpt.lab.compare.summaries import seconds_at
from minigpt.lab.compare.table import findings, interval_note, outcome_table, undecided_table
from minigpt.runs.records import read_run
from minigpt.training.config import RunConfig
from minigpt.training.folders import record_end

ROTARY = {"model.position": "rotary"}


def four(last: float) -> list[float]:
    return [last + 1.0, last + 0.5, last + 0.2, last]


@pytest.fixture
def seeds(tmp_path: Path) -> list[Path]:
    """Three seeds of learned and of rotary positions, clearly apart."""
    learned = [write_run(tmp_path / f"base-s{n}", four(2.0 + n / 100), seed=n) for n in (1, 2, 3)]
    rotary = [write_run(tmp_path / f"rot-s{n}", four(1.9 - n / 100), ROTARY, seed=n) for n in (1, 2, 3)]
    return learned + rotary


def test_verdict_in_words(seeds: list[Path]) -> None:
    found = compare(seeds)
    (verdict,) = found.verdicts
    assert (found.baseline, verdict.group, verdict.claim, verdict.method) == ("learned", "rotary", "better", "Welch")
    # by R: t.test(c(1.89, 1.88, 1.87), c(2.01, 2.02, 2.03)): t = -17.146, df = 4, 0.14 ± 2.7764 * 0.0081650
    assert verdict.text == "rotary is better than learned by 0.140 ± 0.023 nats (3 seeds, p < 0.001)"
    assert [group.seeds for group in found.groups] == [[1, 2, 3], [1, 2, 3]]
    assert found.groups[1].estimates["final_loss"].mean == pytest.approx(1.88)
    assert (found.left_out, found.notes) == ([], [])


def test_runs_of_older_configs_are_in_the_group_of_the_same_settings(tmp_path: Path) -> None:
    older = write_run(tmp_path / "a", four(2.0), seed=1)
    newer = write_run(tmp_path / "b", four(2.1), {"run.module": None, "optim.options": {}}, seed=2)
    other = write_run(tmp_path / "c", four(2.2), {"optim.options": {"lr_decay": 0.1}}, seed=3)
    assert [group.seeds for group in compare([older, newer, other]).groups] == [[1, 2], [3]]


def test_every_setting_of_a_run_is_thought_of() -> None:
    """One that changes no loss makes no group of its own; a new field of RunConfig must be put on one side."""
    matters = {"eval_every", "eval_batches", "compile", "init_from", "module", "on_divergence", "spike_threshold"}
    harmless = {key.removeprefix("run.") for key in NEUTRAL_SETTINGS if key.startswith("run.")}
    assert harmless | matters == {field.name for field in dataclasses.fields(RunConfig)}
    assert not harmless & matters


def test_panels_make_no_other_group(tmp_path: Path) -> None:
    write_run(tmp_path / "a", four(2.0), seed=1)
    write_run(tmp_path / "b", four(2.1), {"run.panels": ["attention"], "run.panel_every": 5}, seed=2)
    assert [group.seeds for group in compare([tmp_path]).groups] == [[1, 2]]


def test_baseline_may_be_chosen(seeds: list[Path]) -> None:
    for name in ("rotary", "rot-s2"):
        found = compare(seeds, baseline=name)
        assert found.baseline == "rotary"
        assert found.verdicts[0].text.startswith("learned is worse than rotary by 0.140 ± 0.023 nats")
    with pytest.raises(ConfigError, match=r"--baseline rotery: no group or run of that name, did you mean rotary\?"):
        compare(seeds, baseline="rotery")


def test_no_difference_can_be_claimed(tmp_path: Path) -> None:
    for n, (one, other) in enumerate([(2.0, 2.05), (2.1, 2.04), (1.95, 2.1)]):
        write_run(tmp_path / f"a{n}", four(one), seed=n)
        write_run(tmp_path / f"b{n}", four(other), ROTARY, seed=n)
    (verdict,) = compare([tmp_path]).verdicts
    assert verdict.claim == "none"
    assert verdict.text.startswith("no difference can be claimed between rotary and learned: +0.047 ± 0.1")


def test_one_model_is_compared_pair_by_pair(tmp_path: Path) -> None:
    """A seed shifts both runs: pairs see the difference, which Welch's test would not."""
    for n in (1, 2, 3):
        write_run(tmp_path / f"a{n}", four(2.0 + n / 10), seed=n)
        write_run(tmp_path / f"b{n}", four(2.05 + n / 10 + n / 1000), {"optim.lr": 0.01}, seed=n)
    (verdict,) = compare([tmp_path]).verdicts
    assert (verdict.method, verdict.claim) == ("paired", "worse")
    assert verdict.text == "lr=0.01 is worse than lr=0.001 by 0.0520 ± 0.0025 nats (3 seeds, paired, p < 0.001)"


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "a", four(2.0)), write_run(tmp_path / "b", four(1.9), ROTARY)]
    (verdict,) = compare(paths).verdicts
    assert verdict.text == (
        "one seed: no interval; rotary differs from learned by -0.100 nats, but nothing can be claimed"
    )
    paths.append(write_run(tmp_path / "c", four(1.95), seed=2))
    assert compare(paths).verdicts[0].text == (
        "one seed of rotary: no interval; rotary differs from learned by -0.075 nats"
    )


def test_values_at_equal_cost(tmp_path: Path) -> None:
    """Two runs of other lengths, speeds and sizes: each value is read on the line between two validations."""
    slow = write_run(tmp_path / "slow", [3.0, 2.0], {"trainer.max_steps": 20}, milliseconds=300.0)
    fast = write_run(tmp_path / "fast", [3.0, 2.6, 2.4, 2.0], {"data.batch_size": 8}, milliseconds=100.0)
    found = compare([slow, fast])
    one, other = found.runs
    assert found.equal["tokens"] == 20 * 64
    assert (one.at_equal_tokens, other.at_equal_tokens) == (2.0, 3.0)  # step 20, and step 10 of twice as many tokens
    assert found.equal["time"] == pytest.approx(4.0)
    assert one.at_equal_time == pytest.approx(3.0 - 10 / 30)  # at 4 s, between 3 s (3.0) and 6 s (2.0)
    assert other.at_equal_time == 2.0
    assert (one.seconds, other.seconds) == (6.0, 4.0)
    assert found.equal["flops"] == pytest.approx(one.flops)
    assert other.at_equal_flops == 3.0
    assert (one.tokens, other.tokens, other.tokens_per_second) == (1280, 5120, 640.0)
    assert "different numbers of tokens" in found.notes[-1]
    assert "different amounts of text" in found.notes[0]


def test_what_no_curve_reaches_is_unknown(tmp_path: Path) -> None:
    short = write_run(tmp_path / "a", [3.0], {"trainer.max_steps": 10})
    long = write_run(tmp_path / "b", [3.0, 2.0], {"trainer.max_steps": 20, "data.batch_size": 8})
    found = compare([short, long])
    assert [run.at_equal_tokens for run in found.runs] == [3.0, None]
    assert "at_equal_tokens" not in found.groups[1].estimates
    assert compare([short, long], by="tokens").verdicts[0].text.startswith("no verdict on ")


def test_another_tokenizer_is_compared_by_bits_per_byte(tmp_path: Path) -> None:
    letters = CharTokenizer("abc", end_of_text=False, unknown=False)
    one = write_run(tmp_path / "a", four(2.0), fingerprint="x")
    settings = {"data.tokenizer": "char"}
    other = write_run(
        tmp_path / "b", four(3.0), settings, fingerprint="y", tokenizer=letters, bytes_per_token=2.0, seed=2
    )
    found = compare([one, other])
    assert found.measure == "bits_per_byte"
    assert found.verdicts[0].difference == pytest.approx((3.0 / 2 - 2.0) / 0.6931471805599453)
    assert "bits per byte, but nothing can be claimed" in found.verdicts[0].text
    assert found.notes[0] == (
        "The runs have different tokenizers: losses per token do not compare, so bits per byte are compared."
    )
    assert found.groups[1].settings == {"data.tokenizer": "char"}


def test_another_text_is_not_compared(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", four(2.0), fingerprint="x")
    other = write_run(tmp_path / "b", four(1.0), {"data.corpus": "shakespeare"}, fingerprint="y", text="the plays")
    found = compare([one, other])
    assert found.verdicts[0].text == ("no verdict on shakespeare: it is not validated on the same text as python")
    assert "(python, shakespeare)" in found.notes[0]
    assert found.verdicts[0].difference is None


def test_equal_paths_of_other_texts_are_two_groups_whose_labels_tell_them_apart(tmp_path: Path) -> None:
    paths = [
        write_run(
            tmp_path / f"{text}-s{seed}",
            four(loss),
            {"data.corpus": "input.txt"},
            fingerprint=text,
            text=text,
            seed=seed,
        )
        for text, loss in (("0123456789", 2.0), ("9876543210", 1.0))
        for seed in (1, 2, 3)
    ]
    found = compare(paths)
    labels = ["input.txt (text 01234567)", "input.txt (text 98765432)"]
    assert [group.settings for group in found.groups] == [{"data.corpus": label} for label in labels]
    assert [group.name for group in found.groups] == [f"corpus={label}" for label in labels]
    assert found.verdicts[0].text == (
        f"no verdict on corpus={labels[1]}: it is not validated on the same text as corpus={labels[0]}"
    )
    again = write_run(
        tmp_path / "again",
        four(2.0),
        {"data.corpus": "./input.txt"},
        fingerprint="0123456789",
        text="0123456789",
        seed=4,
    )
    found = compare([*paths, again])
    assert found.groups[0].seeds == [1, 2, 3, 4]
    assert f"({', '.join(labels)})" in found.notes[0]


def test_one_file_by_several_names_is_one_group(tmp_path: Path) -> None:
    spelt = ["input.txt", "./input.txt", "/data/copy.txt"]
    paths = [
        write_run(tmp_path / f"a-s{seed}", four(2.0), {"data.corpus": corpus}, seed=seed)
        for seed, corpus in enumerate(spelt)
    ]
    paths += [
        write_run(tmp_path / f"b-s{seed}", four(1.9), ROTARY | {"data.corpus": corpus}, seed=seed)
        for seed, corpus in enumerate(reversed(spelt))
    ]
    found = compare(paths)
    assert [group.seeds for group in found.groups] == [[0, 1, 2]] * 2
    assert [group.name for group in found.groups] == ["learned", "rotary"]
    assert found.verdicts[0].difference == pytest.approx(-0.1)


def test_one_text_in_other_tokens_by_another_name_is_compared(tmp_path: Path) -> None:
    """The hash is of the text itself: neither tokenizer nor path are in it."""
    letters = CharTokenizer("abc", end_of_text=False, unknown=False)
    settings = {"data.tokenizer": "char", "data.corpus": "elsewhere/python.txt"}
    found = compare(
        [
            write_run(tmp_path / "a", four(2.0), fingerprint="x"),
            write_run(
                tmp_path / "b", four(3.0), settings, fingerprint="y", tokenizer=letters, bytes_per_token=2.0, seed=2
            ),
        ]
    )
    assert found.verdicts[0].difference is not None
    assert not any("text" in note and "different texts" in note for note in found.notes)


@pytest.mark.parametrize("what", ["no hash", "no fingerprint", "no provenance"])
def test_a_text_that_is_not_recorded_is_neither_the_same_nor_another(tmp_path: Path, what: str) -> None:
    one = write_run(tmp_path / "a", four(2.0), fingerprint="new")
    old = "" if what == "no fingerprint" else "old"
    other = write_run(tmp_path / "b", four(1.0), ROTARY, fingerprint=old, text=None, seed=2)
    if what == "no provenance":
        (other / "provenance.json").unlink()
    found = compare([one, other])
    assert "it is not known whether it is validated on the same text as" in found.verdicts[0].text
    assert "It is not recorded which text b was validated on" in found.notes[0]
    assert not any("different texts" in note for note in found.notes)


def test_older_runs_of_the_same_tokens_are_of_the_same_text(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", four(2.0), text=None)
    other = write_run(tmp_path / "b", four(1.0), ROTARY, text=None)
    new = write_run(tmp_path / "c", four(1.5), {"model.position": "alibi"})
    found = compare([one, other, new])
    assert found.notes == []
    assert all(verdict.difference is not None for verdict in found.verdicts)


def test_the_library_of_each_python_is_a_text_of_its_own(tmp_path: Path) -> None:
    paths = []
    for version in ("3.11.7", "3.12.1"):
        paths.append(write_run(tmp_path / version, four(2.0), fingerprint=version, text=version))
        provenance = json.loads((paths[-1] / "provenance.json").read_text())
        provenance["sessions"][0]["versions"] = {"python": version}
        (paths[-1] / "provenance.json").write_text(json.dumps(provenance))
    found = compare(paths)
    assert [group.settings["data.corpus"] for group in found.groups] == [
        "python 3.11.7's library",
        "python 3.12.1's library",
    ]


def test_a_run_that_went_on_with_another_text_is_no_repeat_of_one_that_did_not(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / name, four(2.0)) for name in "ab")
    provenance = json.loads((other / "provenance.json").read_text())
    provenance["sessions"].insert(0, {"data_fingerprint": "before", "texts": {"train": "before", "val": "before"}})
    (other / "provenance.json").write_text(json.dumps(provenance))
    assert len(compare([one, other]).groups) == 2


def test_repeated_seed_counts_once(seeds: list[Path], tmp_path: Path) -> None:
    again = write_run(tmp_path / "again", four(2.02), seed=2)
    found = compare([*seeds, again])
    assert found.groups[0].seeds == [1, 2, 3]
    assert found.groups[0].runs == ["base-s1", "base-s2", "base-s3", "again"]
    assert found.notes == ["again repeats base-s2 (same settings, same seed): it counts in no mean."]
    assert compare([*seeds, seeds[0]]).runs == compare(seeds).runs  # the same run, named twice


def test_stopped_run_is_compared_at_equal_tokens(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "a", four(2.0))
    stopped = write_run(tmp_path / "b", [2.9, 2.4], ROTARY)
    found = compare([whole, stopped])
    assert found.by == "tokens"
    assert found.verdicts[0].difference == pytest.approx(2.4 - 2.5)
    assert found.notes[0] == "Not finished: b (stopped). The verdicts compare the losses at equal tokens."
    assert compare([whole, stopped], by="best").verdicts[0].difference == pytest.approx(0.4)


def test_early_end_is_told_in_notes_and_of_runs_left_out(tmp_path: Path) -> None:
    early = write_run(tmp_path / "all" / "early", [2.9, 2.4], ROTARY)
    record_end(early, stopped_early="EarlyStopping (no better) at step 20 of 40")
    whole = write_run(tmp_path / "all" / "whole", four(2.0))
    told = "stopped early: EarlyStopping (no better) at step 20 of 40"
    assert compare([whole, early]).notes[0].startswith(f"Not finished: early ({told}). The verdicts compare the losses")
    write_run(tmp_path / "all" / "other", four(1.9), {"optim.lr": 0.1})
    (left_out,) = compare([tmp_path / "all"]).left_out
    assert (left_out.name, left_out.reason) == ("early", f"it has done 20 of 40 steps, {told}")


def test_sweep(tmp_path: Path) -> None:
    cells = []
    for group, settings, loss in (
        ("position=rotary", ROTARY, 1.9),
        ("base", {}, 2.0),
        ("lr=1", {"optim.lr": 1.0}, 2.0),
    ):
        for n in (1, 2, 3):
            name = f"{group}-s{n}"
            cell = {"name": name, "group": group, "seed": n, "overrides": settings, "state": "finished"}
            if (group, n) == ("position=rotary", 3):
                cell |= {"state": "diverged", "reason": "the loss is not finite (nan) at step 12"}
                write_run(tmp_path / name, [3.0], settings, seed=n)
            elif group == "lr=1":
                cell |= {"state": "failed", "reason": "out of memory"}
            else:
                write_run(tmp_path / name, four(loss + n / 1000), settings, seed=n)
            cells.append(cell)
    cells.append({"name": "late", "group": "late", "state": "waiting"})
    cells.append({"name": "half", "group": "half", "state": "running"})
    write_run(tmp_path / "half", [3.0, 2.0], {"optim.lr": 0.1})
    found = compare([write_sweep(tmp_path, cells)])
    assert [group.name for group in found.groups] == ["base", "position=rotary"]
    (verdict,) = found.verdicts
    assert verdict.claim == "better"
    assert verdict.text.endswith("; 1 of 3 runs of position=rotary gave no result")
    left_out = {each.name: (each.state, each.reason) for each in found.left_out}
    assert left_out["position=rotary-s3"] == ("diverged", "the loss is not finite (nan) at step 12")
    assert left_out["lr=1-s2"] == ("failed", "out of memory")
    assert left_out["late"] == ("waiting", "it has not begun")
    assert left_out["half"] == ("stopped", "it has done 20 of 40 steps")
    assert found.notes[0].startswith("No verdict on lr=1: lr=1-s1 is failed, ")


def test_many_comparisons_are_corrected(tmp_path: Path) -> None:
    for number, position in enumerate(("learned", "rotary", "none")):
        for n, offset in enumerate((0.0, 0.01, 0.02)):
            write_run(
                tmp_path / f"{position}-{n}", four(2.0 - number / 50 + offset), {"model.position": position}, seed=n
            )
    found = compare([tmp_path], baseline="learned")
    ps = [verdict.p for verdict in found.verdicts]
    assert [verdict.p_corrected for verdict in found.verdicts] == pytest.approx([2 * ps[0], ps[1]])  # the smaller twice
    assert all("corrected for 2 comparisons" in verdict.text for verdict in found.verdicts)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("sweep.json", '{"format": 1, "name": "exp", "ce', "sweep.json is damaged"),
        ("sweep.json", '{"lr": 0.1}', "is not a run's folder: it has no config.yaml"),
        ("sweep.json", '{"format": 9, "cells": []}', "has format 9, this version reads 1"),
        ("sweep.json", '{"format": 1, "cells": []}', "has no cells"),
        ("sweep.json", '{"format": 1, "cells": [{"name": "a"}]}', "sweep.json is damaged"),
        ("notes.txt", "", "is not a run's folder: it has no config.yaml"),
    ],
)
def test_folder_that_is_none(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        compare([tmp_path])
    assert len(str(caught.value).splitlines()) == 1


def test_run_without_curves(tmp_path: Path) -> None:
    good, empty = write_run(tmp_path / "a", four(2.0)), write_run(tmp_path / "b", [])
    with pytest.raises(
        CheckpointError, match=r"b holds no curves: its metrics.csv is missing or empty \(it is failed\)"
    ):
        compare([good, empty])
    assert [each.name for each in compare([tmp_path]).left_out] == ["b"]  # one among others
    (empty / "metrics.csv").write_text("step,val/loss\n10,nan\n")
    with pytest.raises(CheckpointError, match="there is nothing to compare: b is diverged"):
        compare([empty])


def test_damaged_run_among_others_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", four(2.0))
    (write_run(tmp_path / "b", four(2.0)) / "config.yaml").write_text("run: {")
    (write_run(tmp_path / "c", four(2.0)) / "tokenizer.json").unlink()
    for name, value in (("d", "position: nowhere"), ("e", "n_head: 3")):
        config = write_run(tmp_path / name, four(2.0)) / "config.yaml"
        config.write_text(re.sub(f"{value.split(':')[0]}: .*", value, config.read_text()))
    left_out = {each.name: each for each in compare([tmp_path]).left_out}
    assert {each.state for each in left_out.values()} == {"damaged"}
    assert "config.yaml is damaged" in left_out["b"].reason
    assert "tokenizer.json" in left_out["c"].reason
    assert "position=nowhere must be one of" in left_out["d"].reason.replace("'", "")
    assert "n_head=3" in left_out["e"].reason
    with pytest.raises(CheckpointError, match="its model cannot be known"):
        compare([tmp_path / "a", tmp_path / "c"])


def test_run_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "base", four(2.0))
    assert compare(["base"]).runs[0].name == "base"
    with pytest.raises(CheckpointError, match=r"no run or sweep at bas, did you mean base\?"):
        compare(["bas"])


def test_labels() -> None:
    position = [{"model.position": "learned"}, {"model.position": "rotary"}]
    assert labels(position, [["a"], ["b"]]) == ["learned", "rotary"]
    assert labels([{"m.n_head": 2}, {"m.n_head": None}], [["a"], ["b"]]) == ["n_head=2", "n_head=null"]
    several = [{"m.x": 1, "m.bias": True}, {"m.x": 2, "m.bias": True}, {"m.x": 2, "m.bias": False}]
    assert labels(several, [["base-s1", "base-s2"], ["b"], ["c"]]) == ["base", "x=2", "x=2, bias=false"]
    assert labels([{"a.x": "same"}, {"a.x": "same"}], [["r-1"], ["q-1"]]) == ["r-1", "q-1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["base"], "base"),
        (["base", "base-2", "base-10"], "base"),
        (["rot-s1", "rot-s2"], "rot"),
        (["rot_seed1", "rot_seed2"], "rot"),
        (["x1", "y1"], "x1"),
        (["bias", "bias-2"], "bias"),
        (["base,seed=1", "base,seed=2"], "base"),
        (["lr=0.01", "lr=0.01-2"], "lr=0.01"),
        (["run10", "run11"], "run"),
        (["a/x", "a/y"], "a"),
    ],
)
def test_stem(names: list[str], expected: str) -> None:
    assert stem(names) == expected


def test_time_is_the_sum_of_what_was_logged(tmp_path: Path) -> None:
    """Of uneven stretches, and of the steps after the last point of the log."""
    record = read_run(write_run(tmp_path / "a", four(2.0)))
    rates = {4: 100.0, 10: 200.0, 11: 1000.0}
    record = dataclasses.replace(record, metrics={step: {"train/ms_per_step": rate} for step, rate in rates.items()})
    # 4 steps in 0.4 s, 6 in 1.2 s, 1 in 1 s, and from there on 1 s each
    assert seconds_at(record, [2, 4, 7, 11, 13]) == pytest.approx([0.2, 0.4, 1.0, 2.6, 4.6])
    assert seconds_at(dataclasses.replace(record, metrics={}), [1]) == []


def cells(folder: Path, groups: dict[str, tuple[dict[str, object], float]], *, seeds: tuple[int, ...]) -> Path:
    """A finished sweep: group -> its settings and the last loss of its seeds, less what the seed makes of it."""
    recorded = []
    for group, (settings, loss) in groups.items():
        for seed in seeds:
            name = f"{group},seed={seed}"
            write_run(folder / name, four(loss + seed / 1000), settings, seed=seed)
            recorded.append({"name": name, "group": group, "seed": seed, "state": "finished"})
    return write_sweep(folder, recorded)


def test_two_sweeps_may_call_other_runs_the_same(tmp_path: Path) -> None:
    """What a sweep calls base is its own: the settings of two sweeps differ, and so do their groups."""
    short = {"trainer.max_steps": 30}
    paths = [
        cells(tmp_path / "long", {"base": ({}, 2.0), "rot": (ROTARY, 1.9)}, seeds=(1, 2, 3)),
        cells(tmp_path / "short", {"base": (short, 2.4), "rot": (ROTARY | short, 2.2)}, seeds=(1, 2, 3)),
    ]
    found = compare(paths)
    assert [group.name for group in found.groups] == ["long/base", "long/rot", "short/base", "short/rot"]
    assert [group.seeds for group in found.groups] == [[1, 2, 3]] * 4
    assert found.baseline == "long/base"
    assert {verdict.group: verdict.difference for verdict in found.verdicts} == {
        "long/rot": pytest.approx(-0.1), "short/base": pytest.approx(0.4), "short/rot": pytest.approx(0.2)
    }  # fmt: skip
    assert found.groups[2].settings == {"model.position": "learned", "trainer.max_steps": 30}
    assert found.groups[0].runs[0] == "long/base,seed=1"
    assert compare(paths, baseline="short/base").baseline == "short/base"
    with pytest.raises(ConfigError, match=r"^--baseline base may mean long/base, short/base$"):
        compare(paths, baseline="base")
    with pytest.raises(ConfigError, match="--baseline rot,seed=2 may mean long/rot, short/rot"):
        compare(paths, baseline="rot,seed=2")


def test_sweeps_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [
        cells(tmp_path / place / "exp", {"base": ({"optim.lr": lr}, 2.0)}, seeds=(1, 2))
        for place, lr in (("a", 0.1), ("b", 0.2))
    ]
    assert [group.name for group in compare(paths).groups] == ["a/exp/base", "b/exp/base"]


def test_more_seeds_of_another_sweep_count_with_the_first(tmp_path: Path) -> None:
    one = cells(tmp_path / "one", {"base": ({}, 2.0), "rot": (ROTARY, 1.9)}, seeds=(1, 2))
    more = cells(tmp_path / "more", {"base": ({}, 2.0)}, seeds=(2, 3))
    found = compare([one, more])
    assert [(group.name, group.seeds) for group in found.groups] == [("one/base", [1, 2, 3]), ("one/rot", [1, 2])]
    assert found.notes == [
        "one/base and more/base have the same settings: they are one group here.",
        "more/base,seed=2 repeats one/base,seed=2 (same settings, same seed): it counts in no mean.",
    ]


def test_lost_runs_of_two_sweeps_are_counted_where_they_belong(tmp_path: Path) -> None:
    paths = []
    for name, lr in (("a", 0.1), ("b", 0.2)):
        sweep = cells(tmp_path / name, {"base": ({"optim.lr": lr}, 2.0)}, seeds=(1, 2, 3))
        content = json.loads((sweep / "sweep.json").read_text())
        lost = {"group": "base", "overrides": {}, "seed": 4, "state": "failed", "reason": "killed"}
        content["cells"] += [lost | {"name": "lost"}] if name == "b" else []
        (sweep / "sweep.json").write_text(json.dumps(content))
        paths.append(sweep)
    found = compare(paths)
    assert [(each.name, each.group) for each in found.left_out] == [("b/lost", "b/base")]
    assert found.verdicts[0].text.endswith("; 1 of 4 runs of b/base gave no result")


def test_group_of_a_sweep_whose_runs_differ_in_more_than_the_seed_is_several(tmp_path: Path) -> None:
    sweep = cells(tmp_path / "exp", {"base": ({}, 2.0), "rot": (ROTARY, 1.9)}, seeds=(1, 2, 3))
    config = sweep / "base,seed=2" / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.01"))
    found = compare([sweep])
    assert {group.name: group.seeds for group in found.groups} == {
        "base": [1, 3], "base,seed=2": [2], "rot": [1, 2, 3]
    }  # fmt: skip
    assert found.notes == [
        "The runs of base differ in more than the seed (optim.lr): here they are the groups base and base,seed=2."
    ]


def test_run_of_a_sweep_may_be_named_beside_it(tmp_path: Path) -> None:
    sweep = cells(tmp_path / "exp", {"rot": (ROTARY, 1.9), "base": ({}, 2.0)}, seeds=(1, 2))
    found = compare([sweep / "rot,seed=2", sweep])
    assert (found.baseline, [group.name for group in found.groups]) == ("base", ["base", "rot"])


def test_repeated_run_may_have_the_same_name(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / place / "base", four(loss)) for place, loss in (("a", 2.0), ("b", 2.4))]
    found = compare(paths)
    assert found.groups[0].seeds == [1]
    assert found.groups[0].estimates["final_loss"].mean == 2.0
    assert found.notes == ["b/base repeats a/base (same settings, same seed): it counts in no mean."]


def test_repeated_run_decides_nothing(tmp_path: Path) -> None:
    """Neither where the others are read, nor by what they are compared, nor the picture."""
    paths = [write_run(tmp_path / "a", four(2.0)), write_run(tmp_path / "b", four(1.9), ROTARY)]
    again = write_run(tmp_path / "again", [9.0])
    found = compare([*paths, again])
    assert (found.by, found.equal["tokens"]) == ("final", compare(paths).equal["tokens"])
    assert found.notes == ["again repeats a (same settings, same seed): it counts in no mean."]
    assert draw_curves(found).png == draw_curves(compare(paths)).png


def test_groups_are_never_called_the_same(tmp_path: Path) -> None:
    """Runs of one name that differ in more settings than a label has room for."""
    many = {"optim.lr": 0.1, "model.position": "rotary", "model.n_head": 1, "run.eval_every": 5}
    paths = [write_run(tmp_path / "a" / "x", four(2.0)), write_run(tmp_path / "b" / "x", four(1.0), many)]
    found = compare(paths)
    assert [group.name for group in found.groups] == ["a/x", "b/x"]
    assert found.verdicts[0].difference == -1.0
    assert labels([{"k": "b"}, {"k": "x"}, {"k": "x"}], [["s"], ["b"], ["c"]]) == ["s", "b", "c"]


def test_column_that_nobody_has_is_left_out(tmp_path: Path) -> None:
    """Two seeds, one validation each: the slower one says nothing of the time that the faster one took."""
    for group, settings in (("a", {}), ("b", ROTARY)):
        for seed in (1, 2):
            folder = tmp_path / f"{group}-s{seed}"
            write_run(folder, [2.0], settings | {"trainer.max_steps": 10}, seed=seed, milliseconds=100.0 + seed)
    found = compare([tmp_path])
    assert found.equal["time"] is not None
    table = outcome_table(found)
    assert not any("of training" in column for column in table.columns)
    assert all(set(column) != {"–"} for column in zip(*table.rows, strict=True))
    assert found.notes == ["Left out, as fewer than two groups have a value there: at 1.01 s of training."]


def test_column_that_one_group_has_alone_is_left_out(tmp_path: Path) -> None:
    """The larger model is first validated after the FLOPs at which the smaller one has ended."""
    write_run(tmp_path / "small", [2.0], {"trainer.max_steps": 10})
    write_run(tmp_path / "large", four(1.5), {"model.n_embd": 64})
    found = compare([tmp_path])
    assert [sum("at_equal_flops" in group.estimates for group in found.groups)] == [1]
    assert not any("FLOPs" in column for column in outcome_table(found).columns)
    assert sum("Left out, as fewer than two groups have a value there: at " in note for note in found.notes) == 1
    alone = compare([tmp_path / "large"])
    assert "final loss" in outcome_table(alone).columns
    assert alone.notes == []


def test_sign_is_explained_where_it_stands(seeds: list[Path]) -> None:
    assert interval_note(compare(seeds)).endswith(", of each comparison by itself")
    assert interval_note(compare(seeds[:3])) == "±: half of a 95% interval over the seeds"
    assert interval_note(compare([seeds[0], seeds[3]])) == ""


def test_one_path_and_none(seeds: list[Path]) -> None:
    """A text is one path, not a list of letters."""
    for one in (str(seeds[0]), seeds[0]):
        assert [run.name for run in compare(one).runs] == ["base-s1"]
    with pytest.raises(ConfigError, match=r"^there is nothing to compare: no run was named$"):
        compare([])


def test_verdict_needs_a_value_of_every_run(tmp_path: Path) -> None:
    """The table shows no mean of a group of which only the fast seed was validated in time; no verdict either."""
    for seed, milliseconds in ((1, 100.0), (2, 100.0), (3, 500.0)):
        write_run(tmp_path / f"a-s{seed}", four(2.0 + seed / 100), seed=seed)
        rotary = write_run(tmp_path / f"b-s{seed}", four(1.5), ROTARY, seed=seed, milliseconds=milliseconds)
    assert rotary.name == "b-s3"
    found = compare([tmp_path], by="time")  # all of a ends after 4 s, b-s3 is first validated after 5 s
    assert "at_equal_time" not in found.groups[1].estimates
    assert found.verdicts[0].text == "no verdict on rotary: 1 of 3 runs of rotary have no value here"


def test_diverged_run_of_no_sweep_is_counted_where_it_belongs(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a-s{seed}", four(2.0 + seed / 100), seed=seed)
        last = 1.5 + seed / 100 if seed < 3 else float("nan")
        write_run(tmp_path / f"b-s{seed}", four(last), ROTARY, seed=seed)
    found = compare([tmp_path])
    assert [(each.name, each.group) for each in found.left_out] == [("b-s3", "rotary")]
    assert found.verdicts[0].text.endswith("; 1 of 3 runs of rotary gave no result")


def test_midway_is_told_of_equal_steps_too(tmp_path: Path) -> None:
    """Batches twice as large: as many steps, and yet read at half of them."""
    paths = [write_run(tmp_path / "a", four(2.0)), write_run(tmp_path / "b", four(1.9), {"data.batch_size": 8})]
    told = "Where the curve of a longer run is read midway, its learning rate has not decayed yet."
    assert told in compare(paths, by="tokens").notes
    assert told not in compare(paths[:1], by="tokens").notes
    assert told not in compare(paths, by="final").notes
    assert told not in compare(paths, by="time").notes  # both took 4 s


def test_lowest_of_more_validations_is_told(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "a", four(2.0)), write_run(tmp_path / "b", [*four(1.9), 1.8], ROTARY)]
    told = "The lowest losses are those of 4 to 5 validations: the lowest of more validations is lower by chance alone."
    assert told in compare(paths, by="best").notes
    assert told not in compare(paths).notes


def test_lowest_bits_per_byte_are_shown_where_they_are_compared(tmp_path: Path) -> None:
    letters = CharTokenizer("abc", end_of_text=False, unknown=False)
    one = write_run(tmp_path / "a", [3.0, 2.0, 2.5, 2.4])
    other = write_run(tmp_path / "b", four(3.0), {"data.tokenizer": "char"}, fingerprint="y", tokenizer=letters)
    assert "best bits per byte" in outcome_table(compare([one, other], by="best")).columns
    assert "best bits per byte" not in outcome_table(compare([one])).columns


def test_a_sweep_that_was_run_twice_is_told_in_two_lines(tmp_path: Path) -> None:
    groups = {f"lr={n}": ({"optim.lr": n / 100}, 2.0) for n in range(1, 7)}
    found = compare([cells(tmp_path / name, groups, seeds=(1, 2)) for name in ("one", "two")])
    assert [group.seeds for group in found.groups] == [[1, 2]] * 6
    merged, repeats = found.notes
    assert merged.startswith("6 groups are merged from several with the same settings: one/lr=1 and two/lr=1, ")
    assert repeats.startswith(
        "12 runs repeat others (same settings, same seed) and count in no mean: two/lr=1,seed=1 repeats one/lr=1,seed=1"
    )
    assert repeats.endswith(", ...")


def test_the_one_finding_comes_first_and_the_rest_in_one_table(tmp_path: Path) -> None:
    """Seventeen groups of which nothing can be claimed are one table: on a terminal and in the report; JSON has all."""
    for seed in (1, 2, 3):
        write_run(tmp_path / f"base-s{seed}", [3.0 + seed / 100], seed=seed)
        write_run(tmp_path / f"good-s{seed}", [1.0 + seed / 100], {"model.position": "rotary"}, seed=seed)
        for number in range(4):
            odd = {"optim.lr": 0.1 + number}
            write_run(tmp_path / f"n{number}-s{seed}", [3.0 + seed / 100 + (seed - 2) / (9 + number)], odd, seed=seed)
    write_run(tmp_path / "alone", [2.0], {"model.n_head": 1})
    found = compare([tmp_path], baseline="base-s1")
    assert [each.claim for each in findings(found)] == ["better"]
    table = undecided_table(found)
    assert table is not None
    assert len(table.rows) == len(found.verdicts) - 1 == 5
    assert table.rows[0][1:] == ("-1.020", "–", "one seed of n_head=1: no interval")
    assert table.title == "no difference to base can be claimed (p: corrected for 5 comparisons)"
    assert all(" ± " in row[1] for row in table.rows[1:])
    screen = io.StringIO()
    show_comparison(Console(file=screen, width=80, force_terminal=True, color_system=None), found)
    lines = screen.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    verdict = next(number for number, line in enumerate(lines) if " is better than " in line)
    assert verdict < next(number for number, line in enumerate(lines) if line.startswith("no difference to base"))
    assert not any(line.startswith("no difference can be claimed between") for line in lines)
    assert len(as_plain(found)["verdicts"]) == 6
    text = write_report(found, tmp_path / "report")[0].read_text()
    assert text.index(" is better than ") < text.index("no difference to base")
    few = compare([tmp_path / name for name in ("base-s1", "base-s2", "n0-s1", "n0-s2")])
    assert undecided_table(few) is None
    assert len(findings(few)) == 1
