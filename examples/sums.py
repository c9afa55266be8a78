"""A corpus: sums of two numbers, made up. One that is computed, downloaded or read from a database works the same way.

cd examples && minigpt fit --config base --data.corpus sums.documents --data.tokenizer char
"""

import random
from collections.abc import Iterator

N_DOCUMENTS = 2_000
SUMS_IN_A_DOCUMENT = 20


def documents() -> Iterator[str]:
    """Yield the texts, one a document. The same texts must come each time: a run knows its corpus by their hash."""
    numbers = random.Random(0)
    for _ in range(N_DOCUMENTS):
        pairs = [(numbers.randrange(100), numbers.randrange(100)) for _ in range(SUMS_IN_A_DOCUMENT)]
        yield "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)
