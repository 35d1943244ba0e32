"""Decides which columns name the entity, by their names and by the time steps they lead to.

Invariant: pure; an identifier is never a metric, and an uncertain case is a note or a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from producer.files.columns import (
    NameKind,
    are_states,
    listed,
    name_kind,
    names_a_metric,
    names_a_row,
    names_a_subject,
)
from producer.files.layout import Layout
from producer.files.numbers import is_number
from producer.files.survey import Label, Survey, is_whole
from producer.files.time_forms import Kind, is_time_of_day, kind_of
from producer.files.times import Times

_Codes = npt.NDArray[np.int64]

SHOWN = 3
RESOLVED = 0.05
"""Share of repeated times, or of backward steps, that may remain where a column separates rows."""

TIME_OF_DAY = "times of day without a date"

_SUBSTANTIAL = 0.2
_STEADY = 0.8
_TURNS = 0.9


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of columns.

    entity   : columns that together name the entity
    left_out : {column: reason}
    notes    : decisions and uncertainties
    refusal  : why the file cannot be read, "" if it can
    text     : columns left out that contain text other than times
    """

    entity: tuple[int, ...]
    left_out: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    refusal: str = ""
    text: tuple[int, ...] = ()


# -- time steps ------------------------------------------------------------------------------------


def repeated(time_ms: Times, codes: _Codes) -> int:
    """Count the rows that share their time with another row of the same code."""
    order = np.lexsort((time_ms, codes))
    time_ms, codes = time_ms[order], codes[order]
    same = np.zeros(len(order) + 1, np.bool_)
    same[1:-1] = (time_ms[1:] == time_ms[:-1]) & (codes[1:] == codes[:-1])
    return int((same[1:] | same[:-1]).sum())


def backward(time_ms: Times, codes: _Codes) -> int:
    """Count the backward steps in time between consecutive rows of the same code, in file order."""
    order = np.argsort(codes, kind="stable")
    time_ms, codes = time_ms[order], codes[order]
    return int(((time_ms[1:] < time_ms[:-1]) & (codes[1:] == codes[:-1])).sum())


def steady(time_ms: Times, codes: _Codes) -> tuple[float, float]:
    """Return how regular the time steps between rows of the same code are.

    returns : share of the steps within a quarter of the median, 0 without steps; the median in ms
    """
    order = np.lexsort((time_ms, codes))
    steps = np.diff(time_ms[order])[np.diff(codes[order]) == 0]
    if not len(steps):
        return 0.0, 0.0
    median = float(np.median(steps))
    return float(np.mean(np.abs(steps - median) <= median / 4)), median


def _pairs(base: _Codes, codes: npt.NDArray[np.integer]) -> _Codes:
    """Return codes of the pairs: equal where both codes are equal."""
    return base * (int(codes.max(initial=0)) + 1) + codes


@dataclass(frozen=True, slots=True)
class Clock:
    """The times of rows, grouped by the entity columns chosen so far.

    base     : int64 (n,)  code of each row's group
    repeated : rows that share their time with another row of the group
    backward : backward steps in time within the groups
    """

    time_ms: Times
    base: _Codes
    repeated: int
    backward: int

    @staticmethod
    def of(time_ms: Times, base: _Codes) -> Clock:
        """Count repeated times and backward steps."""
        return Clock(time_ms, base, repeated(time_ms, base), backward(time_ms, base))

    def joined(self, codes: npt.NDArray[np.integer]) -> _Codes:
        """Return codes of the groups that the base and further codes form together."""
        return _pairs(self.base, codes)

    def resolved_by(self, codes: npt.NDArray[np.integer]) -> bool:
        """Whether grouping by these codes as well removes repeated times or backward steps."""
        joined = self.joined(codes)
        if self.repeated >= _SUBSTANTIAL * len(self.time_ms) and self.repeated > 1:
            return repeated(self.time_ms, joined) <= RESOLVED * self.repeated
        distinct = len(np.unique(codes))
        if distinct > 1 and self.backward >= distinct - 1 and 3 * distinct <= len(codes):
            return backward(self.time_ms, joined) <= RESOLVED * self.backward
        return False

    def is_regular_within(self, codes: npt.NDArray[np.integer]) -> bool:
        """Whether steps are regular within each code, but not over all rows or only by turns."""
        share, median = steady(self.time_ms, self.base)
        own_share, own_median = steady(self.time_ms, self.joined(codes))
        turns = own_median >= _TURNS * len(np.unique(codes)) * median > 0
        return own_share >= _STEADY and (turns or share < own_share / 2)


