"""Generate text: from logits to probabilities, tokens and text.

options     SamplingOptions, checked without torch
sampling    the filters of the logits, the draw, the loop over tokens with a KV cache or without
text        prompts to ids, ids to characters as they come, the text to stop at
batch       several texts at once
"""
