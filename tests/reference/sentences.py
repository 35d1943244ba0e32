"""Slow and obviously right: each claim of a reason, recomputed from the rows before its own.

``check`` reads a reason, and raises AssertionError where a claim does not hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
QUARTER_MS = 15 * MINUTE_MS
ROUNDING = 0.006
"""Share of a number that three digits lose, and a little of what a code of two bytes does."""

_N = r"(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]\d+)?)"
_CLOCK = r"(\d\d:\d\d)"
_MOMENT = r"((?:\d{4}-\d\d-\d\d )?\d\d:\d\d)"
_SPAN = r"((?:\d+ (?:d|h|min|s) ?)+)"
_UNIT = (
    r"(?: as the mean of a minute| per second over a minute \(it is a total\)"
    r"| per second \(it is a total\))?"
)


def number(text: str) -> float:
    """Return the number that a text shows."""
    return float(text.replace(",", ""))


def close(shown: float, exact: float, slack: float = 0.0) -> bool:
    """Whether a number is another one but for rounding."""
    return abs(shown - exact) <= ROUNDING * abs(exact) + slack + 1e-12


@dataclass
class Rows:
    """One metric of one entity up to a row: what was scored, in order of time.

    time_ms : int64 (n,), values : float64 (n,)
    zone    : IANA name
    single  : whether each value was scored as it came; False = there were several in a bin
    """

    time_ms: Any
    values: Any
    zone: str
    single: bool
    step_ms: int

    def local(self, time_ms: int) -> datetime:
        """Return local time."""
        return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(self.zone))

    @cached_property
    def local_ms(self) -> Any:
        """Milliseconds of local time since 1970."""
        days = np.unique(self.time_ms // HOUR_MS)
        shift = {
            int(hour): round(self.local(int(hour) * HOUR_MS).utcoffset().total_seconds()) * 1000  # type: ignore[union-attr]
            for hour in days
        }
        return self.time_ms + np.array([shift[int(t) // HOUR_MS] for t in self.time_ms])

    def before(self, at: int) -> Rows:
        """Return the rows before a time."""
        keep = self.time_ms < at
        return Rows(self.time_ms[keep], self.values[keep], self.zone, self.single, self.step_ms)

    def local_of(self, time_ms: int) -> int:
        """Return milliseconds of local time since 1970."""
        return time_ms + round(self.local(time_ms).utcoffset().total_seconds()) * 1000  # type: ignore[union-attr]

    @property
    def near_ms(self) -> int:
        """A quarter of an hour, or as much as one value of coarse data stands for."""
        return max(QUARTER_MS, 2 * self.step_ms)

    def same_time(self, at: int, near_ms: int = 0, days: int = 28) -> tuple[Any, Any]:
        """Return age in days and value of what came about this time of day on days before."""
        ago = self.local_of(at) - self.local_ms
        age = np.round(ago / DAY_MS).astype(int)
        near = (abs(ago - age * DAY_MS) <= (near_ms or self.near_ms)) & (age >= 1) & (age <= days)
        near &= self.time_ms < at - DAY_MS // 2
        return age[near], self.values[near]

    def windows(self, at: int, near_ms: int = 0) -> list[Any]:
        """Return the values that a time of day is compared with."""
        age, values = self.same_time(at, near_ms)
        return self.of_days(at, age, values)

    def of_days(self, at: int, age: Any, values: Any) -> list[Any]:
        """Choose by age in days: see docs/detection.md, Memory."""
        today = self.local(at)
        weekend = today.weekday() >= 5
        kind = np.array([(today - timedelta(days=int(k))).weekday() >= 5 for k in age], bool)
        seen = sorted(set(age.tolist()))
        alike = sorted(set(age[kind == weekend].tolist()))
        windows = [
            values[np.isin(age, seen[:14])],
            values[np.isin(age, alike[:10])],
            values[age % 7 == 0],
            values[np.isin(age, seen[:4])],
        ]
        return [window for window in windows if len(window)]

    def usual(self, at: int) -> float:
        """Median of the last fortnight at this time of day; NaN where there is none."""
        windows = self.windows(at)
        return float(np.median(windows[0])) if windows else np.nan

    def spread(self, at: int) -> float:
        """Return how far values of this time of day usually are from their median."""
        windows = self.windows(at)
        return max((spread_of(window) for window in windows), default=0.0)

    def residuals(self, since: int, until: int) -> tuple[Any, Any]:
        """Return times and deviations from the usual value in [since, until]."""
        rows = np.flatnonzero((self.time_ms >= since) & (self.time_ms <= until))
        rows = rows[:: max(1, len(rows) // 300)]
        times = self.time_ms[rows]
        return times, self.values[rows] - np.array([self.usual(int(t)) for t in times])


def spread_of(values: Any) -> float:
    """The larger of 1.4826 MAD and the 80 % quantile of the deviations over 1.28."""
    off = abs(values - np.median(values))
    return float(max(1.4826 * np.median(off), np.quantile(off, 0.8) / 1.28))


def parse_span(text: str) -> tuple[int, int]:
    """Return a duration in ms, and the size of its last unit."""
    sizes = {"d": DAY_MS, "h": HOUR_MS, "min": MINUTE_MS, "s": SECOND_MS}
    parts = [(int(n), sizes[unit]) for n, unit in re.findall(r"(\d+) (d|h|min|s)", text)]
    smaller = {DAY_MS: HOUR_MS, HOUR_MS: MINUTE_MS, MINUTE_MS: SECOND_MS, SECOND_MS: SECOND_MS}
    last = smaller[parts[0][1]] if len(parts) == 1 else parts[-1][1]
    return sum(n * size for n, size in parts), last


def says_usual(rows: Rows, at: int, shown: float) -> None:
    """A usual value is one of the middle, or near the median, in what it is compared with."""
    windows = [*rows.windows(at), *rows.windows(at, max(rows.step_ms, 5 * MINUTE_MS) // 2)]
    assert windows, "no value about this time of day on any day before"
    is_middle(windows, shown, ROUNDING * max(abs(shown), float(np.ptp(rows.values)) / 6))


def is_middle(windows: list[Any], shown: float, slack: float) -> None:
    """A number is one of the middle of some window, or within its spread of the median."""
    for window in windows:
        low, high = np.quantile(window, [0.2, 0.8])
        if low - slack <= shown <= high + slack:
            return
        if abs(shown - np.median(window)) <= spread_of(window) + slack:
            return
    raise AssertionError(f"usual {shown}, but medians {[float(np.median(w)) for w in windows]}")


def says_remark(rows: Rows, at: int, value: float, text: str) -> str:
    """Check ``is V, usually about U at T`` and return what follows it."""
    found = re.match(rf"is {_N}{_UNIT}", text)
    assert found, text
    assert close(number(found[1]), value), (text, value)
    rest = text[found.end() :]
    return says_usually(rows, at, rest.removeprefix(", ")) if rest.startswith(", ") else rest


def says_usually(rows: Rows, at: int, text: str) -> str:
    """Check what is said to be usual; returns what follows."""
    clock = rows.local(at).strftime("%H:%M")
    found = re.match(rf"about {_N} expected at {_CLOCK} by what was learned at {_MOMENT}", text)
    if found:
        assert found[2] == clock
        learned = rows.time_ms >= at_moment(rows, at, found[3]) - 3 * DAY_MS
        low, high = rows.values[learned].min(), rows.values[learned].max()
        slack = 0.1 * (high - low)
        assert low - slack <= number(found[1]) <= high + slack, (text, low, high)
        return text[found.end() :]
    found = re.match(rf"usually about {_N} (at|within two hours of) {_CLOCK}", text)
    assert found, text
    assert found[3] == clock
    if found[2] == "at":
        says_usual(rows, at, number(found[1]))
    rest = text[found.end() :]
    lately = re.match(rf", lately about {_N} (more|less)", rest)
    if lately:
        _, off = rows.residuals(at - DAY_MS, at)
        size = number(lately[1]) * (1 if lately[2] == "more" else -1)
        middle = float(np.nanmedian(off))
        assert abs(size - middle) <= 0.35 * abs(middle) + rows.spread(at), (rest, middle)
        rest = rest[lately.end() :]
    return rest


def at_moment(rows: Rows, at: int, text: str) -> int:
    """Return the time that ``13:05`` or ``2025-01-06 13:05`` names beside a row's."""
    local = rows.local(at)
    if len(text) == 5:
        text = f"{local:%Y-%m-%d} {text}"
    named = datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(rows.zone))
    return round(named.timestamp() * 1000)