# -- columns of names ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    index: int
    name: str
    codes: npt.NDArray[np.int32]
    label: Label
    whole: bool

    @property
    def distinct(self) -> int:
        return len(np.unique(self.codes))

    @property
    def may_name(self) -> bool:
        """Whether the column's name allows its cells to be entity names."""
        return (
            name_kind(self.name) is not NameKind.NOTHING
            if self.whole
            else names_a_subject(self.name)
        )

    @property
    def certain(self) -> bool:
        if name_kind(self.name) is NameKind.IDENTIFIER:
            return True
        return self.may_name and not (self.whole or self.mixed or are_states(self.label.values))

    @property
    def mixed(self) -> bool:
        """Whether the column has both numbers and text; it may hold numbers with bad cells."""
        return not self.whole and any(map(is_number, self.label.values))

    @property
    def shown(self) -> str:
        values = [value for value in self.label.values if value]
        first = listed(map(repr, values[:SHOWN]))
        return f"{first}, ..." if len(values) > SHOWN else first

    @property
    def counted(self) -> str:
        what = "whole numbers" if self.whole else "names"
        return (
            f"{self.name} ({self.distinct:,} distinct {what})"
            if self.distinct > 1
            else f"{self.name} ({self.shown} throughout)"
        )


def assign_roles(layout: Layout, found: Survey, numbers: Sequence[int], explicit: bool) -> Roles:
    """Assign a role to each column of names.

    numbers  : columns of numbers
    explicit : an option names the entity columns, so no other column is added
    """
    names, labels = layout.names, found.labels or {}
    if not labels or found.timed is None or found.time_ms is None or found.entity is None:
        return Roles(layout.entity or ())
    clock = Clock.of(found.time_ms[found.timed], found.entity[found.timed])
    left_out: dict[int, str] = {}
    candidates = []
    for index, label in labels.items():
        codes = label.codes[found.timed]
        reason = _plain_reason(names, index, label, found.timed)
        if reason == TIME_OF_DAY and clock.resolved_by(codes):
            joined = ",".join([*(names[i] for i in layout.time), names[index]])
            refusal = (
                f"column {names[index]} holds times of day; --time {joined} joins them to the dates"
            )
            return Roles((), refusal=refusal)
        if reason:
            left_out[index] = reason
        elif any(label.values) and names[index]:
            whole = all(is_whole(value) for value in label.values if value)
            candidates.append(_Candidate(index, names[index], codes, label, whole))
    measured = [
        *numbers,
        *(index for index in labels if index not in left_out and not names[index]),
    ]
    if not measured:
        candidates = [
            candidate for candidate in candidates if candidate.certain or not candidate.whole
        ]
    return _Choice(names, layout.entity, candidates, clock, len(measured), explicit).decide(
        left_out
    )


def _plain_reason(
    names: Sequence[str], index: int, label: Label, timed: npt.NDArray[np.bool_]
) -> str:
    """Return why a column has no role regardless of the others, "" if it may have one."""
    values = [value for value in label.values if value]
    if not values:
        return "" if names[index] else "it has neither a name nor cells"
    if names_a_row(names[index]) and all(map(is_whole, values)) and len(label.values) == len(timed):
        rows = [int(value.partition(".")[0]) for value in label.values]
        if rows[0] in (0, 1) and rows == list(range(rows[0], rows[0] + len(rows))):
            return "it numbers the rows"
    if all(kind_of(value) in (Kind.ISO, Kind.LOCAL) for value in values):
        return f"a second column of times ({values[0]})"
    if all(map(is_time_of_day, values)):
        return TIME_OF_DAY
    return ""


