"""An evaluation: the share of sums that the model gets right, for a model of the corpus in sums.py.

    cd examples && minigpt fit --config base --data.corpus sums.documents --data.tokenizer char \
        --run.evaluations '[sums_right.SumsRight]'
"""

import random

from minigpt.data.tokenizers import Tokenizer
from minigpt.generate.options import SamplingOptions
from minigpt.generate.text import generate_text
from minigpt.model.gpt import GPT

N_SUMS = 20


class SumsRight:
    """Made once, without arguments; called at each validation with the model in eval mode and without gradients."""

    def __init__(self) -> None:
        numbers = random.Random(1)
        self.sums = [(numbers.randrange(100), numbers.randrange(100)) for _ in range(N_SUMS)]

    def __call__(self, model: GPT, tokenizer: Tokenizer) -> dict[str, float]:
        """Numbers by name: `eval/SumsRight/share` in TensorBoard, in metrics.csv and in `minigpt compare`."""
        options = SamplingOptions(max_new_tokens=4, greedy=True)
        right = 0
        for a, b in self.sums:
            answer = "".join(generate_text(model, tokenizer, f"{a}+{b}=", options))
            right += answer.split("\n")[0] == str(a + b)
        return {"share": right / len(self.sums)}
