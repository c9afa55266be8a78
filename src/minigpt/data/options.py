"""Options of preparing a corpus, as plain values without numpy, so that a command line can check them early."""

from dataclasses import dataclass
from typing import Literal, get_args

from minigpt.errors import ConfigError, did_you_mean

SplitName = Literal["auto", "documents", "position"]
LEAST_BPE_VOCABULARY = 257
"""The 256 bytes and the end of text."""
MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """The corpus, its tokenizer and its split. `workers` and `allow_lossy_tokenizer` change nothing of the result."""

    corpus: str
    """python, shakespeare, a file, folder, glob, .jsonl or .parquet; a prepared folder; or a function of the user's own
    that yields texts, as my_ideas.documents."""
    tokenizer: str
    """byte, char, bpe, gpt2, the path of a tokenizer.json, or a folder that holds one."""
    vocab_size: int = 1024
    """Tokens that a bpe tokenizer learns."""
    val_fraction: float = 0.1
    """Share of the text that is held out for validation."""
    split: SplitName = "auto"
    """Hold out whole documents, or the end of the text (position); auto: documents where whole ones hit the share."""
    text_field: str = "text"
    """Field or column with the text in .jsonl and .parquet files."""
    unknown: bool = False
    """char only: keep a token for characters that the corpus lacks."""
    allow_lossy_tokenizer: bool = False
    """Take a tokenizer that does not give the text back all the same."""
    workers: int = 1
    """Processes that share the work. Each runs the BPE library on its share of the processor's cores."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        for name, kinds in {
            **dict.fromkeys(("corpus", "tokenizer", "text_field"), (str,)),
            **dict.fromkeys(("vocab_size", "workers"), (int,)),
            "val_fraction": (int, float),
            **dict.fromkeys(("unknown", "allow_lossy_tokenizer"), (bool,)),
        }.items():
            if type(getattr(self, name)) not in kinds:
                words = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}[kinds[-1]]
                raise ConfigError(f"{name}={getattr(self, name)!r} must be {words}")
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction={self.val_fraction} must lie between 0 and 1")
        choices = get_args(SplitName)
        if self.split not in choices:
            raise ConfigError(
                f"split={self.split} must be one of {', '.join(choices)}{did_you_mean(str(self.split), choices)}"
            )
        if self.workers < 1:
            raise ConfigError(f"workers={self.workers} must be at least 1")
        if self.workers > MOST_WORKERS:
            raise ConfigError(f"workers={self.workers} must be at most {MOST_WORKERS:,}: each is a process")
        if self.tokenizer == "bpe" and self.vocab_size < LEAST_BPE_VOCABULARY:
            raise ConfigError(f"vocab_size={self.vocab_size} must be at least {LEAST_BPE_VOCABULARY} for bpe")
        if self.unknown and self.tokenizer != "char":
            raise ConfigError(f"unknown=true is for tokenizer=char; with tokenizer={self.tokenizer} it has no effect")