@dataclass(slots=True)
class _Choice:
    names: Sequence[str]
    entity: tuple[int, ...] | None
    candidates: list[_Candidate]
    clock: Clock
    measured: int
    explicit: bool
    notes: list[str] = field(default_factory=list)

    def decide(self, left_out: dict[int, str]) -> Roles:
        """Choose the entity columns, then assign a role to every other column."""
        chosen: list[_Candidate] = []
        if not self.explicit:
            found = self._choose()
            if isinstance(found, str):
                return Roles((), refusal=found)
            chosen = found
        entity = (*(self.entity or ()), *(candidate.index for candidate in chosen))
        codes = self.clock.base
        for candidate in chosen:
            self.notes.append(self._taken(candidate, chosen))
            codes = _pairs(codes, candidate.codes)
        after = Clock.of(self.clock.time_ms, codes) if chosen else self.clock
        for candidate in self.candidates:
            if candidate in chosen:
                continue
            refusal = self._long_form(candidate, after, entity)
            if refusal:
                return Roles((), refusal=refusal)
            reason = self._reason(candidate, after, entity)
            if reason:
                left_out[candidate.index] = reason
        text = tuple(
            candidate.index
            for candidate in self.candidates
            if not candidate.whole and candidate.index in left_out
        )
        return Roles(entity, left_out, tuple(self.notes), text=text)

    def _choose(self) -> list[_Candidate] | str:
        """Return the further columns that name the entity, or why it cannot be decided."""
        named = [candidate for candidate in self._varying() if candidate.may_name]
        resolving = [candidate for candidate in named if self.clock.resolved_by(candidate.codes)]
        resolving = resolving or [
            candidate for candidate in named if self.clock.is_regular_within(candidate.codes)
        ]
        resolving.sort(key=lambda candidate: not candidate.certain)
        if resolving:
            return resolving[:1]
        together = self._together(named)
        if together:
            return together
        if not any(candidate.certain for candidate in named):
            texts = [candidate for candidate in self._varying() if not candidate.whole]
            texts = [
                candidate
                for candidate in texts
                if not (names_a_metric(candidate.name) and self.measured == 1)
            ]
            resolving = [
                candidate for candidate in texts if self.clock.resolved_by(candidate.codes)
            ]
            if resolving:
                return resolving[:1]
        return [] if self.entity is not None else self._unproven()

    def _together(self, named: Sequence[_Candidate]) -> list[_Candidate]:
        """Return two or more columns that separate rows only in combination."""
        certain = [candidate for candidate in named if candidate.certain]
        group = certain if len(certain) > 1 else list(named)
        if len(group) < 2:
            return []
        codes = self.clock.base
        for candidate in group:
            codes = np.unique(_pairs(codes, candidate.codes), return_inverse=True)[1].astype(
                np.int64
            )
        return group if self.clock.resolved_by(codes) else []

    def _unproven(self) -> list[_Candidate] | str:
        """Decide where times give no evidence: by certain names only, if their cells vary."""
        varying = [candidate for candidate in self._varying() if candidate.certain]
        if not varying:
            return []
        finest = max(varying, key=lambda candidate: candidate.distinct)
        own = finest.codes.astype(np.int64)
        for candidate in varying:
            if len(np.unique(_pairs(own, candidate.codes))) > finest.distinct:
                return (
                    f"columns {finest.name} and {candidate.name} may both name the entity;"
                    f" --entity {finest.name} or --entity {finest.name},{candidate.name} decides"
                )
        if steady(self.clock.time_ms, self.clock.base)[0] < _STEADY:
            return [finest]
        if name_kind(finest.name) is not NameKind.IDENTIFIER:
            return []
        if steady(self.clock.time_ms, own)[0] < _STEADY:
            return (
                f"column {finest.counted} is named like an identifier, yet the rows together are"
                f" one regular series; --entity {finest.name} takes it as the entity, --entity ''"
                " none"
            )
        return [finest]

    def _varying(self) -> list[_Candidate]:
        return [
            candidate
            for candidate in self.candidates
            if candidate.distinct > 1 and self._recurs(candidate)
        ]

    def _recurs(self, candidate: _Candidate) -> bool:
        """Whether values repeat often enough to name series rather than single rows."""
        often = candidate.distinct == 1 or 2 * candidate.distinct <= len(candidate.codes)
        return often or self.clock.resolved_by(candidate.codes)

    def _taken(self, candidate: _Candidate, chosen: Sequence[_Candidate]) -> str:
        named = [self.names[index] for index in self.entity or ()]
        whole = [*named, *(other.name for other in chosen)]
        if len(whole) > 1:
            part = f"a part of the entity, {'/'.join(whole)}"
            return f"column {candidate.counted} is taken as {part}; --entity names other columns"
        return f"column {candidate.counted} is taken as the entity; --entity names another"

    def _long_form(self, candidate: _Candidate, after: Clock, entity: Sequence[int]) -> str:
        """Return a refusal where a column names the metric of the only number in its row."""
        if (
            candidate.whole
            or candidate.distinct < 2
            or not names_a_metric(candidate.name)
            or self.measured != 1
        ):
            return ""
        per_entity = len(np.unique(after.joined(candidate.codes))) > len(np.unique(after.base))
        if not per_entity or not (self._recurs(candidate) or after.resolved_by(candidate.codes)):
            return ""
        wanted = ",".join([*(self.names[index] for index in entity), candidate.name])
        return (
            f"column {candidate.name} names the metric of each row ({candidate.shown}),"
            " and such files"
            " cannot be read directly; write one column per metric, or read each metric as a"
            f" separate series: --entity {wanted}"
        )

    def _reason(self, candidate: _Candidate, after: Clock, entity: Sequence[int]) -> str:
        """Return why a column is left out, "" where it stays a metric."""
        wanted = ",".join([*(self.names[index] for index in entity), candidate.name])
        varies = len(np.unique(after.joined(candidate.codes))) > len(np.unique(after.base))
        hint = ""
        if (
            (varies or candidate.certain)
            and self._recurs(candidate)
            and not are_states(candidate.label.values)
        ):
            hint = f"; --entity {wanted} makes it part of the entity"
        if candidate.mixed and not candidate.certain:
            return ""
        if not candidate.whole:
            return f"text ({candidate.shown}){hint}"
        if candidate.certain:
            return f"an identifier ({candidate.shown}) is no metric{hint}"
        settled = bool(entity) and not after.repeated and not after.backward
        if settled or name_kind(candidate.name) is NameKind.NOTHING:
            return ""
        self.notes.append(
            f"column {candidate.counted} is taken as a metric,"
            " though it is named like something that is"
            f" numbered; if it is an identifier: --entity {wanted}"
        )
        return ""
