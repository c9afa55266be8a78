# %% [markdown]
# # 1 · The data and the tokens
#
# A language model reads numbers and predicts the next number. This notebook follows a text on its way there:
#
#     text ──> tokens ──> shards ──> windows ──> batches
#     corpus   tokenizer  shards     order       what a training step reads
#
# Each arrow is one file of `src/minigpt/data` (`corpus.py`, `tokenizers.py`, `shards.py`, `batches.py`), and every
# section below calls that file: what you see here is what a training run does.

# %%
import bz2
import lzma
import math
import zlib
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from pictures import PALE, style, token_picture, token_texts
from small_run import find_run, small_run

import minigpt
from minigpt.data.batches import TrainBatches, TrainOrder, Windows
from minigpt.data.bpe import train_bpe
from minigpt.data.corpus import open_corpus
from minigpt.data.prepare import prepare_cached
from minigpt.data.shards import HEADER_BYTES, read_header
from minigpt.data.tokenizers import ByteTokenizer, Tokenizer, train_tokenizer
from minigpt.evaluate.loss import evaluate
from minigpt.training.config import DataConfig

style()

# %% [markdown]
# ## The run
#
# We look at the data of a run. If `runs/base` is not there (`minigpt fit --config configs/base.yaml` makes it, in some
# minutes), a small run is trained now, in about half a minute. A checkpoint knows which text it was trained on.

# %%
RUN = "runs/base"  # any folder that `minigpt fit` wrote

run = find_run(RUN) or small_run()
loaded = minigpt.load(run)
data = DataConfig(**loaded.checkpoint.data)
CORPUS = data.corpus  # where this is a folder that `minigpt prepare` wrote: name the text that it was made from
print(
    f"run {run.name}: corpus {Path(CORPUS).name}, tokenizer {data.tokenizer}, windows of {loaded.config.block_size} tokens"
)

# %% [markdown]
# ## Text
#
# A corpus is a sequence of **documents**. `open_corpus` takes a name (`python`: the standard library of this Python;
# `shakespeare`), a file, a folder, a glob pattern, or a column of `.jsonl` and `.parquet` files.

# %%
corpus = open_corpus(CORPUS, data.text_field)
documents = list(islice(corpus.documents(), 400))
print(f"{len(corpus.files)} files, {corpus.n_bytes / 1e6:.1f} MB; the first is {corpus.files[0].name} and begins:\n")
print(documents[0][:420])

# %% [markdown]
# Documents have all sizes, and most of them are longer than a window of the model. So the tokens of all documents are put
# in one long row, and a special token, `<|endoftext|>`, marks where one ends and the next begins.

# %%
sizes = np.array([len(document.encode()) for document in documents])
fig, ax = plt.subplots(figsize=(6.5, 2.6))
ax.hist(sizes.clip(min=1), bins=np.geomspace(sizes.min().clip(1), sizes.max() + 1, 25), color="#4878a8")
ax.set(xscale="log", xlabel="bytes in a document", ylabel="documents", title="How long the documents are")
ax.yaxis.get_major_locator().set_params(integer=True)
plt.show()

# %% [markdown]
# ## Tokens
#
# A **tokenizer** cuts a text into pieces and numbers them. Three kinds, from the simplest to the usual one:
#
# | kind | a token is | vocabulary | unknown text |
# |---|---|---|---|
# | `byte` | a byte of UTF-8 | 256 + 1 | there is none |
# | `char` | a character of the corpus | as many as the corpus has | an error, or `<unk>` where asked for |
# | `bpe` | a frequent piece of text | as many as you choose | there is none: rare pieces fall back to bytes |
#
# *Byte-pair encoding* (Sennrich et al. 2016; on bytes: Radford et al. 2019, section 2.2) begins with the 256 bytes and joins,
# again and again, the pair of neighbours that is the most frequent in the text. Here are the three on one sentence. Each box
# is a token (`␣` is a space, `‹c3›` a byte that is not a character by itself).

# %%
SENTENCE = "for word in self.words:  # naïve, but fast: ½ second"  # for a run by characters: only such as it knows

tokenizers: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(),
    "char": train_tokenizer("char", documents, vocab_size=0, unknown=True),
    f"this run's ({loaded.tokenizer.kind})": loaded.tokenizer,
}
parts = {}
for name, tokenizer in tokenizers.items():
    ids = tokenizer.encode(SENTENCE)
    title = f"{name}: {len(ids)} tokens from a vocabulary of {tokenizer.vocab_size}"
    parts[title] = (token_texts(tokenizer, ids), [PALE[i % len(PALE)] for i in range(len(ids))])
token_picture(parts)
plt.show()

# %% [markdown]
# The model sees none of this: only the numbers. `decode` turns them back, without loss.

# %%
ids = loaded.encode(SENTENCE)
print(ids)
print(loaded.decode(ids))

