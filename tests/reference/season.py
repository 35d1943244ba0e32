"""Slow and obviously right: what a time of day has shown, from a dictionary of all its days."""

from __future__ import annotations

import numpy as np

BINS = 288
FEW = {1: 3.0, 2: 2.5, 3: 1.8, 4: 1.5, 5: 1.25, 6: 1.15}
ALL, KIND, WEEK, RECENT = range(4)


def is_weekend(day):
    return np.datetime64(int(day), "D").astype(object).weekday() >= 5


def days_before(memory, bin_, day, days=28):
    """[(age, value)] of a bin, most recent first; memory = {(day, bin): value}."""
    ages = range(1, days + 1)
    return [(age, memory[day - age, bin_]) for age in ages if (day - age, bin_) in memory]


def groups(memory, bin_, day):
    """The values that each season compares with."""
    before = days_before(memory, bin_, day)
    kind = [x for age, x in before if is_weekend(day - age) == is_weekend(day)]
    return {
        ALL: [x for _, x in before][:14],
        KIND: kind[:10],
        WEEK: [x for age, x in before if age % 7 == 0],
        RECENT: [x for _, x in before][:4],
    }


def digest(memory, bin_, day, season=ALL):
    """Medians of each season (NaN = too few days), spread by the median and by the 80 % quantile.

    Fewer than two days tell no spread: NaN.
    """
    mine = groups(memory, bin_, day)
    least = {ALL: 1, KIND: 2, WEEK: 3, RECENT: 3}
    usual = [np.median(mine[c]) if len(mine[c]) >= least[c] else np.nan for c in range(4)]
    believed = season if not np.isnan(usual[season]) else ALL
    off = np.sort(np.abs(np.array(mine[believed]) - usual[believed]))
    n = len(off)
    if n < 2:
        return usual, np.nan, np.nan
    factor = FEW.get(n, 1.0)
    return (
        usual,
        factor * 1.4826 * np.median(off),
        factor * off[min(n - 1, int(0.8 * n))] / 1.28,
    )


def extremes(memory, bin_, day, near):
    """Largest and smallest value within ``near`` bins on each of 28 days before; NaN = none."""
    high, low = np.full(28, np.nan), np.full(28, np.nan)
    for age in range(1, 29):
        places = [(day - age) * BINS + bin_ + k for k in range(-near, near + 1)]
        found = [memory[divmod(p, BINS)] for p in places if divmod(p, BINS) in memory]
        if found:
            high[age - 1], low[age - 1] = max(found), min(found)
    return high, low


def days_without(memory, bin_, day, reach, limit, up, settled=28):
    """Days before with a value within ``reach`` bins, and how many of the newest are within limit.

    limit   : values at or beyond it, upwards or downwards, end the count
    settled : days that count
    """
    here, seen, without, ended = day * BINS + bin_, 0, 0, False
    for age in range(1, 29):
        places = [here - age * BINS + k for k in range(-reach[0], reach[1] + 1)]
        found = [
            memory[divmod(p, BINS)]
            for p in places
            if divmod(p, BINS) in memory and p <= here - BINS // 2
        ]
        ended = ended or age > settled
        ended = ended or any(x >= limit if up else x <= limit for x in found)
        seen += bool(found)
        without += bool(found) and not ended
    return seen, without
