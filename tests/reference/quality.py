"""Slow and obviously right: data-quality signals from whole histories, each row judged from
scratch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MIN_INTERVALS, MEMORY, CLIP, TWICE, FADE, MIN_CHANGES = 10, 64, 3.0, 2.0, 1.0 - 1.0 / 1024.0, 10


@dataclass
class Series:
    """All rows of one (entity, metric) from its first value on: (time, value or NaN, later than the
    row before, limit).
    """

    rows: list[tuple[int, float, bool, float]] = field(default_factory=list)
    absences_said: set[int] = field(default_factory=set)
    stretches_said: set[int] = field(default_factory=set)

    @property
    def values(self):
        return [(t, value, limit) for t, value, _, limit in self.rows if not math.isnan(value)]

    def absence(self):
        """Return (rows of the present absence, longest earlier one, which absence it is)."""
        absent, longest, which = 0, 0.0, 0
        for _, value, later, _ in self.rows:
            if math.isnan(value):
                which += absent == 0 and later
                absent += later
            elif absent:
                longest, absent = max(longest, float(absent)), 0
            else:
                longest *= FADE
        return absent, longest, which

    def stretch(self):
        """Return (first and last time of the newest stretch of one value, longest earlier one,
        changes, which stretch).
        """
        stretches, changes = [], 0
        for (t, value, limit), before in zip(self.values, [None, *self.values], strict=False):
            if before is not None and value == before[1] and t - before[0] <= limit:
                stretches[-1][1] = t
                continue
            changes += before is not None and value != before[1]
            stretches.append([t, t])
        first, last = stretches[-1]
        return (
            first,
            last,
            max([b - a for a, b in stretches[:-1]], default=0),
            changes,
            len(stretches),
        )

    def is_missed(self):
        absent, longest, which = self.absence()
        return absent > TWICE * longest and which not in self.absences_said

    def is_flat(self, flat_ms):
        first, last, longest, changes, which = self.stretch()
        long = last - first > flat_ms and last - first > TWICE * longest
        return long and changes >= MIN_CHANGES and which not in self.stretches_said


DAY_MS, BIN_MS = 86_400_000, 300_000


def is_weekend(day):
    return (day + 3) % 7 >= 5


def is_usually_silent(times, place, cell):
    """Whether the days before, of the same kind or weekday, had no row in the same cell of bins."""
    day, bin_ = divmod(place, 288)
    first = bin_ - bin_ % cell
    bins = range(first, min(first + cell, 288))
    there = {t // BIN_MS for t in times}
    came = {
        age: any((day - age) * 288 + b in there for b in bins)
        for age in range(1, 28)
        if (day - age) * DAY_MS + first * BIN_MS >= times[0]
    }
    kind = [came[age] for age in came if age <= 14 and is_weekend(day - age) == is_weekend(day)]
    weekly = [came[age] for age in came if age % 7 == 0]
    if len(weekly) >= 2 and not any(weekly):
        return True
    return len(kind) >= 2 and sum(kind) <= len(kind) / 3


def usual_silence(times, since_ms, now_ms, interval):
    cell = max(1, math.ceil(2.0 * interval / BIN_MS))
    if cell > 144:
        return 0
    last = min(now_ms, since_ms + 10 * DAY_MS) // BIN_MS
    return BIN_MS * sum(
        is_usually_silent(times, place, cell) for place in range(since_ms // BIN_MS + 1, last)
    )


@dataclass
class Entity:
    newest_ms: int | None = None
    clock_ms: int = 0
    steps: list[tuple[int, int]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    series: dict[int, Series] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)
    repeated_ms: int | None = None
    stop_said: bool = False

    def usual(self, gap_intervals):
        """Return (usual interval, longest usual pause) of the steps so far; None where they are too
        few.
        """
        interval, pause = float(self.steps[0][0]) if self.steps else 0.0, 0.0
        for n, (dt, silent) in enumerate(self.steps):
            longest = (
                float(silent) if n < MIN_INTERVALS else TWICE * max(pause, gap_intervals * interval)
            )
            faded = pause * math.exp(-min(float(dt), CLIP * interval) / (3.0 * DAY_MS))
            pause = max(faded, min(float(silent), longest))
            interval = interval + (min(float(dt), CLIP * interval) - interval) / min(n + 1, MEMORY)
        return (interval, pause) if len(self.steps) >= MIN_INTERVALS else None

    def may_say(self, kind, now_ms, repeat_ms):
        if kind in self.said and now_ms - self.said[kind] < repeat_ms:
            return False
        self.said[kind] = now_ms
        return True


def watch(
    entity,
    time_ms,
    values,
    late_by_ms,
    ahead,
    duplicate,
    forgotten,
    gap_intervals,
    stopped_intervals,
    flat_ms,
    repeat_ms,
):
    """Return (signals, stale).

    A signal is (row, kind, entity, metric, since, amount, usual, others).

    Entities are looked through after every row, so this is the kernel's rule for fewer than 128
    entities.
    """
    entities: dict[int, Entity] = {}
    signals, stale = [], []

    def limit_of(who, intervals):
        usual = who.usual(gap_intervals)
        return math.inf if usual is None else max(intervals * usual[0], TWICE * usual[1])

    def usual_of(who):
        usual = who.usual(gap_intervals)
        return math.nan if usual is None else usual[0]

    def clock():
        newest = sorted(
            (who.newest_ms for who in entities.values() if who.newest_ms is not None), reverse=True
        )
        return newest[1] if len(newest) > 1 else None

    def overdue(who):
        limit = limit_of(who, stopped_intervals)
        if clock() is None or limit == math.inf:
            return False
        since = max(who.newest_ms, who.clock_ms)
        end = since + math.floor(limit)
        while clock() > end and end - since < 10 * DAY_MS:
            later = since + math.floor(limit)
            later += usual_silence(who.times, since, end, who.usual(gap_intervals)[0])
            if later == end:
                break
            end = later
        return clock() > end

    def say(row, kind, e, now_ms, metric, since_ms, amount, others=0):
        if entities[e].may_say(kind, now_ms, repeat_ms):
            signals.append(
                (row, kind, e, metric, since_ms, float(amount), usual_of(entities[e]), others)
            )
            return True
        return False

    for row, (e, t) in enumerate(zip(entity.tolist(), time_ms.tolist(), strict=True)):
        who = entities.setdefault(e, Entity())
        limit = limit_of(who, gap_intervals)
        stale.append(False)
        if ahead[row]:
            continue
        if late_by_ms[row] > 0:
            kind = "late" if late_by_ms[row] > limit else "out_of_order"
            say(row, kind, e, who.newest_ms, -1, who.newest_ms, late_by_ms[row])
            continue
        if duplicate[row]:
            say(row, "duplicate", e, who.newest_ms, -1, -1, 0)
            continue
        present = {
            m: value for m, value in enumerate(values[row].tolist()) if not math.isnan(value)
        }
        later = who.newest_ms is None or t > who.newest_ms
        if who.newest_ms is not None:
            stale[row] = overdue(who)
            silent = t - who.newest_ms
            if silent > limit:
                silent -= usual_silence(who.times, who.newest_ms, t, who.usual(gap_intervals)[0])
            if forgotten[row] or silent > limit:
                say(row, "gap", e, t, -1, who.newest_ms, t - who.newest_ms)
            if forgotten[row]:
                who.steps, who.series, who.repeated_ms, who.times = [], {}, None, []
            elif later:
                who.steps.append((t - who.newest_ms, silent))
            elif any(m in who.series and who.series[m].values[-1][0] == t for m in present):
                again = who.repeated_ms is not None and t - who.repeated_ms <= limit
                who.repeated_ms = t
                if again:
                    say(row, "repeated_time", e, t, -1, -1, 0)
        who.times.append(t)
        for m in present:
            who.series.setdefault(m, Series())
        for m, one in who.series.items():
            one.rows.append((t, present.get(m, math.nan), later, limit))
        if who.usual(gap_intervals):
            missed = [
                m for m in sorted(who.series) if m not in present and who.series[m].is_missed()
            ]
            since = who.series[missed[0]].values[-1][0] if missed else -1
            if missed and say(row, "missing", e, t, missed[0], since, len(missed), len(missed) - 1):
                for m in missed:
                    who.series[m].absences_said.add(who.series[m].absence()[2])
        flat = [m for m in sorted(present) if who.series[m].is_flat(flat_ms)]
        if flat and say(
            row,
            "flat_line",
            e,
            t,
            flat[0],
            who.series[flat[0]].stretch()[0],
            present[flat[0]],
            len(flat) - 1,
        ):
            for m in flat:
                who.series[m].stretches_said.add(who.series[m].stretch()[4])
        who.newest_ms, who.stop_said = t, False
        who.clock_ms = t if clock() is None else clock()
        for other in sorted(entities):
            its = entities[other]
            if overdue(its) and not its.stop_said:
                its.stop_said = say(
                    row, "stopped", other, clock(), -1, its.newest_ms, clock() - its.newest_ms
                )
    return signals, stale
