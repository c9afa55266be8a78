"""Text -> tokens -> shards: numpy and `tokenizers`, no torch."""
