"""Looks through a file before it is read: the form of its times, text, identifiers, decimal commas.

Invariant: what is decided here is decided from all rows; ISO times and plain numbers need no look.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.files.columns import ColumnChoice, Doubt, Says, names_a_row, says
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
    """What was found out about a file.

    form    : of its times
    decimal : sign of its numbers
    labels  : {column: its cells} of those that are text throughout or are named like identifiers
    time_ms : int64 (n,)  times of all rows; None where there is no label
    timed   : bool (n,)   which rows have a time; None as above
    entity  : int64 (n,)  which rows belong together by the columns named as the entity; None as
              above
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
    """Look at the first rows, and at all rows if those leave something open.

    ignored : columns that are nothing
    fixed   : columns that are metrics whatever they are called
    raises  : DataError that names file and line where times or numbers can be read in two ways

    Cost: nothing, or 0.3 us per cell where all rows are looked at.
    """
    asked = None if choice.time_format is None else find_form(choice.time_format)
    named = {*layout.time, *(layout.entity or ()), *ignored}
    rest = [place for place in range(len(layout.names)) if place not in named]
    top = next(read_blocks(text, layout, path, _FIRST_ROWS), None)
    if top is None:
        return Survey(asked or ISO)
    firsts = {place: next(filter(None, top.columns[place]), "") for place in rest}
    numbered = [
        place for place in rest if place not in fixed and _may_tell_apart(layout.names[place])
    ]
    texts = [
        place for place in rest if place not in (*fixed, *numbered) and not is_number(firsts[place])
    ]
    signs = "," in text if layout.separator != "," else '"' in text
    commas = signs and choice.decimal is None
    kinds = filter(None, map(kind_of, time_cells(top.columns, layout.time)))
    known = asked is not None or next(kinds, None) is Kind.ISO
    if known and not numbered and not texts and not commas:
        return Survey(asked or ISO, choice.decimal or ".")
    decimals = Decimals(choice.decimal)
    return _look(text, layout, path, asked, decimals, rest if commas else (), numbered, texts)


def _may_tell_apart(name: str) -> bool:
    return says(name) is not Says.NOTHING or names_a_row(name)


def time_cells(columns: Sequence[list[str]], places: Sequence[int]) -> list[str]:
    """Return the cells of the column of times; of several, joined by a blank."""
    if len(places) == 1:
        return columns[places[0]]
    return [
        " ".join(parts).strip() for parts in zip(*(columns[place] for place in places), strict=True)
    ]


class _Codes:
    """Gathers a column of names; ``dropped`` when its cells show that they are numbers instead.

    named : the column is named like an identifier, so whole numbers are names, and some others may
            be
    """

    def __init__(self, named: bool) -> None:
        self._named = named
        self._places: dict[str, int] = {}
        self._parts: list[npt.NDArray[np.int32]] = []
        self._text = self._numbers = 0
        self._gave_up = False

    def add(self, cells: Sequence[str]) -> None:
        """Take further cells."""
        if self._gave_up:
            return
        known, places = len(self._places), self._places
        self._parts.append(
            np.array([places.setdefault(cell, len(places)) for cell in cells], np.int32)
        )
        for cell in islice(places, known, None):
            if cell and _is_text(cell):
                self._text += 1
            elif cell and not (self._named and is_whole(cell)):
                self._numbers += 1
        many = len(places) > _MOST_NAMES and not self._text
        self._gave_up = self._numbers > 0 and (many or not self._named)

    @property
    def dropped(self) -> bool:
        """Whether the cells are numbers."""
        return self._gave_up or self._numbers > self._text

    def label(self) -> Label:
        """Return what was gathered."""
        return Label(np.concatenate(self._parts), tuple(self._places))


def _is_text(cell: str) -> bool:
    return not (is_number(cell) or is_comma_number(cell) or is_decorated_number(cell))


def is_whole(cell: str) -> bool:
    """Whether a cell is a whole number: 7, 007, -1, or 7.0 as pandas writes it beside a missing
    one.
    """
    return _WHOLE.fullmatch(cell) is not None


def _look(
    text: str,
    layout: Layout,
    path: Path,
    asked: TimeForm | None,
    decimals: Decimals,
    commas: Sequence[int],
    numbered: Sequence[int],
    texts: Sequence[int],
) -> Survey:
    """Go through all rows.

    commas   : columns whose numbers may have decimal commas
    numbered : columns that are named like identifiers
    texts    : columns that may be text
    """
    column, entity = TimeColumn(asked), _Codes(named=True)
    codes = {place: _Codes(named=place in numbered) for place in (*texts, *numbered)}
    row = 0
    for block in read_blocks(text, layout, path):
        column.add(time_cells(block.columns, layout.time))
        for place in commas:
            decimals.add(block.columns[place], row)
        for place, gathered in codes.items():
            gathered.add(block.columns[place])
        if codes:
            named = [block.columns[place] for place in layout.entity or ()]
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
    labels = {place: gathered.label() for place, gathered in codes.items() if not gathered.dropped}
    if not labels:
        return Survey(form, decimals.sign)
    time_ms, timed = column.times(form)
    owner = entity.label().codes.astype(np.int64)
    return Survey(form, decimals.sign, labels, time_ms, timed, owner)


def _doubtful(text: str, layout: Layout, path: Path, doubt: Doubt) -> DataError:
    return DataError(f"{path}, line {line_of(text, layout, path, doubt.row)}: {doubt.text}")
