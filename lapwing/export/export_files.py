"""Writes rows as CSV or Parquet, into a file that appears whole or not at all.

Invariant: rows are written as they come, a row group at a time; the file has its name only when it
is complete and on disk.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lapwing.export.export_columns import Column, ColumnType, Row, csv_value
from shared.errors import ConfigError

SUFFIXES = (".csv", ".parquet")
GROUP_ROWS = 50_000
"""Rows of a Parquet row group, the most that are kept in memory."""


class RowWriter(Protocol):
    """Takes rows until the file is complete."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Write what is kept, and the end of the file."""
        ...


def check_target(path: Path) -> None:
    """Check a file name, and the packages that its format needs.

    raises : ConfigError
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--to {path}: the name ends in {' or '.join(SUFFIXES)}")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError(
            f"--to {path}: Parquet needs pyarrow, which is not installed: install"
            " lapwing[export], or use the image's target `full`, or write FILE.csv"
        )
    if path.is_dir():
        raise ConfigError(f"--to {path}: that is a folder")


@contextmanager
def whole_file(path: Path, columns: Sequence[Column]) -> Iterator[RowWriter]:
    """Yield a writer; the file replaces an older one when the block ends without an error.

    raises : ConfigError where it cannot be written
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        opened = (_Parquet if path.suffix.lower() == ".parquet" else _Csv)(temporary, columns)
        try:
            yield opened
        finally:
            opened.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"--to {path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class _Csv:
    """CSV as RFC 4180 has it, UTF-8, with a header; null is empty."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\r\n")
        self._writer.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Row]) -> None:
        self._writer.writerows(
            [csv_value(column, row[column.name]) for column in self._columns] for row in rows
        )

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """Parquet with one row group for every GROUP_ROWS rows."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            ColumnType.TEXT: pa.string(),
            ColumnType.JSON: pa.string(),
            ColumnType.BOOLEAN: pa.bool_(),
            ColumnType.INTEGER: pa.int64(),
            ColumnType.NUMBER: pa.float64(),
            ColumnType.TIME: pa.timestamp("ms", tz="UTC"),
        }
        self._table = pa.Table
        self._schema = pa.schema([(column.name, types[column.type]) for column in columns])
        self._writer: Any = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._kept: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        self._kept += rows
        while len(self._kept) >= GROUP_ROWS:
            self._flush(GROUP_ROWS)

    def close(self) -> None:
        try:
            if self._kept:
                self._flush(len(self._kept))
        finally:
            self._writer.close()

    def _flush(self, count: int) -> None:
        group, self._kept = self._kept[:count], self._kept[count:]
        self._writer.write_table(self._table.from_pylist(group, schema=self._schema))
