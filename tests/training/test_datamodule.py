"""The module and the data module under a Trainer of one's own, without `minigpt fit`."""

from pathlib import Path

import lightning.pytorch as pl

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.config import OptimConfig
from minigpt.training.config import DataConfig
from minigpt.training.datamodule import TokenDataModule
from minigpt.training.module import GPTModule
from minigpt.training.quiet import quiet


def test_works_with_any_trainer(corpus_file: Path) -> None:
    data = TokenDataModule(
        DataConfig(corpus=str(corpus_file), tokenizer="byte", batch_size=4), block_size=16, eval_batches=2
    )
    data.prepare_data()
    data.setup("fit")
    assert data.prepared is not None
    tokenizer = data.prepared.tokenizer
    gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=16))
    module = GPTModule(gpt, OptimConfig(), tokenizer.token_bytes())
    with quiet():
        trainer = pl.Trainer(
            max_steps=4, val_check_interval=2, check_val_every_n_epoch=None, accelerator="cpu", devices=1, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, data)
    assert trainer.global_step == 4
    assert 0 < float(trainer.callback_metrics["val_loss"]) < 7
    assert data.state_dict() == {"batches": 4, "windows": 16}
