"""Training as `transformers` and torch do it: the same losses, step by step, and the same greedy texts afterwards."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model.test_parity import Names, as_ours, gpt2_names, llama_names
from model.variants import randomise
from torch import Tensor, nn

from minigpt.data.batches import Batch, TrainBatches, TrainOrder, Windows
from minigpt.data.prepared import Prepared, TokenSplit
from minigpt.data.tokenizers import ByteTokenizer
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer
from minigpt.optim.config import OptimConfig
from minigpt.optim.schedules import learning_rate
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.training.config import DataConfig
from minigpt.training.datamodule import TokenDataModule
from minigpt.training.module import GPTModule

transformers = pytest.importorskip("transformers")

STEPS, BATCH, WINDOW, VOCABULARY, SEED = 50, 4, 24, 41, 5
OPTIM = OptimConfig(
    lr=3e-3, schedule="cosine", min_lr=3e-4, warmup_steps=10, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.2
)
CLIP = 0.5
SIZES = {"vocab_size": VOCABULARY, "block_size": 80, "n_embd": 48, "n_layer": 3, "n_head": 6, "dropout": 0.0}


@dataclass(frozen=True, eq=False)
class Kind:
    """A model of `transformers` and the config of ours that is the same function."""

    reference: Callable[[], nn.Module]
    config: GPTConfig
    names: Names


def gpt2() -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=80,
            n_embd=48,
            n_layer=3,
            n_head=6,
            n_inner=100,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=72,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=80,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


LLAMA = {
    "n_ff": 72,
    "n_kv_head": 2,
    "position": "rotary",
    "norm": "rmsnorm",
    "activation": "swiglu",
    "bias": False,
    "tie_embeddings": False,
}
KINDS = {
    "gpt2": Kind(gpt2, GPTConfig(**SIZES, n_ff=100, activation="gelu_tanh"), gpt2_names()),
    "llama": Kind(llama, GPTConfig(**SIZES, **LLAMA), llama_names()),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def pair(kind: Kind) -> tuple[nn.Module, GPT]:
    """The same weights, far from their initial values, in both."""
    reference = kind.reference().eval()  # eval: without dropout, and with gradients
    randomise(reference, seed=3)
    model = use_cpu_kernels(GPT(kind.config).eval())
    model.load_state_dict(as_ours(reference, kind.names, lambda parameter: parameter.detach()))
    return reference, model


@functools.cache
def tokens() -> np.ndarray:
    """A text that can be learnt: three tokens of four follow from the one before."""
    dice = np.random.default_rng(0)
    text = [0]
    for guess, roll in zip(dice.integers(VOCABULARY, size=3000), dice.random(3000), strict=True):
        text.append(int(guess) if roll < 0.25 else (7 * text[-1] + 3) % VOCABULARY)
    return np.array(text, dtype=np.uint8)


@functools.cache
def batches() -> TrainBatches:
    return TrainBatches(TrainOrder(Windows([tokens()], WINDOW), SEED), BATCH)


def train_reference(model: nn.Module) -> list[float]:
    """The textbook loop, nothing of minigpt in it but the batches: torch's AdamW, rates and clipping written out."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.2}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
        foreach=False,
        fused=False,
    )
    losses = []
    for step in range(STEPS):
        if step < 10:
            rate = 3e-3 * (step + 1) / 10
        else:
            rate = 3e-4 + (3e-3 - 3e-4) * (1 + math.cos(math.pi * (step - 10) / (STEPS - 11))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y = batches()[step]
        loss = F.cross_entropy(model(x).logits.reshape(-1, VOCABULARY), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_ours(model: GPT) -> list[float]:
    """Our loss, groups, optimizer and schedule in a loop by hand."""
    optimizer = build_optimizer(model, OPTIM)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, STEPS, OPTIM)
        loss = model.loss(*batches()[step])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_fifty_steps_are_those_of_transformers(kind: Kind) -> None:
    """In float32. The largest difference of a loss was 7e-7 (gpt2) and 9e-6 (llama)."""
    reference, model = pair(kind)
    expected = train_reference(reference)
    losses = train_ours(model)
    assert expected[0] > expected[-1] + 1, "it learns, so an update that did nothing would show"
    assert max(abs(ours - theirs) for ours, theirs in zip(losses, expected, strict=True)) < 1e-4
    # Not the weights themselves: the bias of a key changes no logit, and Adam makes steps of what rounding left of it.
    x, _ = batches()[STEPS]
    difference = float((model(x) - reference(x).logits).detach().abs().max())
    assert difference < 3e-3


def test_greedy_continuations_are_those_of_transformers(kind: Kind) -> None:
    """64 tokens, cached in both, in float64, where no two logits are nearly the same by chance."""
    reference, model = (each.double() for each in pair(kind))
    prompt = torch.from_numpy(tokens()[:36].astype(np.int64)).view(3, 12)
    expected = reference.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False, pad_token_id=0
    )[:, 12:]
    options = SamplingOptions(max_new_tokens=64, greedy=True, use_cache=True)
    found = torch.stack(list(generate_tokens(model, prompt, options, VOCABULARY)), dim=1)
    assert expected.shape == (3, 64)
    assert torch.equal(found, expected)
    assert len(expected.unique()) > 8, "the text is not one token over and over"


