"""Reference data-quality signals from whole histories, each row judged from scratch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

MIN_INTERVALS, MIN_COVERED_MS, CLIP, TWICE, MIN_CHANGES = 10, 600_000, 3.0, 2.0, 10
DAY_MS, BIN_MS = 86_400_000, 300_000


@dataclass
class Rhythm:
    """All intervals of an entity's rows or a metric's values: (length, unusual part of it, end)."""

    intervals: list[tuple[float, float, int]] = field(default_factory=list)
    results: dict[int, tuple[float, float]] = field(default_factory=dict)
    pauses: dict[int, dict[int, float]] = field(default_factory=dict)

    @property
    def is_known(self):
        covered_ms = sum(length for length, _, _ in self.intervals)
        return len(self.intervals) >= MIN_INTERVALS and covered_ms >= MIN_COVERED_MS

    @property
    def first_known(self):
        """Number of intervals with which the usual one became known."""
        return next(
            n for n in range(1, len(self.intervals) + 1) if Rhythm(self.intervals[:n]).is_known
        )

    def usual(self, gap_intervals):
        """Return (usual interval in ms, longest usual pause in intervals) once it is known."""
        n = len(self.intervals)
        if n not in self.results:
            first = self.first_known
            before = Rhythm(self.intervals[:-1], self.results, self.pauses)
            interval = before.next_interval(self, gap_intervals) if n > first else self.median()
            longer = self.much_longer(first, gap_intervals)
            anew = len(longer) >= 5 and len(longer) % 5 == 0
            pauses: dict[int, float] = {}
            if n == first:
                longest = max(silent for _, silent, _ in self.intervals)
                pauses[self.intervals[-1][2] // DAY_MS] = longest / interval
            else:
                pauses = dict(self.pauses[n - 1])
                day, pause = self.intervals[-1][2] // DAY_MS, before.pause(self, gap_intervals)
                pauses[day] = max(pauses.get(day, 0.0), pause)
            if anew:
                interval, pauses = min(longer[-5:]), {max(pauses): 1.0}
            self.pauses[n] = pauses
            *earlier, newest = [pauses[day] for day in sorted(pauses)][-15:]
            ranked = sorted([newest, *(float(np.float32(x)) for x in earlier)], reverse=True)
            self.results[n] = interval, ranked[len(earlier) // 4]
        return self.results[n]

    def median(self):
        """Return the time-weighted median of the newest ten intervals."""
        lengths = sorted(float(np.float32(length)) for length, _, _ in self.intervals[-10:])
        weights = [min(length, 4.0 * lengths[5]) for length in lengths]
        half = sum(weights) / 2
        return next(x for k, x in enumerate(lengths) if sum(weights[: k + 1]) >= half)

    def next_interval(self, after, gap_intervals):
        """Return the usual interval after one more."""
        length, usual = after.intervals[-1][0], self.usual(gap_intervals)[0]
        most = min(0.15 * min(length, 4.0 * usual) / usual, 0.1)
        return usual * math.exp(min(max(math.log(length / usual), -most), most))

    def much_longer(self, first, gap_intervals):
        """Return the newest intervals in a row that are 2.5 times as long as usual then."""
        longer = []
        for k in range(len(self.intervals) - 1, first - 1, -1):
            length, silent, _ = self.intervals[k]
            usual = Rhythm(self.intervals[:k], self.results, self.pauses).usual(gap_intervals)[0]
            if silent <= 2.5 * usual:
                break
            longer.insert(0, length)
        return longer

    def pause(self, after, gap_intervals):
        """Return what the next interval counts as a pause, in usual intervals."""
        allowed = self.limit(gap_intervals, gap_intervals)
        return min(after.intervals[-1][1], allowed) / self.usual(gap_intervals)[0]

    def now(self, gap_intervals):
        """Return the usual interval; before it is known the newest one."""
        return self.usual(gap_intervals)[0] if self.is_known else self.intervals[-1][0]

    def limit(self, intervals, gap_intervals):
        """Return the longest silence that is allowed, in ms."""
        if not self.is_known:
            return math.inf
        usual, pause = self.usual(gap_intervals)
        return max(intervals, TWICE * pause) * usual


def is_weekend(day):
    return (day + 3) % 7 >= 5


def is_usually_silent(times, place, near, bin_ms):
    """Whether the days before, of the same kind or weekday, had no row in the bins around."""
    bins = DAY_MS // bin_ms
    day = place // bins
    there = {t // bin_ms for t in times}
    came = {
        age: any(place - age * bins + b in there for b in range(-near, near + 1))
        for age in range(1, 27)
        if (place - age * bins - near) * bin_ms >= times[0]
    }
    kind = [came[age] for age in came if age <= 14 and is_weekend(day - age) == is_weekend(day)]
    weekly = [came[age] for age in came if age % 7 == 0]
    if len(weekly) >= 2 and not any(weekly):
        return True
    return len(kind) >= 2 and sum(kind) <= len(kind) / 3


def usual_silence(times, since_ms, now_ms, interval, bin_ms=BIN_MS):
    """Return for how many ms of a silence a bin less than an interval away is usually silent."""
    near = math.ceil(interval / bin_ms) if interval >= bin_ms / 2 else 0
    if near > DAY_MS // bin_ms // 2:
        return 0
    end_ms = min(now_ms, since_ms + 10 * DAY_MS)
    spans = [
        (max((place - near - 1) * bin_ms, since_ms), min((place + near + 2) * bin_ms, end_ms))
        for place in range(since_ms // bin_ms + 1, end_ms // bin_ms + 1)
        if is_usually_silent(times, place, near, bin_ms)
    ]
    total, counted = 0, since_ms
    for start, end in spans:
        total += max(0, end - max(start, counted))
        counted = end
    return total


@dataclass
class Series:
    """All rows of one (entity, metric) from its first value on.

    rows : (time, value or NaN, time that the row covers, limit)
    """

    rows: list[tuple[int, float, float, float]] = field(default_factory=list)
    absences_reported: set[int] = field(default_factory=set)
    stretches_reported: set[int] = field(default_factory=set)
    results: dict[int, tuple[float, float]] = field(default_factory=dict)
    pauses: dict[int, dict[int, float]] = field(default_factory=dict)
    unusual_parts: dict[tuple[int, int], float] = field(default_factory=dict)

    @property
    def values(self):
        return [(t, value, limit) for t, value, _, limit in self.rows if not math.isnan(value)]

    def absence(self, gap_intervals):
        """Return (time without a value so far, intervals between values, values so far)."""
        absent, times = 0.0, []
        rhythm = Rhythm([], self.results, self.pauses)
        for t, value, covered, _ in self.rows:
            absent += covered if times else 0.0
            if math.isnan(value):
                continue
            if absent > 0.0:
                silent = self.unusual(rhythm, times, absent, t, gap_intervals)
                rhythm.intervals.append((absent, silent, t))
            absent = 0.0
            times.append(t)
        return absent, rhythm, times

    def unusual(self, rhythm, times, absent, t, gap_intervals):
        """Return the part of an absence that does not recur."""
        key = (len(times), t)
        if key not in self.unusual_parts:
            part = absent
            if rhythm.is_known and absent > gap_intervals * rhythm.usual(gap_intervals)[0]:
                interval = rhythm.usual(gap_intervals)[0]
                usual = usual_silence(times, times[-1], t, interval, 6 * BIN_MS)
                part = max(absent - usual, 1.0)
            self.unusual_parts[key] = part
        return self.unusual_parts[key]

    def stretch(self, flat_ms):
        """Describe the newest stretch of one unchanged value.

        returns : its first time, its last time, longest usual length of a stretch, changes of the
                  value so far, number of stretches so far
        """
        stretches, changes = [], 0
        for (t, value, limit), before in zip(self.values, [None, *self.values], strict=False):
            if before is not None and value == before[1] and t - before[0] <= limit:
                stretches[-1][1] = t
                continue
            changes += before is not None and value != before[1]
            stretches.append([t, t])
        longest = 0.0
        for (first, last), (then, _) in pairwise(stretches):
            counted = min(float(last - first), max(flat_ms, TWICE * longest))
            kept = 1.0 - min((then - first) / (28.0 * DAY_MS), 1.0)
            longest = max(longest * kept, counted)
        first, last = stretches[-1]
        return first, last, longest, changes, len(stretches)

    def is_missed(self, gap_intervals):
        absent, rhythm, times = self.absence(gap_intervals)
        limit = rhythm.limit(gap_intervals, gap_intervals)
        (before, *_), (now, _, covered, _) = self.rows[-2:]
        is_due = absent - covered <= limit or now // (6 * BIN_MS) > before // (6 * BIN_MS)
        if absent <= limit or not is_due or len(times) in self.absences_reported:
            return False
        return self.unusual(rhythm, times, absent, now, gap_intervals) > limit

    def is_flat(self, flat_ms):
        first, last, longest, changes, which = self.stretch(flat_ms)
        is_long = last - first > max(flat_ms, TWICE * longest)
        return is_long and changes >= MIN_CHANGES and which not in self.stretches_reported


@dataclass
class Entity:
    newest_ms: int | None = None
    clock_ms: int = 0
    rhythm: Rhythm = field(default_factory=Rhythm)
    times: list[int] = field(default_factory=list)
    series: dict[int, Series] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)
    repeated_ms: int | None = None
    stop_reported: bool = False

    def may_report(self, kind, now_ms, repeat_ms):
        is_disorder = kind in ("late", "out_of_order", "duplicate", "repeated_time")
        least_ms = 3 * repeat_ms if is_disorder else repeat_ms
        may = kind not in self.reported or now_ms - self.reported[kind] >= least_ms
        if may or is_disorder:
            self.reported[kind] = now_ms
        return may


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
    signals, stale, resumed_ms = [], [], 0

    def usual_of(rhythm):
        return rhythm.usual(gap_intervals)[0] if rhythm.is_known else math.nan

    def clock():
        newest = sorted(
            (who.newest_ms for who in entities.values() if who.newest_ms is not None), reverse=True
        )
        return newest[1] if len(newest) > 1 else None

    def overdue(who):
        limit = who.rhythm.limit(stopped_intervals, gap_intervals)
        if clock() is None or limit == math.inf:
            return False
        since = max(who.newest_ms, who.clock_ms, resumed_ms)
        end = since + math.floor(limit)
        while clock() > end and end - since < 10 * DAY_MS:
            later = since + math.floor(limit)
            later += usual_silence(who.times, since, end, who.rhythm.usual(gap_intervals)[0])
            if later <= end:
                break
            end = later
        return clock() > end

    def report(row, kind, e, now_ms, metric, since_ms, amount, others=0, rhythm=None):
        if entities[e].may_report(kind, now_ms, repeat_ms):
            usual_ms = usual_of(rhythm or entities[e].rhythm)
            signals.append((row, kind, e, metric, since_ms, float(amount), usual_ms, others))
            return True
        return False

    for row, (e, t) in enumerate(zip(entity.tolist(), time_ms.tolist(), strict=True)):
        who = entities.setdefault(e, Entity())
        limit = who.rhythm.limit(gap_intervals, gap_intervals)
        stale.append(False)
        if ahead[row]:
            continue
        if late_by_ms[row] > 0:
            kind = "late" if late_by_ms[row] > limit else "out_of_order"
            report(row, kind, e, who.newest_ms, -1, who.newest_ms, late_by_ms[row])
            continue
        if duplicate[row]:
            report(row, "duplicate", e, who.newest_ms, -1, -1, 0)
            continue
        present = {
            m: value for m, value in enumerate(values[row].tolist()) if not math.isnan(value)
        }
        later = who.newest_ms is None or t > who.newest_ms
        if who.newest_ms is not None:
            stale[row] = overdue(who)
            silent = t - who.newest_ms
            if silent > gap_intervals * usual_of(who.rhythm):
                silent -= usual_silence(
                    who.times, who.newest_ms, t, who.rhythm.usual(gap_intervals)[0]
                )
            if forgotten[row] or silent > limit:
                report(row, "gap", e, t, -1, who.newest_ms, t - who.newest_ms)
            if forgotten[row]:
                who.rhythm, who.series, who.repeated_ms, who.times = Rhythm(), {}, None, []
            elif later:
                who.rhythm.intervals.append((float(t - who.newest_ms), float(silent), t))
            elif any(m in who.series and who.series[m].values[-1][0] == t for m in present):
                is_second = who.repeated_ms is not None and t - who.repeated_ms <= limit
                who.repeated_ms = t
                if is_second:
                    report(row, "repeated_time", e, t, -1, -1, 0)
        who.times.append(t)
        covered = 0.0 if who.newest_ms is None else float(t - who.newest_ms)
        if who.rhythm.intervals:
            covered = min(covered, CLIP * who.rhythm.now(gap_intervals))
        for m in present:
            who.series.setdefault(m, Series())
        for m, one in who.series.items():
            one.rows.append((t, present.get(m, math.nan), covered, limit))
        if who.rhythm.is_known:
            missed = [
                m
                for m in sorted(who.series)
                if m not in present and who.series[m].is_missed(gap_intervals)
            ]
            if missed:
                first = who.series[missed[0]]
                since, rhythm = first.values[-1][0], first.absence(gap_intervals)[1]
                count = len(missed)
                if report(row, "missing", e, t, missed[0], since, count, count - 1, rhythm):
                    for m in missed:
                        times = who.series[m].absence(gap_intervals)[2]
                        who.series[m].absences_reported.add(len(times))
        flat = [m for m in sorted(present) if who.series[m].is_flat(flat_ms)]
        if flat and report(
            row,
            "flat_line",
            e,
            t,
            flat[0],
            who.series[flat[0]].stretch(flat_ms)[0],
            present[flat[0]],
            len(flat) - 1,
        ):
            for m in flat:
                who.series[m].stretches_reported.add(who.series[m].stretch(flat_ms)[4])
        clock_before = clock() or 0
        who.newest_ms, who.stop_reported = t, False
        who.clock_ms = t if clock() is None else clock()
        if (clock() or 0) - clock_before > limit:
            resumed_ms = clock()
        for other in sorted(entities):
            its = entities[other]
            if overdue(its) and not its.stop_reported:
                its.stop_reported = report(
                    row, "stopped", other, clock(), -1, its.newest_ms, clock() - its.newest_ms
                )
    return signals, stale
