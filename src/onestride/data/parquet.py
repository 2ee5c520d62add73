"""Columns of numbers in parquet files of others, by pyarrow. What a file claims is checked before it is unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onestride.data.claims import check_claim
from onestride.errors import naming_extras
from onestride.files import size_of_file

LARGEST_NUMBER = 8  # [bytes]


def read_columns(folder: Path, part: str, columns: list[str], files: str) -> dict[str, np.ndarray]:
    """Return columns of numbers of all files in ``folder/part``, concatenated: name -> (M, width).

    Args:
        folder: of the dataset.
        part: folder in it.
        columns: their names.
        files: pattern of the files' names. They are read in the names' order.

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, has no numbers or another width in another file, or a file is damaged.
    """
    with naming_extras():
        import pyarrow as pa
        from pyarrow import parquet

    paths = sorted((folder / part).glob(files))
    if not paths:
        raise FileNotFoundError(f"{folder} has no {part}/{files}; was it downloaded whole?")
    tables = []
    for path in paths:
        try:
            size = size_of_file(path)
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                missing = [name for name in columns if name not in names]
                if missing:
                    raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")
                _check_claims(path, file.metadata, columns, size)
                table = file.read(columns=columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            said = " ".join(str(error).split())[:300]  # Arrow's reasons have several lines
            raise ValueError(f"{path} cannot be read ({said}); it was altered or cut short") from error
        tables.append({name: _matrix(f"{path}, column {name}", table.column(name)) for name in columns})
    for name in columns:
        widths = {table[name].shape[1]: path for table, path in zip(tables, paths, strict=True)}
        if len(widths) > 1:
            raise ValueError(f"column {name} is {' but '.join(f'{w} wide in {path}' for w, path in widths.items())}")
    return {name: np.concatenate([table[name] for table in tables]) for name in columns}


def _check_claims(path: Path, metadata: Any, columns: list[str], size: int) -> None:
    """Refuse columns that claim more than a file of ``size`` bytes can hold. Repeated numbers take almost no space."""
    stored = claimed = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            if any(f"{column.path_in_schema}.".startswith(f"{name}.") for name in columns):
                stored += max(column.total_compressed_size, 0)
                numbers = max(column.num_values, group.num_rows, 0)
                claimed += max(column.total_uncompressed_size, numbers * LARGEST_NUMBER)
    if stored > size:
        raise ValueError(f"{path} claims {stored} stored bytes in a file of {size} bytes; it was altered or cut short")
    check_claim(f"{path}", claimed, size)


def _matrix(where: str, column: Any) -> np.ndarray:
    """Return a column of numbers, or of lists of numbers of one length, as (rows, width)."""
    import pyarrow as pa
    from pyarrow import types

    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    rows, width, empty = len(array), 1, array.null_count
    if types.is_fixed_size_list(array.type):
        width, array = array.type.list_size, array.flatten()
    elif types.is_list(array.type) or types.is_large_list(array.type):
        widths = array.drop_null().value_lengths().unique().to_pylist()
        if len(widths) > 1:
            raise ValueError(f"{where} holds lists of lengths {widths[:5]}, expected one length")
        width, array = widths[0] if widths else 0, array.flatten()
    if not (types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type)):
        raise ValueError(f"{where} holds {column.type}, expected numbers or lists of numbers")
    if empty or array.null_count:
        raise ValueError(f"{where} has {empty or array.null_count} empty entries, expected none")
    return array.to_numpy(zero_copy_only=False).reshape(rows, width)


class PicturesColumn:
    """A column of pictures' bytes in parquet files, of which one row group at a time is in memory.

    Args:
        folder: of the dataset.
        part: folder in it.
        column: the column's name, whose rows are ``{"bytes", "path"}``.
        files: pattern of the files' names.

    Attributes:
        rows: their number in all files.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: the column is missing or holds something else.
    """

    def __init__(self, folder: Path, part: str, column: str, files: str) -> None:
        with naming_extras():
            from pyarrow import parquet, types

        self._column = column
        self._groups: list[tuple[Path, int]] = []
        firsts = [0]
        for path in sorted((folder / part).glob(files)):
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                kind = file.schema_arrow.field(column).type if column in names else None
                inside = {f.name: f.type for f in kind} if kind is not None and types.is_struct(kind) else {}
                if "bytes" not in inside or not (
                    types.is_binary(inside["bytes"]) or types.is_large_binary(inside["bytes"])
                ):
                    raise ValueError(f"{path}, column {column} holds {kind}, expected pictures with their bytes")
                _check_claims(path, file.metadata, [column], size_of_file(path))
                for number in range(file.metadata.num_row_groups):
                    self._groups.append((path, number))
                    firsts.append(firsts[-1] + file.metadata.row_group(number).num_rows)
        self._firsts = np.array(firsts)
        self.rows = firsts[-1]
        self._held: tuple[int, Any] = (-1, None)

    def take(self, row: int) -> bytes:
        """Return the bytes of a row, by its number among the rows of all files.

        Raises:
            ValueError: it has none, or the file is damaged.
        """
        from pyarrow import ArrowException, parquet

        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        path, group = self._groups[number]
        if self._held[0] != number:
            try:
                with parquet.ParquetFile(path) as file:
                    table = file.read_row_group(group, columns=[self._column])
            except (ArrowException, OSError) as error:
                raise ValueError(f"{path} cannot be read ({error!s:.120}); it was altered or cut short") from error
            self._held = number, table.column(self._column)
        content = self._held[1][row - int(self._firsts[number])].as_py()
        if content is None or content["bytes"] is None:
            raise ValueError(f"{path}, column {self._column}: row {row} has no picture; was it downloaded whole?")
        return content["bytes"]
