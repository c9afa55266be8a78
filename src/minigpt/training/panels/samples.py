"""Texts at several temperatures, from careful to wild, side by side with their steps."""

from minigpt.generate.options import SamplingOptions
from minigpt.generate.text import generate_text
from minigpt.training.panels.panel import Look, Panel, PanelSource

MAX_NEW_TOKENS = 100


class SamplesPanel(Panel):
    """Always the same prompt and the same random numbers, drawn by generators of their own."""

    def __init__(self, source: PanelSource) -> None:
        super().__init__(source)
        self.options = [
            SamplingOptions(max_new_tokens=MAX_NEW_TOKENS, temperature=temperature, seed=0)
            for temperature in source.temperatures
        ]

    def show(self, look: Look) -> None:
        """A text for each temperature."""
        prompt = look.source.prompt
        for options in self.options:
            text = "".join(generate_text(look.model, look.source.tokenizer, prompt, options))
            look.text(f"samples/temperature {options.temperature:g}", prompt + text)
