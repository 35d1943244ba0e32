"""Surveys a file before it is read: format of times, text, identifiers, decimal commas.

Invariant: every decision depends on all rows; files of ISO times and plain numbers need no survey.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.files.columns import ColumnChoice, Doubt, NameKind, name_kind, names_a_row
from producer.files.csv_rows import line_of, read_blocks
from producer.files.layout import Layout
from producer.files.numbers import Decimals, is_comma_number, is_decorated_number, is_number
from producer.files.time_choice import TimeColumn
from producer.files.time_forms import ISO, Kind, TimeForm, find_form, kind_of
from producer.files.times import Flags, Times
from shared.errors import DataError

_FIRST_ROWS = 50
_MOST_NAMES = 100_000
_WHOLE = re.compile(r"-?\d{1,40}(\.0*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Label:
    """A column whose cells are names rather than measurements, row by row.

    codes  : int32 (n,)  index into values
    values : distinct cells, in order of appearance
    """

    codes: npt.NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """Facts about a file.

    form    : format of its times
    decimal : decimal sign of its numbers
    labels  : {column: its cells} of the columns of text or with names like identifiers
    time_ms : int64 (n,)  times of all rows; None where there is no label
    timed   : bool (n,)   which rows have a time; None as above
    entity  : int64 (n,)  code of each row's entity by the given entity columns; None as above
    """

    form: TimeForm
    decimal: str = "."
    labels: dict[int, Label] | None = None
    time_ms: Times | None = None
    timed: Flags | None = None
    entity: npt.NDArray[np.int64] | None = None


def survey(
    text: str,
    layout: Layout,
    path: Path,
    choice: ColumnChoice,
    ignored: Sequence[int] = (),
    fixed: Sequence[int] = (),
) -> Survey:
    """Survey the first rows, and all rows if the first leave something undecided.

    ignored : columns to ignore
    fixed   : columns that are metrics regardless of their names
    raises  : DataError that names file and line of an ambiguous time or number

    Cost: nothing, or 0.3 us per cell where all rows are read.
    """
    explicit = None if choice.time_format is None else find_form(choice.time_format)
    named = {*layout.time, *(layout.entity or ()), *ignored}
    rest = [index for index in range(len(layout.names)) if index not in named]
    top = next(read_blocks(text, layout, path, _FIRST_ROWS), None)
    if top is None:
        return Survey(explicit or ISO)
    firsts = {index: next(filter(None, top.columns[index]), "") for index in rest}
    numbered = [
        index for index in rest if index not in fixed and _may_identify(layout.names[index])
    ]
    texts = [
        index for index in rest if index not in (*fixed, *numbered) and not is_number(firsts[index])
    ]
    signs = "," in text if layout.separator != "," else '"' in text
    commas = signs and choice.decimal is None
    kinds = filter(None, map(kind_of, time_cells(top.columns, layout.time)))
    known = explicit is not None or next(kinds, None) is Kind.ISO
    if known and not numbered and not texts and not commas:
        return Survey(explicit or ISO, choice.decimal or ".")
    decimals = Decimals(choice.decimal)
    return _survey_all(
        text, layout, path, explicit, decimals, rest if commas else (), numbered, texts
    )


def _may_identify(name: str) -> bool:
    return name_kind(name) is not NameKind.NOTHING or names_a_row(name)


def time_cells(columns: Sequence[list[str]], indices: Sequence[int]) -> list[str]:
    """Return the cells of the time column; those of several columns are joined by a blank."""
    if len(indices) == 1:
        return columns[indices[0]]
    return [
        " ".join(parts).strip()
        for parts in zip(*(columns[index] for index in indices), strict=True)
    ]


class _Codes:
    """Collects a column of names; ``dropped`` when its cells turn out to be numbers.

    named : the column is named like an identifier, so whole numbers count as names
    """

    def __init__(self, named: bool) -> None:
        self._named = named
        self._code_of: dict[str, int] = {}
        self._parts: list[npt.NDArray[np.int32]] = []
        self._text = self._numbers = 0
        self._gave_up = False

    def add(self, cells: Sequence[str]) -> None:
        """Add cells."""
        if self._gave_up:
            return
        code_of = self._code_of
        known = len(code_of)
        self._parts.append(
            np.array([code_of.setdefault(cell, len(code_of)) for cell in cells], np.int32)
        )
        for cell in islice(code_of, known, None):
            if cell and _is_text(cell):
                self._text += 1
            elif cell and not (self._named and is_whole(cell)):
                self._numbers += 1
        many = len(code_of) > _MOST_NAMES and not self._text
        self._gave_up = self._numbers > 0 and (many or not self._named)

    @property
    def dropped(self) -> bool:
        """Whether the cells are numbers."""
        return self._gave_up or self._numbers > self._text

    def label(self) -> Label:
        """Return the collected column."""
        return Label(np.concatenate(self._parts), tuple(self._code_of))


def _is_text(cell: str) -> bool:
    return not (is_number(cell) or is_comma_number(cell) or is_decorated_number(cell))


def is_whole(cell: str) -> bool:
    """Whether a cell is a whole number: 7, 007, -1, or 7.0 (as pandas writes it beside NaN)."""
    return _WHOLE.fullmatch(cell) is not None


def _survey_all(
    text: str,
    layout: Layout,
    path: Path,
    explicit: TimeForm | None,
    decimals: Decimals,
    commas: Sequence[int],
    numbered: Sequence[int],
    texts: Sequence[int],
) -> Survey:
    """Survey all rows.

    commas   : columns whose numbers may have decimal commas
    numbered : columns with names like identifiers
    texts    : columns that may be text
    """
    column = TimeColumn(explicit)
    entity = _Codes(named=True)
    codes = {index: _Codes(named=index in numbered) for index in (*texts, *numbered)}
    row = 0
    for block in read_blocks(text, layout, path):
        column.add(time_cells(block.columns, layout.time))
        for index in commas:
            decimals.add(block.columns[index], row)
        for index, gathered in codes.items():
            gathered.add(block.columns[index])
        if codes:
            named = [block.columns[index] for index in layout.entity or ()]
            entity.add(
                ["/".join(parts) for parts in zip(*named, strict=True)]
                if named
                else [""] * len(block)
            )
        row += len(block)
    form = column.choose()
    if isinstance(form, Doubt):
        raise _doubtful(text, layout, path, form)
    if decimals.doubt is not None:
        raise _doubtful(text, layout, path, decimals.doubt)
    labels = {index: gathered.label() for index, gathered in codes.items() if not gathered.dropped}
    if not labels:
        return Survey(form, decimals.sign)
    time_ms, timed = column.times(form)
    owner = entity.label().codes.astype(np.int64)
    return Survey(form, decimals.sign, labels, time_ms, timed, owner)


def _doubtful(text: str, layout: Layout, path: Path, doubt: Doubt) -> DataError:
    return DataError(f"{path}, line {line_of(text, layout, path, doubt.row)}: {doubt.text}")
