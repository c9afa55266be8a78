"""How much a model repeats itself in the texts that it writes."""

import torch

from minigpt.data.tokenizers import Tokenizer
from minigpt.generate.batch import generate_texts
from minigpt.generate.options import SamplingOptions
from minigpt.model.gpt import GPT

N_TEXTS = 8
TOKENS = 100
_N = 4


def repetition(model: GPT, tokenizer: Tokenizer) -> dict[str, float]:
    """The share of 4-grams of tokens in 8 sampled texts that stood in the same text before: `4-grams`, from 0 to 1.

    seq-rep-4 of "Neural text generation with unlikelihood training" (Welleck et al. 2020, section 4), of texts sampled
    at temperature 1. Seeds are drawn from torch's global generator. A text shorter than a 4-gram counts as 0.
    """
    seeds = torch.randint(2**31, (N_TEXTS,)).tolist()
    options = SamplingOptions(max_new_tokens=min(TOKENS, model.config.block_size), temperature=1.0)
    texts = generate_texts(model, tokenizer, [""] * N_TEXTS, options, seeds=seeds)
    shares = [_share(tokenizer.encode(text)) for text in texts]
    return {f"{_N}-grams": sum(shares) / len(shares)}


def _share(tokens: list[int]) -> float:
    grams = [tuple(tokens[start : start + _N]) for start in range(len(tokens) - _N + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
