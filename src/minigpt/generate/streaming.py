"""Decoding token by token, so that a terminal never sees half a character."""

import codecs

from minigpt.data.protocol import Tokenizer


class StreamDecoder:
    """Turns ids into text as they come; what `push` and `finish` gave, joined, equals `tokenizer.decode` of all ids.

    A character of UTF-8 may be spread over several tokens. Its bytes wait here until it is whole, or until it is
    certain that it never will be: then each broken part is one U+FFFD, as in `decode`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that is certain now that `token` came: empty while a character is incomplete."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def finish(self) -> str:
        """What still waited, as U+FFFD; the decoder is then as new."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
