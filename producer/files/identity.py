"""Decides which columns say what a row is about, by their names and by what they do to the times.

Invariant: pure; an identifier is never a metric, and what is uncertain is a note or a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from producer.files.columns import (
    Says,
    are_states,
    listed,
    names_a_metric,
    names_a_row,
    names_a_thing,
    says,
)
from producer.files.layout import Layout
from producer.files.numbers import is_number
from producer.files.survey import Label, Survey, is_whole
from producer.files.time_forms import Kind, is_time_of_day, kind_of
from producer.files.times import Times

_Codes = npt.NDArray[np.int64]

SHOWN = 3
RESOLVED = 0.05
"""Share of repeated times, or of steps back, that may be left where a column tells rows apart."""

TIME_OF_DAY = "times of day without a date"

_SUBSTANTIAL = 0.2
_STEADY = 0.8
_TURNS = 0.9


@dataclass(frozen=True, slots=True)
class Roles:
    """What columns are.

    entity   : columns that name the entity together
    left_out : {column: reason}
    notes    : what was decided, and what is uncertain
    refusal  : why the file cannot be read, "" if it can
    text     : those of the left out that are text and no times
    """

    entity: tuple[int, ...]
    left_out: dict[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    refusal: str = ""
    text: tuple[int, ...] = ()


# -- what times say --------------------------------------------------------------------------------


def repeated(time_ms: Times, codes: _Codes) -> int:
    """Count the rows that share their time with another row of the same code."""
    order = np.lexsort((time_ms, codes))
    time_ms, codes = time_ms[order], codes[order]
    same = np.zeros(len(order) + 1, np.bool_)
    same[1:-1] = (time_ms[1:] == time_ms[:-1]) & (codes[1:] == codes[:-1])
    return int((same[1:] | same[:-1]).sum())


def backward(time_ms: Times, codes: _Codes) -> int:
    """Count the steps back in time from a row to the next one of the same code, in file order."""
    order = np.argsort(codes, kind="stable")
    time_ms, codes = time_ms[order], codes[order]
    return int(((time_ms[1:] < time_ms[:-1]) & (codes[1:] == codes[:-1])).sum())


def steady(time_ms: Times, codes: _Codes) -> tuple[float, float]:
    """Return how even the steps are, from a row to the next one of the same code in time.

    returns : share of the steps within a quarter of the median, 0 without steps; the median in ms
    """
    order = np.lexsort((time_ms, codes))
    steps = np.diff(time_ms[order])[np.diff(codes[order]) == 0]
    if not len(steps):
        return 0.0, 0.0
    median = float(np.median(steps))
    return float(np.mean(np.abs(steps - median) <= median / 4)), median


def _pairs(base: _Codes, codes: npt.NDArray[np.integer]) -> _Codes:
    """Return codes that are equal where both are."""
    return base * (int(codes.max(initial=0)) + 1) + codes


@dataclass(frozen=True, slots=True)
class Clock:
    """How the times of rows go when only the columns named so far tell rows apart."""

    time_ms: Times
    base: _Codes
    repeated: int
    backward: int

    @staticmethod
    def of(time_ms: Times, base: _Codes) -> Clock:
        """Count."""
        return Clock(time_ms, base, repeated(time_ms, base), backward(time_ms, base))

    def joined(self, codes: npt.NDArray[np.integer]) -> _Codes:
        """Return codes of rows that are told apart by the base and by further codes."""
        return _pairs(self.base, codes)

    def resolved_by(self, codes: npt.NDArray[np.integer]) -> bool:
        """Whether telling rows apart by codes removes equal times, or times that go back."""
        joined = self.joined(codes)
        if self.repeated >= _SUBSTANTIAL * len(self.time_ms) and self.repeated > 1:
            return repeated(self.time_ms, joined) <= RESOLVED * self.repeated
        distinct = len(np.unique(codes))
        if distinct > 1 and self.backward >= distinct - 1 and 3 * distinct <= len(codes):
            return backward(self.time_ms, joined) <= RESOLVED * self.backward
        return False

    def evened_by(self, codes: npt.NDArray[np.integer]) -> bool:
        """Whether rows of one code come at even steps; all rows do not, or only by taking turns."""
        share, median = steady(self.time_ms, self.base)
        own_share, own_median = steady(self.time_ms, self.joined(codes))
        turns = own_median >= _TURNS * len(np.unique(codes)) * median > 0
        return own_share >= _STEADY and (turns or share < own_share / 2)


# -- columns of names ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    place: int
    name: str
    codes: npt.NDArray[np.int32]
    label: Label
    whole: bool

    @property
    def distinct(self) -> int:
        return len(np.unique(self.codes))

    @property
    def may_name(self) -> bool:
        """Whether the name says that the cells may name what a row is about."""
        return says(self.name) is not Says.NOTHING if self.whole else names_a_thing(self.name)

    @property
    def certain(self) -> bool:
        if says(self.name) is Says.IDENTIFIER:
            return True
        return self.may_name and not (self.whole or self.mixed or are_states(self.label.values))

    @property
    def mixed(self) -> bool:
        """Whether numbers stand beside text, which may be numbers with bad cells."""
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


def judge(layout: Layout, found: Survey, numbers: Sequence[int], asked: bool) -> Roles:
    """Decide about the columns of names.

    numbers : columns of numbers
    asked   : the entity was asked for by an option, so nothing is added to it
    """
    names, labels = layout.names, found.labels or {}
    if not labels or found.timed is None or found.time_ms is None or found.entity is None:
        return Roles(layout.entity or ())
    clock = Clock.of(found.time_ms[found.timed], found.entity[found.timed])
    left_out: dict[int, str] = {}
    candidates = []
    for place, label in labels.items():
        codes = label.codes[found.timed]
        reason = _plain_reason(names, place, label, found.timed)
        if reason == TIME_OF_DAY and clock.resolved_by(codes):
            joined = ",".join([*(names[i] for i in layout.time), names[place]])
            said = (
                f"column {names[place]} holds times of day; --time {joined} joins them to the dates"
            )
            return Roles((), refusal=said)
        if reason:
            left_out[place] = reason
        elif any(label.values) and names[place]:
            whole = all(is_whole(value) for value in label.values if value)
            candidates.append(_Candidate(place, names[place], codes, label, whole))
    measured = [
        *numbers,
        *(place for place in labels if place not in left_out and not names[place]),
    ]
    if not measured:
        candidates = [one for one in candidates if one.certain or not one.whole]
    return _Choice(names, layout.entity, candidates, clock, len(measured), asked).decide(left_out)


def _plain_reason(
    names: Sequence[str], place: int, label: Label, timed: npt.NDArray[np.bool_]
) -> str:
    """Return why a column is nothing whatever the others are, "" if it may be something."""
    values = [value for value in label.values if value]
    if not values:
        return "" if names[place] else "it has neither a name nor cells"
    if names_a_row(names[place]) and all(map(is_whole, values)) and len(label.values) == len(timed):
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
    asked: bool
    notes: list[str] = field(default_factory=list)

    def decide(self, left_out: dict[int, str]) -> Roles:
        """Choose the entity, then say of every other column what it is."""
        chosen: list[_Candidate] = []
        if not self.asked:
            found = self._choose()
            if isinstance(found, str):
                return Roles((), refusal=found)
            chosen = found
        entity = (*(self.entity or ()), *(one.place for one in chosen))
        codes = self.clock.base
        for one in chosen:
            self.notes.append(self._taken(one, chosen))
            codes = _pairs(codes, one.codes)
        after = Clock.of(self.clock.time_ms, codes) if chosen else self.clock
        for one in self.candidates:
            if one in chosen:
                continue
            refusal = self._long_form(one, after, entity)
            if refusal:
                return Roles((), refusal=refusal)
            reason = self._reason(one, after, entity)
            if reason:
                left_out[one.place] = reason
        text = tuple(
            one.place for one in self.candidates if not one.whole and one.place in left_out
        )
        return Roles(entity, left_out, tuple(self.notes), text=text)

    def _choose(self) -> list[_Candidate] | str:
        """Return the columns that name the entity beside those named already, or why nothing
        decides.
        """
        named = [one for one in self._varying() if one.may_name]
        resolving = [one for one in named if self.clock.resolved_by(one.codes)]
        resolving = resolving or [one for one in named if self.clock.evened_by(one.codes)]
        resolving.sort(key=lambda one: not one.certain)
        if resolving:
            return resolving[:1]
        together = self._together(named)
        if together:
            return together
        if not any(one.certain for one in named):
            texts = [one for one in self._varying() if not one.whole]
            texts = [one for one in texts if not (names_a_metric(one.name) and self.measured == 1)]
            resolving = [one for one in texts if self.clock.resolved_by(one.codes)]
            if resolving:
                return resolving[:1]
        return [] if self.entity is not None else self._unproven()

    def _together(self, named: Sequence[_Candidate]) -> list[_Candidate]:
        """Return two columns or more that tell rows apart only together."""
        certain = [one for one in named if one.certain]
        group = certain if len(certain) > 1 else list(named)
        if len(group) < 2:
            return []
        codes = self.clock.base
        for one in group:
            codes = np.unique(_pairs(codes, one.codes), return_inverse=True)[1].astype(np.int64)
        return group if self.clock.resolved_by(codes) else []

    def _unproven(self) -> list[_Candidate] | str:
        """Decide where no time tells: by certain names alone, and only by cells that vary."""
        varying = [one for one in self._varying() if one.certain]
        if not varying:
            return []
        finest = max(varying, key=lambda one: one.distinct)
        own = finest.codes.astype(np.int64)
        for one in varying:
            if len(np.unique(_pairs(own, one.codes))) > finest.distinct:
                return (
                    f"columns {finest.name} and {one.name} may both name the entity;"
                    f" --entity {finest.name} or --entity {finest.name},{one.name} decides"
                )
        if steady(self.clock.time_ms, self.clock.base)[0] < _STEADY:
            return [finest]
        if says(finest.name) is not Says.IDENTIFIER:
            return []
        if steady(self.clock.time_ms, own)[0] < _STEADY:
            return (
                f"column {finest.counted} is named like an identifier, yet the rows together are"
                f" one regular series; --entity {finest.name} takes it as the entity, --entity ''"
                " none"
            )
        return [finest]

    def _varying(self) -> list[_Candidate]:
        return [one for one in self.candidates if one.distinct > 1 and self._recurs(one)]

    def _recurs(self, one: _Candidate) -> bool:
        """Whether names come again often enough to be those of series, not of single rows."""
        often = one.distinct == 1 or 2 * one.distinct <= len(one.codes)
        return often or self.clock.resolved_by(one.codes)

    def _taken(self, one: _Candidate, chosen: Sequence[_Candidate]) -> str:
        named = [self.names[place] for place in self.entity or ()]
        whole = [*named, *(other.name for other in chosen)]
        if len(whole) > 1:
            part = f"a part of the entity, {'/'.join(whole)}"
            return f"column {one.counted} is taken as {part}; --entity names other columns"
        return f"column {one.counted} is taken as the entity; --entity names another"

    def _long_form(self, one: _Candidate, after: Clock, entity: Sequence[int]) -> str:
        """Return a refusal where a column says which metric the one number of its row is."""
        if one.whole or one.distinct < 2 or not names_a_metric(one.name) or self.measured != 1:
            return ""
        per_entity = len(np.unique(after.joined(one.codes))) > len(np.unique(after.base))
        if not per_entity or not (self._recurs(one) or after.resolved_by(one.codes)):
            return ""
        wanted = ",".join([*(self.names[place] for place in entity), one.name])
        return (
            f"column {one.name} says which metric the value of a row is ({one.shown}), and such"
            " files are not read as they are; write one column per metric, or take each as a"
            f" series of its own: --entity {wanted}"
        )

    def _reason(self, one: _Candidate, after: Clock, entity: Sequence[int]) -> str:
        """Return why a column is left out, "" where it stays a metric."""
        wanted = ",".join([*(self.names[place] for place in entity), one.name])
        varies = len(np.unique(after.joined(one.codes))) > len(np.unique(after.base))
        hint = ""
        if (varies or one.certain) and self._recurs(one) and not are_states(one.label.values):
            hint = f"; --entity {wanted} makes it part of the entity"
        if one.mixed and not one.certain:
            return ""
        if not one.whole:
            return f"text ({one.shown}){hint}"
        if one.certain:
            return f"an identifier ({one.shown}) is no metric{hint}"
        settled = bool(entity) and not after.repeated and not after.backward
        if settled or says(one.name) is Says.NOTHING:
            return ""
        self.notes.append(
            f"column {one.counted} is taken as a metric, though it is named like something that is"
            f" numbered; if it is an identifier: --entity {wanted}"
        )
        return ""
