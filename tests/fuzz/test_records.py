"""What a run wrote beside its checkpoints, with damage anywhere: snapshots of diverged steps, metrics.csv."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_gpt, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.data.tokenizers import ByteTokenizer
from minigpt.optim.build import build_optimizer
from minigpt.optim.config import OptimConfig
from minigpt.runs.divergence_snapshot import DivergenceSnapshot, write_snapshot
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.loggers.metrics_file import MetricsFile

from .configs import odd, spoilt_bytes
from .outcome import check_ending, more, run
from .test_bytes import altered, or_one_line, tensors


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the snapshot of a step of two processes holds."""
    gpt = random_gpt(tiny_config(257, n_layer=1))
    optimizer = build_optimizer(gpt, OptimConfig())
    windows = torch.arange(2 * 4 * 8).reshape(2, 4, 8)
    loss = gpt.loss(windows[0], windows[1])
    loss.backward()
    losses = [float(loss.detach())] * 2
    optimizer.step()
    content = DivergenceSnapshot(
        reason="a test", step=3, batch=2, seed=1, world=2, precision="32-true", loss_scale=1.0, clip_val=1.0,
        clip_algorithm=None, config=gpt.config, tokenizer=ByteTokenizer(), losses=losses, grad_norm=1.0,
        grad_norms={"head.weight": 1.0}, batches=[(windows[0], windows[1])] * 2, weights=gpt.state_dict(),
        optim=OptimConfig(), optimizer=optimizer.state_dict(),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("snapshot") / "step.pt"
    write_snapshot(path, content)
    return torch.load(path, weights_only=True)


def test_the_snapshot_itself_is_good(inside: Path, snapshot: dict[str, Any]) -> None:
    torch.save(snapshot, "a.pt")
    assert run(["replay", "a.pt", "--device", "cpu"]).err == ""


@settings(max_examples=more(4))
@given(data=st.data())
def test_a_snapshot_with_odd_contents(inside: Path, snapshot: dict[str, Any], data: st.DataObject) -> None:
    part = data.draw(st.sampled_from([None, *snapshot]))
    kept = st.one_of(odd, odd, tensors)
    bad = data.draw(altered(snapshot if part is None else snapshot[part], kept))
    torch.save(bad if part is None else snapshot | {part: bad}, "a.pt")
    outcome = run(["replay", "a.pt", "--device", "cpu"])
    if outcome.err:  # another result than the snapshot's is code 1 too, and no error
        check_ending(outcome)
    else:
        assert outcome.out.endswith(("\nreproduced\n", "may round\n"))


CURVES = b"step,train/loss,val/loss\n2,2.5,\n4,2.25,2.375\n6,2.0,\n"


@given(content=st.one_of(spoilt_bytes(CURVES), spoilt_bytes(CURVES.replace(b",", b";")), st.binary(max_size=40)))
def test_any_metrics_file(inside: Path, content: bytes) -> None:
    """Refused and left as it is, or gone on with: all that was read is there afterwards."""
    path = Path("metrics.csv")
    path.write_bytes(content)
    before = or_one_line(lambda: read_metrics(path, up_to=99))
    file = or_one_line(lambda: MetricsFile(path, resume_step=99))
    assert (before is None) == (file is None)
    if before is None or file is None:
        assert path.read_bytes() == content
        return
    file.log_metrics({"train/loss": 1.0}, 100)
    file.finalize("success")
    kept = {step: row for step, row in before.items() if step <= 99} | {100: {"train/loss": 1.0}}
    assert repr(sorted((step, sorted(row.items())) for step, row in read_metrics(path).items())) == repr(
        sorted((step, sorted(row.items())) for step, row in kept.items())
    )
