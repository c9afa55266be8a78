"""From text to batches: corpus, tokenizer, shards, windows. Only `batches` imports torch."""
