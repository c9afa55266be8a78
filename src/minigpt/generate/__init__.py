"""From logits to text: sampling options, one text, a batch of texts, streaming."""
