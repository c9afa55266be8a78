"""Runs with components of the user's own, compared without their code."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab.folders import write_run
from minigpt.errors import ConfigError
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.labels import labels
from minigpt.lab.compare.report import write_report
from minigpt.lab.compare.table import outcome_table, settings_table


def write(folder: Path, loss: float, *, share: float | None = None, seed: int = 1, **session: Any) -> Path:
    """A run with a last evaluation `share`, and more facts in its session."""
    write_run(folder, [3.0, loss], {"trainer.max_steps": 20, "run.evaluations": ["my_ideas.Rhymes"]}, seed=seed)
    if share is not None:
        head, *rows = (folder / "metrics.csv").read_text().splitlines()
        shares = ["eval/Rhymes/share", "0.5", repr(share)]
        lines = [f"{line},{cell}" for line, cell in zip([head, *rows], shares, strict=True)]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["sessions"][0] |= session
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def test_evaluations_have_a_column_and_files_tell_groups_apart(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"a{seed}", 2.0, share=0.1 * seed, seed=seed) for seed in (1, 2)]
    facts: dict[str, Any] = {"files": {"my_ideas.py": "0123456789"}, "parameters": 5}
    paths += [write(tmp_path / f"b{seed}", 2.1, share=0.7, seed=seed, **facts) for seed in (1, 2)]
    comparison = compare(paths)
    assert [group.runs for group in comparison.groups] == [["a1", "a2"], ["b1", "b2"]]
    table = outcome_table(comparison)
    place = table.columns.index("Rhymes/share")
    assert [row[place].split()[0] for row in table.rows] == ["0.15", "0.7"]
    assert [row[table.columns.index("parameters")] for row in table.rows][1] == "5"
    differs = settings_table(comparison)
    assert differs is not None
    assert differs.columns == ("group", "my_ideas.py")
    assert [row[1] for row in differs.rows] == ["–", "01234567"]


def test_a_number_that_some_run_lacks_is_in_no_mean(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", 2.0, share=0.1), write(tmp_path / "b", 2.1, share=float("nan"), seed=2)]
    [group] = compare(paths).groups
    assert "eval/Rhymes/share" not in group.estimates


def test_verdicts_may_be_about_an_evaluation(tmp_path: Path) -> None:
    """Which way it is better is the user's to say, and so is the text that it is about."""
    for seed in (1, 2, 3):
        write(tmp_path / f"a{seed}", 2.0, share=0.1 + seed / 1000, seed=seed)
        write(tmp_path / f"b{seed}", 2.1, share=0.7 - seed / 500, seed=seed, files={"my_ideas.py": "0123456789"})
    for name in ("eval/Rhymes/share", "Rhymes/share"):
        comparison = compare([tmp_path], baseline="a1", metric=name)
        (verdict,) = comparison.verdicts
        assert (comparison.by, comparison.metric, verdict.claim) == ("final", "eval/Rhymes/share", "higher")
        assert " has a higher Rhymes/share than " in verdict.text
        assert "by 0.594" in verdict.text
    written = write_report(comparison, tmp_path / "report")
    assert "compared by the last Rhymes/share; baseline" in written[0].read_text()
    assert "Rhymes/share, with its 95% interval" in (tmp_path / "report" / "differences.svg").read_text()
    for words, message in (
        (
            {"metric": "eval/Rhymes/shar"},
            "--metric eval/Rhymes/shar is no evaluation of these runs, did you mean eval/",
        ),
        ({"metric": "Rhymes/share", "by": "best"}, "--by best has no effect with --metric Rhymes/share"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare([tmp_path], **words)


def test_a_component_is_its_own_label() -> None:
    assert labels([{"optim.name": "adamw"}, {"optim.name": "torch.optim.Adagrad"}], [["a"], ["b"]]) == [
        "adamw", "torch.optim.Adagrad",
    ]  # fmt: skip
