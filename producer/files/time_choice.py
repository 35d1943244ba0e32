"""Decides the format of a column of times, from all of its cells.

Invariant: the choice depends on the whole column; if two formats fit, the error names both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from producer.files.columns import Doubt
from producer.files.time_forms import (
    DATES,
    DAY_FIRST,
    EPOCHS,
    ISO,
    MONTH_FIRST,
    Digits,
    Kind,
    Local,
    TimeForm,
    kind_of,
    read_digits,
    scan_digits,
    scan_local,
)
from producer.files.times import Flags, Times, parse_iso_times
from shared.events import DEFAULT_MIN_TIME_MS
from shared.kernels.units import DAY_MS
from shared.wording import second

_CONVINCING_DAYS = 3
"""If all cells are dates, on at least this many days, they are not taken for epochs.

In a series of epochs over this time, the digits of the hour would exceed 23 in 76 % of the cells.
"""

_NEARLY = 0.8
"""If this share of the epochs are dates as well, the rest may be invalid dates."""

_PLAUSIBLE_MS = (DEFAULT_MIN_TIME_MS, 1_970_000_000_000)
"""From 2000 to 2032; an epoch outside is accepted only where the cells are no dates."""

_Read = tuple[Times, Flags]


class TimeColumn:
    """Collects the cells of a column, then returns their format and their times.

    Memory: 8 to 18 bytes a cell.  Twin: tests/reference/times.py::choose.
    """

    def __init__(self, explicit: TimeForm | None = None) -> None:
        self._explicit = explicit
        self._kind: Kind | None = None if explicit is None else explicit.kind
        self._iso: list[_Read] = []
        self._digits: list[Digits] = []
        self._local: list[Local] = []

    def add(self, cells: Sequence[str]) -> None:
        """Add cells; the first possible timestamp determines the kind of all cells."""
        if self._kind is None:
            self._kind = next(filter(None, map(kind_of, dict.fromkeys(cells))), None)
        if self._kind is Kind.DIGITS:
            self._digits.append(scan_digits(cells))
        elif self._kind is Kind.LOCAL:
            self._local.append(scan_local(cells))
        elif self._kind is Kind.ISO:
            self._iso.append(parse_iso_times(cells))
        else:
            self._iso.append(_none(len(cells)))

    def choose(self) -> TimeForm | Doubt:
        """Return the format; ISO where no cell is a timestamp in any format."""
        if self._explicit is not None:
            return self._explicit
        chosen: TimeForm | Doubt = ISO
        if self._digits:
            chosen = choose_digits(self._all_digits())
        elif self._local:
            chosen = choose_local(self._all_local())
        if isinstance(chosen, Doubt):
            return Doubt(chosen.row + self._skipped, chosen.text)
        return chosen

    def times(self, form: TimeForm) -> _Read:
        """Return int64 (n,) ms since 1970 UTC and bool (n,) which cells have the format."""
        if self._digits:
            return _join([*self._iso, read_digits(self._all_digits(), form)])
        if self._local:
            return _join([*self._iso, self._all_local().read(form)])
        return _join(self._iso)

    @property
    def _skipped(self) -> int:
        """Number of cells in the blocks before the first possible timestamp."""
        return sum(len(valid) for _, valid in self._iso)

    def _all_digits(self) -> Digits:
        self._digits[:] = [Digits.join(self._digits)]
        return self._digits[0]

    def _all_local(self) -> Local:
        self._local[:] = [Local.join(self._local)]
        return self._local[0]


def _none(n: int) -> _Read:
    return np.zeros(n, np.int64), np.zeros(n, np.bool_)


def _join(parts: Sequence[_Read]) -> _Read:
    if not parts:
        return _none(0)
    return np.concatenate([time for time, _ in parts]), np.concatenate(
        [valid for _, valid in parts]
    )


def choose_digits(digits: Digits) -> TimeForm | Doubt:
    """Decide between epochs and dates written as digits.

    A number that begins with a four-digit year is a date, never an epoch (which would be in 1976 or
    after 2032). Where an epoch and a date with a two-digit year fit equally, the evidence is dates
    on at least three days, or steps that are all equal in only one reading; an epoch before 2000 or
    after 2032 then loses to a date.
    """
    possible = [form for form in (*EPOCHS, *DATES) if np.isin(digits.width, form.widths).any()]
    read = {form: read_digits(digits, form) for form in possible}
    fits = {form: int(valid.sum()) for form, (_, valid) in read.items()}
    most = max(fits.values(), default=0)
    if not most:
        return ISO
    best = [form for form, count in fits.items() if count == most]
    if len(best) > 1:
        return _settle(digits, best, read)
    [chosen] = best
    if chosen.unit:
        near = [form for form, count in fits.items() if not form.unit and count >= _NEARLY * most]
        time_ms, valid = read[chosen]
        steps = np.diff(time_ms[valid])
        if near and len(np.unique(steps)) > 1:
            return _mostly_dates(digits, chosen, near[0], read)
    return chosen


def _settle(
    digits: Digits, forms: Sequence[TimeForm], read: Mapping[TimeForm, _Read]
) -> TimeForm | Doubt:
    both = np.logical_and.reduce([read[form][1] for form in forms])
    if not both.any():  # a mixture: the cells that the first one contradicts are named as bad
        return min(forms, key=lambda form: int(np.argmax(read[form][1])))
    times = {form: np.unique(read[form][0][both]) for form in forms}
    epochs = [form for form in forms if form.unit]
    dates = [form for form in forms if not form.unit]
    if epochs and any(len(np.unique(times[form] // DAY_MS)) >= _CONVINCING_DAYS for form in dates):
        epochs = []
    low, high = _PLAUSIBLE_MS
    if dates:
        epochs = [form for form in epochs if low <= times[form][0] and times[form][-1] < high]
    left = [*epochs, *dates]
    if len(left) == 1:
        return left[0]
    irregular = {form: _irregular_steps(times[form]) for form in left}
    first, second = sorted(left, key=irregular.__getitem__)[:2]
    if irregular[first] < irregular[second] and (not epochs or not irregular[first]):
        return first
    return _doubt(digits, left, read, int(np.flatnonzero(both)[0]), "and so can the whole column")


def _irregular_steps(times: Times) -> int:
    """Count the steps that differ from the most common one.  times : int64 (n,), increasing."""
    _, counts = np.unique(np.diff(times), return_counts=True)
    return int(counts.sum() - counts.max(initial=0))


def _mostly_dates(
    digits: Digits, epoch: TimeForm, date: TimeForm, read: Mapping[TimeForm, _Read]
) -> Doubt:
    """Return the doubt that all cells are epochs but most of them are dates as well."""
    row = int(np.flatnonzero(~read[date][1] & read[epoch][1])[0])
    when = second(int(read[epoch][0][row]))
    share = f"{int(read[date][1].sum()):,} of the {len(digits):,} cells of the column are dates"
    return Doubt(
        row,
        f"{digits.whole[row]} is {when} as {epoch.text} and no date as {date.text}, but {share}"
        + _form_options((epoch, date)),
    )


def _doubt(
    digits: Digits, forms: Sequence[TimeForm], read: Mapping[TimeForm, _Read], row: int, also: str
) -> Doubt:
    readings = " or ".join(f"{second(int(read[form][0][row]))} as {form.text}" for form in forms)
    return Doubt(row, f"{digits.whole[row]} can be {readings}, {also}{_form_options(forms)}")


def _form_options(forms: Sequence[TimeForm]) -> str:
    return ": " + " or ".join(f"--time-format {form.name}" for form in forms) + " decides"


def choose_local(local: Local) -> TimeForm | Doubt:
    """Decide whether day or month comes first: the order that makes more cells valid dates."""
    day, month = int(local.day.sum()), int(local.month.sum())
    if day != month:
        return DAY_FIRST if day > month else MONTH_FIRST
    both = local.day & local.month
    differ = both & (local.day_ms != local.month_ms)
    if not differ.any():
        return DAY_FIRST
    row = int(np.flatnonzero(differ)[0])
    readings = f"{second(int(local.day_ms[row]))} or {second(int(local.month_ms[row]))}"
    return Doubt(
        row,
        f"the date can be {readings}, because no cell shows whether day or month comes first"
        + _form_options((DAY_FIRST, MONTH_FIRST)),
    )
