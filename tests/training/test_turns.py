"""Somebody else's turn between two steps."""

from pathlib import Path

from minigpt.training.fit import fit
from minigpt.training.position import TurnTaker
from training.tiny import tiny_experiment


def test_turns_come_after_the_warm_up_and_every_few_steps(tmp_path: Path, corpus_file: Path) -> None:
    seen: list[int] = []
    taker = TurnTaker(2, 3, lambda: seen.append(taker.due) or len(seen) < 3)
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[taker], trainer__accumulate_grad_batches=2)
    assert fit(experiment) == 0
    assert seen == [5, 8, 11]  # called at 2, 5 and 8, each time with the next one noted
