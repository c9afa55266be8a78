"""What a model thinks: its predictions looked at token by token, layer by layer, and in bulk. No trainer here."""
