import subprocess
import sys
from typing import Any

import pytest

from minigpt.data.options import PrepareOptions
from minigpt.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"val_fraction": 0.0}, r"val_fraction=0.0 must lie between 0 and 1"),
        ({"val_fraction": 1.0}, r"val_fraction=1.0 must lie between 0 and 1"),
        ({"split": "document"}, r"split=document must be one of auto, documents, position, did you mean documents\?"),
        ({"workers": 10**6}, r"workers=1000000 must be at most 1,024: each is a process"),
        ({"val_fraction": "0.1"}, r"val_fraction='0.1' must be a number"),
        ({"corpus": None}, r"corpus=None must be a text"),
        ({"unknown": 1}, r"unknown=1 must be true or false"),
        ({"vocab_size": True}, r"vocab_size=True must be a whole number"),
        ({"workers": 0}, r"workers=0 must be at least 1"),
        ({"tokenizer": "bpe", "vocab_size": 256}, r"vocab_size=256 must be at least 257 for bpe"),
        ({"tokenizer": "byte", "unknown": True}, r"unknown=true is for tokenizer=char; with tokenizer=byte"),
    ],
)
def test_what_cannot_work_is_refused_with_its_value(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PrepareOptions(**{"corpus": "python", "tokenizer": "char", **setting})


def test_options_need_neither_numpy_nor_tokenizers() -> None:
    program = "import sys, minigpt.data.options; print({'numpy', 'tokenizers'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
