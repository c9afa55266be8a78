"""What a snapshot must be, before anything of it reaches the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minigpt.cli.main import main
from minigpt.data.batches import _inputs_and_targets
from minigpt.errors import CheckpointError, TrainingError
from minigpt.lab.replay import replay
from minigpt.model.loss import IGNORE_INDEX
from minigpt.runs.divergence_snapshot import read_snapshot
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit
from training.tiny import tiny_experiment

from .test_divergence_guard import SpoilGradient


def test_what_is_no_snapshot_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"minigpt_divergence": {"format": 2}}, tmp_path / "odd.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name, word in {"odd.pt": "no 'reason'", "text.pt": "not a checkpoint", "none.pt": "no snapshot at"}.items():
        assert main(["replay", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1


@pytest.fixture(scope="module")
def snapshot_file(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """A step of two batches."""
    root = tmp_path_factory.mktemp("snapshot")
    experiment = tiny_experiment(
        root, corpus_file, trainer__callbacks=[SpoilGradient(3)], trainer__accumulate_grad_batches=2
    )
    with pytest.raises(TrainingError):
        fit(experiment)
    return root / "tiny" / "divergences" / "step=00000004.pt"


def masked(tokens: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows whose first half is left out, or, of those that begin with an odd token, all."""
    x, y = _inputs_and_targets(tokens)
    y = y.clone()
    y[:, :8] = IGNORE_INDEX
    y[x[:, 0] % 2 == 1] = IGNORE_INDEX
    return x, y


def test_a_step_with_targets_that_are_ignored_is_kept_and_done_again(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.data.batches._inputs_and_targets", masked)
    changes = {"trainer__callbacks": [SpoilGradient(6)], "run__eval_every": 2}
    with pytest.raises(TrainingError, match="step 7"):
        fit(tiny_experiment(tmp_path, corpus_file, **changes))
    losses = {step: row["val/loss"] for step, row in read_metrics(tmp_path / "tiny" / "metrics.csv").items()}
    assert all(4 < losses[step] < 6 for step in (2, 4, 6)), losses  # of the targets that count, near ln 257
    path = tmp_path / "tiny" / "divergences" / "step=00000007.pt"
    snapshot = read_snapshot(path)
    ignored = (snapshot.batches[0][1] == IGNORE_INDEX).sum(1)
    assert set(ignored.tolist()) <= {8, 16}
    main(["replay", str(path)])
    assert "window of the highest loss" in capsys.readouterr().out


def put(content: Any, number: int, *pair: torch.Tensor) -> None:
    content["batches"][number] = list(pair)


def set_config(content: Any, **values: Any) -> None:
    content[ENTRY]["config"].update(values)


def one_more(ids: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(ids, (0, 1))


ENTRY = "minigpt_divergence"
SPOILT: dict[str, tuple[str, Any]] = {
    "more losses": (r"2 batches need as many losses, not 3", lambda c: c[ENTRY]["losses"].append(1.0)),
    "odd losses": (r"need as many losses", lambda c: c[ENTRY].update(losses=["x", 1.0])),
    "no batches": (r"holds no batches", lambda c: (c["batches"].clear(), c[ENTRY]["losses"].clear())),
    "batches of another kind": (r"holds no batches", lambda c: c.update(batches={})),
    "three processes": (r"cannot be those of 3 processes", lambda c: c[ENTRY].update(world=3)),
    "no process": (r"'world' in its entry must be at least 1", lambda c: c[ENTRY].update(world=0)),
    "truth for a number": (r"no 'step' that can be used", lambda c: c[ENTRY].update(step=True)),
    "no scale": (r"'loss_scale' in its entry must be above 0", lambda c: c[ENTRY].update(loss_scale=0.0)),
    "id too high": (r"holds the id 257: ids lie between 0 and 256", lambda c: c["batches"][1][0].fill_(257)),
    "id below 0": (r"holds the id -1", lambda c: c["batches"][1][1].fill_(-1)),
    "floats": (
        r"batch 0 of its 2 is not tokens and targets",
        lambda c: put(c, 0, torch.ones(4, 16), torch.ones(4, 16)),
    ),
    "a triple": (r"is not tokens and targets", lambda c: c["batches"][0].append(c["batches"][0][0])),
    "targets alone longer": (
        r"has tokens of shape \(4, 16\) and targets of shape \(4, 17\)",
        lambda c: put(c, 0, c["batches"][0][0], one_more(c["batches"][0][1])),
    ),
    "windows too long": (
        r"windows must have 1 to block_size=16 tokens",
        lambda c: put(c, 0, *map(one_more, c["batches"][0])),
    ),
    "no windows": (
        r"has the shape \(0, 16\)",
        lambda c: put(c, 0, *[ids[:0].clone() for ids in c["batches"][0]]),
    ),
    "a view of one number": (
        r"is not tokens and targets",
        lambda c: put(c, 0, *[torch.zeros(1, 1, dtype=torch.int64).expand(9**6, 16)] * 2),
    ),
    "a billion layers": (
        r"n_layer=1000000000, and there are \d+ weights",
        lambda c: set_config(c, n_layer=10**9),
    ),
    "a missing weight": (r"the weights lack", lambda c: c["weights"].popitem()),
    "an unknown setting": (r"depth", lambda c: set_config(c, depth=1)),
    "another vocabulary": (
        r"weight 'head.weight' has shape",
        lambda c: set_config(c, vocab_size=300),
    ),
    "more tokens than the model": (
        r"its tokenizer has 257 tokens, more than vocab_size=9",
        lambda c: set_config(c, vocab_size=9),
    ),
    "an average too short": (
        r"optimizer state does not belong to its weights: 'exp_avg' of parameter 0",
        lambda c: c["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
    ),
    "no optimizer": (r"optimizer state does not belong", lambda c: c.update(optimizer=None)),
    "norms of another kind": (r"'grad_norms' are not numbers", lambda c: c.update(grad_norms={"a": "b"})),
}


@pytest.mark.parametrize("what", SPOILT)
def test_spoilt_snapshot_is_one_line(
    snapshot_file: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each by itself: nothing of it reaches the model."""
    message, change = SPOILT[what]
    content = torch.load(snapshot_file, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=message):
        replay(read_snapshot(tmp_path / "bad.pt"), torch.device("cpu"))
    assert main(["replay", str(tmp_path / "bad.pt")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
