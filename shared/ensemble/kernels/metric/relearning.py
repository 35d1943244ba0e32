"""A level or unit that stays becomes the memory's own.

Its centre and scale are changed, nothing is forgotten.

Invariant: what the memory holds in the metric's unit is the same before and after ``recode``, to
the precision of a code.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import MISSING, decode, encode, median
from shared.ensemble.kernels.layout import (
    BACK,
    BINS,
    DAYS,
    HOURS,
    RING,
    SEASONS,
    EnsembleParams,
)
from shared.ensemble.kernels.season.season_memory import newest_day
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS, HOUR_MS

ALIKE = 0.75
"""Share of the hours that agree about a new unit of any size; bursts of a small metric do not."""


OLD_UNIT_MS = 8 * DAY_MS
"""So long after a change the old unit is tried as well."""


@njit(cache=True, error_model="numpy")
def moved_ms(m: Record) -> int:
    """Return when the memory's level or unit was last changed; 0 = never.

    What it remembers of earlier times is not in the rows' own unit.
    """
    return int(m["old_until_ms"] - OLD_UNIT_MS) if m["old_until_ms"] > 0 else 0


@njit(cache=True, error_model="numpy")
def recode(m: Record, centre: float, scale: float) -> None:
    """Keep the memory in another unit; O(BINS DAYS), a few times in a life."""
    a, b = m["scale"] / scale, (m["centre"] - centre) / scale
    for bin_ in range(BINS):
        if m["written"][bin_] > 0:
            row = m["memory"][bin_]
            for k in range(DAYS):
                if row[k] != MISSING:
                    row[k] = encode(decode(row[k]) * a + b)
    for c in range(SEASONS):
        m["level"][c] *= a
        m["hour_r"][c] *= a
        for k in range(HOURS):
            m["hours_r"][c, k] *= a
        for k in range(BACK):
            m["newest_residuals"][c, k] *= a
        for k in range(RING):
            m["baselines"][c, k] = m["baselines"][c, k] * a + b
    for k in range(BACK):
        m["newest_residuals"][SEASONS, k] *= a
    for k in range(RING):
        m["median_spread"][k] *= a
        m["quantile_spread"][k] *= a
        if m["window"][0, k] != MISSING:
            m["window"][0, k] = encode(decode(m["window"][0, k]) * a + b)
    for k in range(HOURS):
        m["hours_x"][k] *= a
        m["hours_u"][k] = m["hours_u"][k] * a + b
    for k in range(DAYS):
        m["levels"][k] *= a
    for k in range(25):
        m["jump"][k] *= a
    m["hour_x"] *= a
    m["hour_u"] = m["hour_u"] * a + b * m["hour_n"]
    m["bin_mean"] = m["bin_mean"] * a + b
    m["range_low"] = m["range_low"] * a + b
    m["range_high"] = m["range_high"] * a + b
    m["expected"] = m["expected"] * a + b
    m["typical"] *= a
    m["size"] *= a
    m["step"] *= a
    m["daily"] *= a
    m["spread"] *= a
    m["before_r"] *= a
    m["centre"] = centre
    m["scale"] = scale


@njit(cache=True, error_model="numpy")
def _gain(
    m: Record, residuals: Floats, alike: float, hour: int, typical: float, tmp: Floats
) -> float:
    """Return the ratio of a new unit, 1 = none: it explains 8 of 12 hours twice as well as a shift.

    residuals : float32 (HOURS,)  of the hours, coded
    alike     : share of the hours whose own ratio is within a fifth of it, at least
    typical   : typical spread, > 0
    tmp       : float64 (>= 180,)  scratch: ratios, residuals, usual and own values of the hours
    """
    centre, scale = m["centre"], m["scale"]
    n = 0
    for back in range(12):
        k = (hour - 1 - back) % HOURS
        r = np.float64(residuals[k])
        if m["hours"][k] == hour - 1 - back and m["hours"][k] > 0 and not math.isnan(r):
            u = centre + scale * np.float64(m["hours_u"][k])
            v = u + scale * r
            if u != 0.0 and v / u > 0.0:
                tmp[n], tmp[40 + n], tmp[80 + n], tmp[120 + n] = v / u, r, u, v
                n += 1
    if n < 8:
        return 1.0
    work = tmp[160:]
    for k in range(n):
        work[k] = tmp[k]
    ratio = median(work, n)
    if 0.4 <= ratio <= 2.5:
        return 1.0
    same = 0
    for k in range(n):
        same += 1 if abs(tmp[k] - ratio) <= 0.2 * ratio else 0
    if same < alike * n:
        return 1.0
    for k in range(n):
        work[k] = tmp[40 + k]
    plus = median(work, n)
    for k in range(n):
        work[k] = abs(tmp[120 + k] - ratio * tmp[80 + k])
    by_ratio = median(work, n)
    for k in range(n):
        work[k] = abs(tmp[40 + k] - plus) * scale
    by_shift = median(work, n)
    off = max(abs(ratio), 1.0) * typical * scale
    explains = by_ratio < 0.5 * by_shift and by_ratio < 2.0 * off
    if alike > 0.0:
        explains = explains and by_shift > off  # level values tell a unit from a shift by nothing
    return ratio if explains and abs(plus) > 4.0 * typical else 1.0


class Change(NamedTuple):
    """A new level or unit."""

    stays: bool  # long enough to become the memory's own
    gain: float  # ratio of a new unit; 1 = none
    shift: float  # of the level, coded
    since_ms: int


@step
def _change(m: Record, t: int, hour: int, params: EnsembleParams, tmp: Floats) -> Change:
    """Return the change of level or unit that the hours show."""
    season = m["season"]
    level, typical = m["level"][season], max(m["typical"], 1e-12)
    gain = _gain(m, m["hours_x"], ALIKE, hour, typical, tmp)
    if gain == 1.0:
        gain = _gain(m, m["hours_r"][season], 0.0, hour, typical, tmp)
    if gain != 1.0:
        return Change(True, gain, 0.0, t - 12 * HOUR_MS)
    if not abs(level) > max(3.0 * m["daily"], 3.0 * typical):
        m["shift_ms"] = 0
        return Change(False, 1.0, 0.0, t)
    if m["shift_ms"] == 0:
        m["shift_ms"] = t
    if t - m["shift_ms"] < params.level_days * DAY_MS or not _is_steady(m, hour, level):
        return Change(False, 1.0, 0.0, t)
    return Change(True, 1.0, level, m["shift_ms"])


@step
def _move_memory(m: Record, days: int, new_centre: float, new_scale: float) -> None:
    """Write the bins since a change in the new unit, where this is nearer to what was before."""
    centre, scale = m["centre"], m["scale"]
    for bin_ in range(BINS):
        last = newest_day(m, bin_, m["day"])
        if last < 0:
            continue
        for d in range(max(last - days, last - DAYS + 1), last + 1):
            if d < m["day"] - days:
                continue
            code = m["memory"][bin_, d % DAYS]
            if code == MISSING:
                continue
            x = decode(code)
            y = (centre + scale * x - new_centre) / new_scale
            before = _value_before(m, bin_, d)
            if abs(y - before) < abs(x - before):
                m["memory"][bin_, d % DAYS] = encode(y)


@step
def _move_levels(m: Record, change: Change) -> None:
    """Take a shift off the residuals of the hours and the levels; in a new unit they are 0."""
    for k in range(HOURS):
        for c in range(SEASONS):
            r = np.float64(m["hours_r"][c, k])
            m["hours_r"][c, k] = r - change.shift if change.gain == 1.0 else 0.0
        r = np.float64(m["hours_x"][k])
        m["hours_x"][k] = r - change.shift if change.gain == 1.0 else 0.0
    for c in range(SEASONS):
        m["level"][c] = m["level"][c] - change.shift if change.gain == 1.0 else 0.0


@njit(cache=True, error_model="numpy")
def accept_change(m: Record, t: int, hour: int, params: EnsembleParams, tmp: Floats) -> None:
    """Make a level or unit that has stayed the memory's own: the memory is moved, not forgotten."""
    centre, scale = m["centre"], m["scale"]
    if scale <= 0.0:
        return
    change = _change(m, t, hour, params, tmp)
    if not change.stays:
        return
    gain = change.gain
    new_scale = scale * gain
    new_centre = centre * gain if gain != 1.0 else centre + change.shift * scale
    _move_memory(m, int((t - change.since_ms) // DAY_MS) + 2, new_centre, new_scale)
    _move_levels(m, change)
    m["old_centre"] = centre
    m["old_scale"] = scale
    m["old_until_ms"] = t + OLD_UNIT_MS
    m["centre"] = new_centre
    m["scale"] = new_scale
    m["newest_n"] = 0
    m["fresh"] = 0
    m["shift_ms"] = 0
    for k in range(3):
        m["means"][k] = 0.0
    m["bin_n"] = 0  # the ring is digested again


@njit(cache=True, error_model="numpy")
def _value_before(m: Record, bin_: int, day: int) -> float:
    """Value of a bin some days before a shift: the median of three."""
    a = b = c = np.nan
    n = 0
    row = m["memory"][bin_]
    last = newest_day(m, bin_, day)
    for age in range(5, DAYS):
        d = day - age
        if last - d >= DAYS:
            break
        code = row[d % DAYS]
        if code != MISSING:
            c = b
            b = a
            a = decode(code)
            n += 1
            if n == 3:
                return max(min(a, b), min(max(a, b), c))
    return a if n > 0 else np.nan


@njit(cache=True, error_model="numpy")
def _is_steady(m: Record, hour: int, level: float) -> bool:
    """Whether the level of half a day ago was about today's: a leak goes on, a shift stays."""
    season = m["season"]
    old = new = 0.0
    n_old = n_new = 0
    for k in range(HOURS):
        age = hour - m["hours"][k]
        r = np.float64(m["hours_r"][season, k])
        if m["hours"][k] > 0 and age <= HOURS and not math.isnan(r):
            if age > 24:
                old += r
                n_old += 1
            elif age <= 12:
                new += r
                n_new += 1
    if n_old < 3 or n_new < 3:
        return True
    return abs(new / n_new - old / n_old) < 0.15 * abs(level)
