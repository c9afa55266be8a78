"""Read a pickle of plain values (text, whole numbers, lists, mappings) of any origin without running any of it."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from minigpt.errors import DataError

MOST_BYTES = 4 << 20
"""nanoGPT's meta.pkl takes some 22 bytes a character, of which Unicode has about 150,000."""

# A pickle is a program for a small machine. These of its instructions build plain values; none imports or calls. Tuples
# are left out: they may be keys, and the hash of a pair of one pair of one pair ... takes twice as long at each level.
_HARMLESS = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
}
_PLACES = {"PUT", "BINPUT", "LONG_BINPUT"}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows no class and no function at all."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def read_plain_pickle(path: Path) -> Any:
    """Read the value in `path`. DataError, one line, for a file that is missing, too large, damaged, or not plain."""
    if path.exists() and not path.is_file():  # a device or a pipe may have no end
        raise DataError(f"{path} is no file")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path}: {size:,} bytes are too many for a vocabulary: {MOST_BYTES:,} at most")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name not in _HARMLESS:
                raise DataError(
                    f"{path}: it holds more than text, numbers, lists and mappings ({instruction.name}): a pickle "
                    "could run code, and nothing else of one is loaded"
                )
            # A place in the machine's memory costs as much as the largest number of one.
            if instruction.name in _PLACES and int(str(argument)) > len(data):
                raise DataError(f"{path} is damaged: it asks for place {argument} of the unpickler's memory")
        return _PlainUnpickler(io.BytesIO(data)).load()
    except DataError:
        raise
    except Exception as error:  # damaged bytes may raise anything at all
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path} is not a pickle of plain values: {reason}") from None
