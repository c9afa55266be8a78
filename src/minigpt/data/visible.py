"""Tokens as something to see."""

from collections.abc import Iterable

from minigpt.data.protocol import Tokenizer


def token_texts(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """Each token as something to see: spaces as ␣, line ends as ↵, bytes that are no character as hex."""
    return [visible(tokenizer.decode_bytes([token])) for token in ids]


def visible(spelt: bytes) -> str:
    """The bytes of one token as something to see; no bytes are those of the end of a text."""
    if not spelt:
        return "‹end›"
    try:
        text = spelt.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"‹{byte:02x}›" for byte in spelt)
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
