"""Documents from a column of a Parquet file, some pages of it at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt.errors import DataError
from minigpt.system.extras import import_extra

_ROWS = 64
"""Rows that are read at a time: few, because each may be a whole book."""


def read_column(path: Path, field: str) -> Iterator[str]:
    """The texts of column `field` in order. DataError names the columns there are, or the row that is no text."""
    pyarrow = import_extra("pyarrow", f"{path}: reading Parquet", "minigpt[data]", DataError)
    from pyarrow import parquet

    row = 0
    try:
        # So the library reads page by page; by default, the column of a whole row group (often of the file) at once.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            _check_column(path, field, file.schema_arrow, pyarrow.types)
            for batch in file.iter_batches(_ROWS, columns=[field], use_threads=False):
                for text in batch.column(0).to_pylist():
                    if not isinstance(text, str):
                        raise DataError(f"{path}: row {row}: column {field!r} must be text, not null")
                    yield text
                    row += 1
    except (pyarrow.ArrowException, OSError) as error:  # which of them, depends on what is broken
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: from row {row} on, column {field!r} is not UTF-8") from None


def _check_column(path: Path, field: str, schema: Any, types: Any) -> None:
    if field not in schema.names:
        names = ", ".join(map(repr, schema.names))
        raise DataError(f"{path}: no column {field!r}; the columns there: {names} (text_field chooses one)")
    kind = schema.field(field).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind)):
        raise DataError(f"{path}: column {field!r} must be text, not {kind}")