def says_rarity(rows: Rows, at: int, value: float, text: str) -> None:
    """``nothing as high``: no row of those days within the quarter of an hour was."""
    found = re.fullmatch(
        r"; (nothing|no (\d+)-minute mean) as (high|low) within 15 minutes of this time of day in"
        r" the (\d+) days before",
        text,
    )
    assert found, text
    assert bool(found[2]) is not rows.single, "several values in a bin are means"
    days, width = int(found[4]), int(found[2] or 0) * MINUTE_MS
    source = bin_means(rows, width) if width else rows
    ago = rows.local_of(at) - source.local_ms
    age = np.round(ago / DAY_MS)
    within = (abs(ago - age * DAY_MS) <= QUARTER_MS - width) & (age >= 1) & (age <= days)
    there = source.values[within & (source.time_ms < at - DAY_MS // 2)]
    extreme = there.max() < value if found[3] == "high" else there.min() > value
    assert extreme, (text, value, there.min(), there.max())
    assert days <= len(set(rows.same_time(at)[0].tolist())), text


def bin_means(rows: Rows, width_ms: int) -> Rows:
    """Return the means of bins of local time, each at its first value."""
    bins, first, of = np.unique(rows.local_ms // width_ms, return_index=True, return_inverse=True)
    means = np.bincount(of, rows.values) / np.bincount(of)
    assert len(means) == len(bins)
    return Rows(rows.time_ms[first], means, rows.zone, rows.single, rows.step_ms)


# --- a claim for each view ------------------------------------------------------------------------


def says_mean(rows: Rows, at: int, way: str, span: str, lately: float) -> None:
    """The mean deviation over a time, from the last day's, has the sign that is said."""
    span_ms = {"hour": HOUR_MS}.get(span) or parse_span(span)[0]
    step_ms = max(rows.step_ms, MINUTE_MS)
    assert span_ms in (
        max(QUARTER_MS, 3 * step_ms // 2),
        max(HOUR_MS, 3 * step_ms),
        max(4 * HOUR_MS, 6 * step_ms),
    )
    _, off = rows.residuals(at - span_ms, at)
    off = np.clip(off - lately, -15 * rows.spread(at), 15 * rows.spread(at))
    assert bool(np.nanmean(off) > 0) is (way == "higher"), (span, np.nanmean(off))


def says_jump(rows: Rows, at: int, value: float, way: str, before: float) -> None:
    """The middle of the six values before, and the way of the step from it."""
    middle = float(np.median(rows.values[-7:-1]))
    assert close(before, middle), (before, middle)
    assert (value > middle) is (way == "rose")


def says_missed(rows: Rows, at: int, match: re.Match[str]) -> None:
    """What came between two times of day today, and what usually does."""
    verb, usual, first, last, most, side, means = match.groups()
    end = at_moment(rows, at, last)
    end -= DAY_MS if end > at else 0
    begin = at_moment(rows, end, first)
    begin -= DAY_MS if begin >= end else 0
    assert 0 <= at - end < DAY_MS // 24 + 2 * rows.step_ms
    assert bool(means) is not rows.single
    width_ms = max(5 * MINUTE_MS, rows.step_ms)
    near = {5: 3, 10: 2}.get(width_ms // MINUTE_MS, 1)
    assert end - begin == (2 * near + 1) * width_ms, (first, last)
    source = bin_means(rows, int(means) * MINUTE_MS) if means else rows
    pick = np.max if verb == "reaches" else np.min
    ends = []
    for age in range(29):
        shift = rows.local_of(at) - age * DAY_MS
        since, until = (shift - (rows.local_of(at) - rows.local_of(t)) for t in (begin, end))
        there = source.values[(source.local_ms >= since) & (source.local_ms < until)]
        ends.append(float(pick(there)) if len(there) else np.nan)
    today, before = ends[0], np.array(ends[1:])
    slack = 2 * ROUNDING * max(abs(today), float(np.ptp(rows.values)) / 10)
    assert abs(number(most) - today) <= slack, (most, today)
    assert side == ("below" if verb == "reaches" else "above")
    age = np.flatnonzero(~np.isnan(before)) + 1
    is_middle(rows.of_days(at, age, before[age - 1]), number(usual), slack)
    assert number(usual) > today if verb == "reaches" else number(usual) < today


def says_level(rows: Rows, at: int, amount: float, way: str) -> None:
    """Most hours of the last day deviate that way, their median about as much."""
    times, off = rows.residuals(at - DAY_MS, at)
    hours = [np.nanmean(off[times // HOUR_MS == hour]) for hour in np.unique(times // HOUR_MS)]
    sign = 1 if way == "above" else -1
    assert np.mean(np.sign(hours) == sign) >= 0.5, (hours, way)
    middle = abs(float(np.nanmedian(hours)))
    assert abs(amount - middle) <= 0.35 * amount + rows.spread(at), (amount, middle)


def says_spread(rows: Rows, at: int, times: float, at_least: bool) -> None:
    """Changes of the deviation lately, beside those of the week before."""
    span_ms = max(5400_000, 8 * rows.step_ms)
    now = [np.nanmean(abs(np.diff(rows.residuals(at - k * span_ms, at)[1]))) for k in (1, 2)]
    week = (rows.time_ms > at - 7 * DAY_MS) & (rows.time_ms < at - 6 * HOUR_MS)
    some = np.flatnonzero(week)[1:][:: max(1, int(week.sum()) // 150)]
    pairs = [[rows.values[k] - rows.usual(int(rows.time_ms[k])) for k in (p - 1, p)] for p in some]
    ratio = max(now) / max(np.nanmean(abs(np.diff(pairs))), 1e-12)
    assert ratio > 1.3
    assert times <= 1.5 * ratio, (times, ratio)
    assert at_least or ratio <= 2.5 * times, (times, ratio)


def says_often(rows: Rows, at: int, lately: str, share: str) -> None:
    """The share of values unlike what is usual about their time, lately and over five days."""
    tiny = 0.01 * float(np.ptp(rows.values))

    def is_odd(k: int) -> bool:
        """Whether a value is far from the median of every time of day within the quarter hour."""
        at_ms, step = int(rows.time_ms[k]), max(rows.step_ms, 5 * MINUTE_MS)
        reach = max(1, QUARTER_MS // step)
        medians = [
            float(np.median(window))
            for near in range(-reach, reach + 1)
            for window in rows.windows(at_ms + near * step, step // 2)
        ]
        return bool(medians) and min(abs(rows.values[k] - m) for m in medians) > tiny

    def odd_share(since: int, until: int) -> float:
        there = np.flatnonzero((rows.time_ms > since) & (rows.time_ms <= until))
        return float(np.mean([is_odd(k) for k in there[:: max(1, len(there) // 200)]]))

    last, before = odd_share(at - HOUR_MS, at), odd_share(at - 5 * DAY_MS, at - HOUR_MS)
    assert abs(float(lately) / 100 - last) <= 0.4, (lately, last)
    assert last > 0.3
    assert abs(float(share or 0) / 100 - before) <= 0.03, (share, before)


def says_stuck(rows: Rows, at: int, value: float, span: str, exactly: str) -> None:
    """The stretch of equal values up to the row, and that values changed before it."""
    other = np.flatnonzero(rows.values != rows.values[-1])
    first = rows.time_ms[other[-1] + 1]
    shown, unit = parse_span(span)
    assert shown <= rows.time_ms[-1] - first < shown + unit, (span, rows.time_ms[-1] - first)
    assert at - rows.time_ms[-1] <= rows.step_ms
    assert (value == rows.values[-1]) if exactly == "exactly " else close(value, rows.values[-1])
    before = rows.values[(rows.time_ms < first) & (rows.time_ms > first - 2 * DAY_MS)]
    assert np.mean(np.diff(before) != 0) > 0.5


def says_still(rows: Rows, at: int) -> None:
    """Half a day and longer within a tenth of the usual range."""
    last = rows.values[rows.time_ms > at - 12 * HOUR_MS]
    low, high = np.quantile(rows.values, [0.001, 0.999])
    assert np.ptp(last) <= 0.11 * (high - low), (np.ptp(last), high - low)


def says_course(rows: Rows, at: int, span: str) -> None:
    """The last six hours, or 48 rows, are further from all before than a fortnight's ever were.

    Than 99 % of them; 48 rows are what the short member of the course compares: two days, hourly.
    """
    shown, unit = parse_span(span)
    assert shown <= at - rows.time_ms[0] < shown + max(unit, HOUR_MS)
    block_ms = max(30 * MINUTE_MS, rows.step_ms)
    smooth = bin_means(rows, block_ms).values
    seen = [
        _novelty_of(smooth, size_ms // block_ms, 14 * DAY_MS // block_ms)
        for size_ms in {6 * HOUR_MS, max(6 * HOUR_MS, 48 * rows.step_ms)}
    ]
    assert any(newest > usual for newest, usual in seen), seen


def _novelty_of(smooth: np.ndarray, size: int, fortnight: int) -> tuple[float, float]:
    """Return how novel the newest stretch is, and what 99 % of a fortnight's were not beyond."""
    pieces = np.lib.stride_tricks.sliding_window_view(smooth, size)

    def novelty(k: int) -> float:
        """Return the distance of a stretch to the nearest one that ends before it begins."""
        return float(np.sqrt(((pieces[: k - size] - pieces[k]) ** 2).mean(axis=1)).min())

    last = len(pieces) - 1
    first = max(3 * size, last - fortnight)
    others = [novelty(k) for k in range(first, last - size, 2)]
    newest = max(novelty(k) for k in range(last - size, last + 1))
    return newest, float(np.quantile(others, 0.99))


def says_apart(rows: Rows, others: list[Rows], at: int) -> None:
    """A regression on the other metrics leaves over more than it usually does."""
    since = at - 4 * DAY_MS
    table = np.column_stack([r.residuals(since, at - 3 * HOUR_MS)[1] for r in (rows, *others)])
    table = table[~np.isnan(table).any(axis=1)]
    x = np.column_stack([table[:, 1:], np.ones(len(table))])
    weights, *_ = np.linalg.lstsq(x, table[:, 0], rcond=None)
    usual = np.std(table[:, 0] - x @ weights)
    table = np.column_stack([r.residuals(at - HOUR_MS, at)[1] for r in (rows, *others)])
    left = table[:, 0] - np.column_stack([table[:, 1:], np.ones(len(table))]) @ weights
    assert abs(left.mean()) > usual, (left.mean(), usual)