# %% [markdown]
# A larger vocabulary makes a text shorter: fewer tokens to read, and more text in a window. But each token needs a row of
# the embedding, and rare tokens are seen too seldom to be learned. Each doubling brings a little less than the one before.

# %%
sample = "".join(documents)[:500_000]
held_out = sample[-len(sample) // 10 :]
learn_from = sample[: -len(held_out)]
vocabularies = [257, 320, 512, 1024, 2048, 4096]
bytes_per_token = [
    len(held_out.encode()) / len(train_bpe([learn_from], size).encode(held_out)) for size in vocabularies
]

fig, ax = plt.subplots(figsize=(6.5, 2.9))
ax.plot(vocabularies, bytes_per_token, "o-", color="#4878a8")
ax.set_xscale("log", base=2)
ax.set_xticks(vocabularies, [str(size) for size in vocabularies])
ax.set(xlabel="vocabulary of a BPE tokenizer", ylabel="bytes per token", ylim=(0, None))
ax.set_title("A larger vocabulary says more with one token (on held-out text)")
plt.show()

# %% [markdown]
# ## Shards
#
# Text is tokenized once. `minigpt prepare` (and `fit`, on first use) writes the tokens into **shards**:
# plain files of numbers that are mapped into memory, so a corpus larger than the memory costs nothing to open. Part of
# the text is held out for validation: whole documents, or the last part of a single document.

# %%
prepared = prepare_cached(data.prepare_options(), tokenizer=loaded.tokenizer)
for name, split in (("train", prepared.train), ("val", prepared.val)):
    print(
        f"{name:5}  {len(split.shards)} shard(s)  {split.n_documents:5,} documents  {split.n_tokens:10,} tokens  "
        f"{split.n_bytes:10,} bytes  {split.n_bytes / split.n_tokens:.2f} bytes per token"
    )
print("split by", prepared.meta["split_by"])

# %% [markdown]
# A shard begins with a header of 256 bytes: what it is, how wide a number is, how many there are, which tokenizer made them,
# and a checksum. Behind it stand the tokens, and then the places where documents begin. The whole layout is the docstring of
# `data/shards.py`.

# %%
path = sorted(prepared.folder.glob("*.bin"))[0]
header = read_header(path)
print(f"{path.name}: {path.stat().st_size:,} bytes")
print(f"  header    {HEADER_BYTES} bytes, begins with {path.open('rb').read(8)!r}")
print(f"  tokens    {header.n_tokens:,} of type {header.dtype} ({header.dtype.itemsize} bytes each)")
print(f"  starts    {header.n_documents:,} documents begin in it")
print(f"  tokenizer {header.tokenizer[:16]}…")
print(f"  checksum  {header.checksum[:16]}…")

# %%
shard = prepared.train.shards[0]  # a memory map: reading a part of it reads that part of the file
starts = prepared.train.document_starts[0]
print(type(shard).__name__, shard.shape, shard.dtype)
print("the first tokens:", shard[:16].tolist())
print("... are the text:", repr(loaded.decode(shard[:16])))
print("the first documents begin at the tokens", starts[:5].tolist())

# %% [markdown]
# ## Windows
#
# The model reads `block_size` tokens at a time. A **window** is `block_size + 1` tokens long: all but the last are the input
# $x$, all but the first the target $y$. So one window holds `block_size` exercises: from the tokens up to $t$, predict
# token $t+1$.

# %%
T = loaded.config.block_size
windows = Windows(prepared.train.shards, T)
print(f"{prepared.train.n_tokens:,} tokens make {len(windows):,} windows of {T} + 1 tokens")

middle = len(windows) // 2
window = windows.gather(*windows.locate(np.array([middle])))[0]
x, y = window[:-1], window[1:]
for t in range(7):
    print(f"t={t}  from {loaded.decode(x[: t + 1])!r:32}  guess {loaded.decode(y[t : t + 1])!r}")

# %% [markdown]
# ## The order of the windows
#
# Training draws windows **without replacement**: an epoch is a shuffled deck, and each card comes once. The next epoch is
# shuffled anew, and cuts the text at other places. To see it, take a text whose token number $p$ is the number $p$
# itself: then the first token of a window says where the window begins.

# %%
TEXT_LENGTH, WINDOW = 2_000, 50
order = TrainOrder(Windows([np.arange(TEXT_LENGTH)], WINDOW), seed=1337)
begins = order.read(0, 2 * len(order))[:, 0].reshape(2, -1)  # (2 epochs, windows in an epoch)

fig, ax = plt.subplots(figsize=(7.5, 3.4))
for number, (row, colour) in enumerate(zip(begins, ("#4878a8", "#d1782f"), strict=True)):
    place = np.arange(len(row)) + number * len(row)
    ax.bar(place, WINDOW, bottom=row, width=1, color=colour)
    ax.text(place.mean(), TEXT_LENGTH * 1.03, f"epoch {number + 1}", color=colour, ha="center")
ax.axvline(len(order) - 0.5, color="grey", lw=0.8)
ax.set(xlabel="place in the order of training", ylabel="tokens of the text", xlim=(-1, 2 * len(order)))
ax.set(ylim=(0, TEXT_LENGTH * 1.1), title=f"Two epochs of a text of {TEXT_LENGTH:,} tokens: every window once an epoch")
plt.show()

# %%
for number, row in enumerate(begins, start=1):
    gaps = np.unique(np.diff(np.sort(row)))
    print(
        f"epoch {number}: {len(np.unique(row))} different windows, {gaps.tolist()} tokens apart, the first at {row.min()}"
    )

# %% [markdown]
# Nothing is shuffled in memory and no state is kept. Which windows form the batch of a step is a **pure function** of
# (seed, step, rank, number of processes): a permutation with random access (a Feistel network; Black and Rogaway
# 2002, section 3). So a resumed run asks for its next step and gets what it would have got, and four processes share the
# batch that one process would read alone:

# %%
STEP = 123_456_789
alone = TrainBatches(order, batch_size=8)[STEP][0]
shared = [TrainBatches(order, batch_size=8, rank=rank, world=4)[STEP][0] for rank in range(4)]
print("one process:   ", alone[:, 0].tolist())
print("four processes:", [part[:, 0].tolist() for part in shared])
assert torch.equal(alone, torch.cat(shared))

# %% [markdown]
# ## Batches
#
# Several windows side by side are a **batch**: `x` and `y`, both `(B, T)`. This is what a training step reads.

# %%
batches = TrainBatches(TrainOrder(windows, seed=1337), data.batch_size)
x, y = batches[0]
print("x", tuple(x.shape), x.dtype, "  y", tuple(y.shape), y.dtype)
print(f"a step learns from {x.numel():,} tokens; an epoch takes {len(windows) // data.batch_size:,} steps\n")
for row in x[:4]:
    print(repr(loaded.decode(row[:24])))

# %% [markdown]
# ## Bits per byte
#
# The loss is counted in nats per token: $-\ln p$ of the right token, on average. A tokenizer with longer tokens has fewer and
# harder guesses, so losses of two tokenizers cannot be compared. **Bits per byte** can:
#
# $$\text{bits per byte} = \frac{\text{nats per token}}{\ln 2} \cdot \frac{\text{tokens}}{\text{bytes}}$$
#
# It is the size to which an ideal compressor with the model's probabilities would bring one byte of the text (Shannon 1948).
# So the model can be compared with real compressors, and with predictions by frequency alone.

# %%
tokens = np.array(prepared.val.shards[0][:40_000])
text = loaded.tokenizer.decode_bytes(tokens)
measured = evaluate(loaded.model, [tokens], loaded.tokenizer.token_bytes())
by_hand = measured.loss / math.log(2) * measured.n_tokens / measured.n_bytes
print(
    f"{measured.loss:.3f} nats per token, {measured.n_bytes / measured.n_tokens:.2f} bytes per token: {by_hand:.3f} bits per byte"
)


def by_frequency(train: np.ndarray, val: np.ndarray, vocab_size: int) -> float:
    """Bits of all of `val`, each token guessed by how often it stands in `train` (one more than that: none is 0)."""
    counts = np.bincount(train, minlength=vocab_size) + 1
    return float(-np.log2(counts / counts.sum())[val].sum())


train_tokens = np.array(prepared.train.shards[0][:500_000])
train_bytes = np.frombuffer(loaded.tokenizer.decode_bytes(train_tokens), dtype=np.uint8)
val_bytes = np.frombuffer(text, dtype=np.uint8)
bits = {
    "every byte as likely": 8.0 * len(text),
    "frequency of bytes": by_frequency(train_bytes, val_bytes, 256),
    "frequency of tokens": by_frequency(train_tokens, tokens, loaded.tokenizer.vocab_size),
    "gzip": 8.0 * len(zlib.compress(text, 9)),
    "xz": 8.0 * len(lzma.compress(text, preset=9)),
    "bzip2": 8.0 * len(bz2.compress(text, 9)),
    "this run's model": measured.bits_per_byte * len(text),
}
values = [total / len(text) for total in bits.values()]

fig, ax = plt.subplots(figsize=(7, 3))
bars = ax.barh(list(bits), values, color=["#9bb7d4"] * 3 + ["#b9b9b9"] * 3 + ["#d1782f"])
ax.bar_label(bars, fmt="%.2f", padding=4)
ax.invert_yaxis()
ax.set(xlabel="bits per byte (less is better)", xlim=(0, 8.8))
ax.set_title(f"{len(text):,} bytes of held-out text, guessed and compressed")
plt.show()

# %% [markdown]
# The comparison is not quite fair. A compressor starts with nothing and learns from the text while it reads it; the model
# and the frequencies have learned from the training text, and the model sees no more than a window at a time. A model trained
# for half a minute loses to `gzip`; how long does yours take to win?
#
# Next: [2 · The model, piece by piece](2_model_piece_by_piece.ipynb).