class Losses(pl.Callback):
    """The loss of every optimizer step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        self.values.append(float(pl_module.step_loss))


def test_the_trainer_does_what_the_loop_by_hand_does(kind: Kind, tmp_path: Path) -> None:
    """To the last bit: Lightning adds nothing to the sums."""
    by_hand = pair(kind)[1].train()
    expected = train_ours(by_hand)
    model = pair(kind)[1].train()
    split = TokenSplit(shards=[tokens()], document_starts=[], n_tokens=3001, n_documents=1, n_bytes=3001)
    data = TokenDataModule(
        DataConfig(corpus="none", tokenizer="byte", batch_size=BATCH),
        block_size=WINDOW,
        seed=SEED,
        prepared=Prepared(tmp_path, ByteTokenizer(), split, split, "", {}),
    )
    losses = Losses()
    pl.Trainer(
        max_steps=STEPS,
        max_epochs=-1,
        gradient_clip_val=CLIP,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[losses],
    ).fit(GPTModule(model, OPTIM, np.ones(VOCABULARY, dtype=np.int64), seed=SEED), data)
    assert losses.values == expected
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, by_hand.state_dict()[name]), name


@functools.cache
def trained(kind: Kind) -> dict[str, Tensor]:
    """Weights as fifty steps leave them."""
    model = pair(kind)[1]
    train_ours(model)
    return model.state_dict()


def drift(kind: Kind, dtype: torch.dtype, *, autocast: bool) -> tuple[float, float]:
    """The largest change of a logit, as a share of the logits' deviation, and the relative change of the loss."""
    model = use_cpu_kernels(GPT(kind.config).eval())
    model.load_state_dict(trained(kind))
    batch: Batch = batches()[0]

    def measure() -> tuple[Tensor, Tensor]:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=autocast):
            return model(batch[0]).float(), model.loss(*batch)

    with torch.no_grad():
        exact, loss = model(batch[0]), model.loss(*batch)
    if not autocast:
        model.to(dtype)
    logits, rounded = measure()
    assert logits.isfinite().all()
    return float((logits - exact).abs().max() / exact.std()), float((rounded - loss).abs() / loss)


@pytest.mark.parametrize("autocast", [True, False], ids=["mixed", "true"])
@pytest.mark.parametrize(
    ("dtype", "most_of_logit", "most_of_loss"),
    [(torch.bfloat16, 0.4, 1.5e-3), (torch.float16, 0.05, 6e-4)],
    ids=["bf16", "fp16"],
)
def test_half_precision_drifts_little(
    kind: Kind, dtype: torch.dtype, most_of_logit: float, most_of_loss: float, autocast: bool
) -> None:
    """Against float32, after the fifty steps; a float16 has 3 more bits of fraction than a bfloat16.

    Measured on a CPU: the largest drift of a logit, in deviations of the logits, and that of the loss, relative:

                     gpt2               llama
        bf16 mixed   0.065   1.1e-4     0.225   5.3e-4
        bf16 true    0.102   2.8e-4     0.199   3.7e-4
        fp16 mixed   0.0076  5.4e-6     0.0185  7.1e-6
        fp16 true    0.0121  6.3e-5     0.0245  3.2e-4
    """
    of_logit, of_loss = drift(kind, dtype, autocast=autocast)
    assert 0 < of_logit < most_of_logit, "0 would mean that nothing was rounded"
    assert of_loss < most_of_loss
