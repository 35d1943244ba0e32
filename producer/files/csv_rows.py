"""Yields the rows of a CSV text in blocks, as columns, each row with its line.

Invariant: what is read from a file does not depend on the size of the blocks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice
from pathlib import Path

from producer.files.layout import Layout, first_lines, open_lines
from shared.errors import DataError

BLOCK_ROWS = 4_096
"""Larger blocks exceed the processor's caches: 65,536 rows take a third longer."""
_LINE_END = re.compile(r"\r\n|\r|\n")
_Rows = list[list[str]]


def decode(raw: bytes, path: Path) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark.

    raises : DataError that names the line
    """
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not {encoding.removesuffix('-sig').upper()} text"
            f" ({error.reason})"
        ) from error
    if "\0" in text:
        raise DataError(
            f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL character; is it"
            " a text file?"
        )
    return text


@dataclass(frozen=True, slots=True)
class Block:
    """Rows with as many cells as the header.

    columns : cells without surrounding blanks, one list per column
    lines   : returns the line of each row, computed on demand
    wrong   : (line, problem) of rows with another number of cells
    """

    columns: list[list[str]]
    lines: Callable[[], list[int]]
    wrong: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.columns[0])


def read_blocks(
    text: str, layout: Layout, path: Path, rows_each: int | None = None
) -> Iterator[Block]:
    """Yield the rows after the header, without blank lines.

    rows_each : number of rows per block; None = BLOCK_ROWS
    raises    : DataError that names the line of broken quotes
    """
    cells = len(layout.names)
    lines_of = open_lines(text) if rows_each is None else first_lines(text)
    reader = csv.reader(lines_of, delimiter=layout.separator, strict=True)
    try:
        while reader.line_num < layout.line:
            next(reader)
        while True:
            before = reader.line_num
            rows = list(islice(reader, rows_each or BLOCK_ROWS))
            if not rows:
                return
            lines = partial(_line_numbers, rows, before)
            wrong: list[tuple[int, str]] = []
            if set(map(len, rows)) != {cells} or (cells == 1 and not all(rows)):
                numbers = lines()
                right, wrong = _split_rows(rows, numbers, cells)
                rows = [rows[i] for i in right]
                lines = partial(_chosen, numbers, right)
            columns = [list(map(str.strip, column)) for column in zip(*rows, strict=True)]
            yield Block(columns or [[] for _ in range(cells)], lines, wrong)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _split_rows(
    rows: _Rows, numbers: list[int], cells: int
) -> tuple[list[int], list[tuple[int, str]]]:
    """Return the indices of complete rows, and (line, problem) of the others that are not blank."""
    right = []
    wrong = []
    for i, row in enumerate(rows):
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        if len(row) == cells:
            right.append(i)
        else:
            wrong.append((numbers[i], f"{len(row)} cells where the header has {cells}"))
    return right, wrong


def line_of(text: str, layout: Layout, path: Path, row: int) -> int:
    """Return the line of a row, counted from 0 over the rows that read_blocks yields."""
    for block in read_blocks(text, layout, path):
        if row < len(block):
            return block.lines()[row]
        row -= len(block)
    return layout.line


def _line_numbers(rows: _Rows, before: int) -> list[int]:
    """Return the line on which each row ends; quoted cells may hold line ends."""
    return list(
        accumulate(
            (1 + sum(len(_LINE_END.findall(cell)) for cell in row) for row in rows), initial=before
        )
    )[1:]


def _chosen(numbers: list[int], rows: list[int]) -> list[int]:
    return [numbers[row] for row in rows]
