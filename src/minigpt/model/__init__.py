"""The transformer, from scratch: torch and `minigpt.errors` alone.

Letters for the axes, used in every shape comment of this package:

    B  batch        sequences that are worked on side by side
    T  time         tokens in a sequence (S: keys, when queries and keys differ in number)
    C  channels     width of the residual stream, `n_embd`
    H  heads        `n_head` query heads; `n_kv_head` key/value heads
    D  head width   C / H
    F  feed-forward width, `n_ff`
    V  vocabulary   `vocab_size`
"""
