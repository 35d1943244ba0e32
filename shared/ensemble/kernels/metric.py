"""One (entity, metric): from a value to how unusual each view finds it.

Invariant: a pure fold over the metric's values in log order; every memory is in time, none is in rows; what one value moves is bounded.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats32
from shared.ensemble.kernels.codes import MISSING, clip, decode, encode, fade, median, sort_first
from shared.ensemble.kernels.course.members import fold_value as fold_course
from shared.ensemble.kernels.layout import (
    ALL,
    ALL_VIEWS,
    BACK,
    BIN_MS,
    BINS,
    COURSE,
    CROSS,
    DAY_MS,
    DAYS,
    HOUR,
    HOUR_MS,
    HOURS,
    HOURS4,
    JUMP,
    KIND,
    LEVEL,
    MINUTE_MS,
    MISSED,
    OFTEN,
    QUARTER,
    RECENT,
    RING,
    SEASONS,
    SPREAD,
    STUCK,
    TWO,
    VALUE,
    VIEWS,
    WEEK,
    Floats,
    Knobs,
    Record,
)
from shared.ensemble.kernels.return_levels import bound, push, return_level
from shared.ensemble.kernels.season import (
    digest,
    extremes,
    near_of,
    read,
    recurring,
    turn,
    width_of,
    write,
)

FASTEST_MS = 45_000.0
"""A metric that is faster is judged by means of a minute."""

FAR = 1e4
FARTHEST = 1e9
"""Largest coded value that is judged; the memory holds less, but a new unit may lie beyond."""

READY_SAMPLES = 14
COLD_SAMPLES = 30
DEAD = 0.3
"""Share of the typical spread that a level may be off before it is taken off."""

NORMAL_99 = 2.6
"""99 % quantile of the size of a normal deviation, in spreads: least levels are meant for it."""

MEAN_Z = 0.8
"""Mean size of a deviation in spreads."""


@njit(cache=True)
def follow_interval(interval: float, pause: float, seen: int) -> float:
    """Usual pause, tracked in logarithms, between the median of the pauses and their time-weighted one.

    seen : values so far; the first pauses raise it faster

    A step down is at most half of a step up: of two pauses that take turns (two scrapers, seconds apart)
    the longer one is the interval.
    """
    if interval <= 0.0:
        return pause
    ratio = min(pause, 4.0 * interval) / interval
    most = min(0.15 * ratio, 0.05) if pause < interval else max(0.1, 4.0 / (2.0 + seen))
    return interval * math.exp(clip(math.log(pause / interval), most))


@njit(cache=True)
def floor_of(knobs: Knobs, view: int) -> float:
    """Least level of a view."""
    if view == VALUE:
        return knobs.floor_value
    if view == TWO:
        return knobs.floor_two
    if view == QUARTER:
        return knobs.floor_quarter
    if view == HOUR:
        return knobs.floor_hour
    if view == HOURS4:
        return knobs.floor_hours4
    if view == JUMP:
        return knobs.floor_jump
    if view == MISSED:
        return knobs.floor_missed
    if view == LEVEL:
        return knobs.floor_level
    if view == SPREAD:
        return knobs.floor_spread
    if view == OFTEN:
        return knobs.floor_often
    if view == STUCK:
        return knobs.floor_stuck
    if view == COURSE:
        return knobs.floor_course
    return knobs.floor_cross


@njit(cache=True)
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
            m["back_r"][c, k] *= a
        for k in range(RING):
            m["usual"][c, k] = m["usual"][c, k] * a + b
    for k in range(BACK):
        m["back_r"][SEASONS, k] *= a
    for k in range(RING):
        m["mid"][k] *= a
        m["wide"][k] *= a
        for s in range(2):
            if m["window"][s, k] != MISSING:
                m["window"][s, k] = encode(decode(m["window"][s, k]) * a + b)
    for k in range(HOURS):
        m["hours_u"][k] = m["hours_u"][k] * a + b
    for k in range(DAYS):
        m["levels"][k] *= a
    for k in range(25):
        m["jump"][k] *= a
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


@njit(cache=True)
def _tail_slope(m: Record, side: int) -> float:
    """Slope of the logarithms of daily maxima that the tail of all deviations suggests.

    The ratio of the 99 % to the 80 % quantile is 2.0 for normal, 2.9 for Laplace and 4.6 for lognormal (sigma .6) deviations; the
    slopes of their daily maxima are .1, .16 and .26.
    """
    low, high = np.float64(m["tail"][side, 0]), np.float64(m["tail"][side, 1])
    if low <= 0.0:
        return 0.0
    return min(max(0.1 + 0.06 * (high / low - 2.0), 0.0), 0.5)


@njit(cache=True)
def _follow_tail(m: Record, z: float) -> None:
    """Track the 80 % and 99 % quantile of the deviations of one sign."""
    side = 0 if z > 0.0 else 1
    size = abs(z)
    if m["tail"][side, 0] <= 0.0:
        m["tail"][side, 0] = 1.28
        m["tail"][side, 1] = 2.8
    low, high = np.float64(m["tail"][side, 0]), np.float64(m["tail"][side, 1])
    m["tail"][side, 0] = low * math.exp(0.02 * (0.8 if size > low else -0.2))
    m["tail"][side, 1] = high * math.exp(0.06 * (0.99 if size > high else -0.01))


@njit(cache=True)
def _calibrate(m: Record, knobs: Knobs, tmp: Floats) -> None:
    """Set the level of every view from its daily maxima."""
    n = min(m["maxima_n"], DAYS)
    for view in range(ALL_VIEWS):
        floor = floor_of(knobs, view)
        if QUARTER <= view <= HOURS4:  # the mean of fewer samples varies more
            floor *= 1.0 + knobs.coarse * min(m["interval_ms"] / HOUR_MS, 1.0)
        for side in range(2):
            least = floor
            if n == 0:
                m["bar"][view, side] = 2.0 * floor
                continue
            prior = knobs.slope
            if view <= QUARTER or view == JUMP:
                prior = max(prior, _tail_slope(m, side))
                least *= max(1.0, np.float64(m["tail"][side, 1]) / NORMAL_99) ** knobs.heavy
            level = return_level(
                m["maxima"][view, side],
                n,
                0.3 * floor,
                knobs.return_view,
                prior,
                knobs.trust_view,
                tmp,
            )
            m["bar"][view, side] = max(level, least * (1.0 + knobs.early / n))


@njit(cache=True)
def _close_day(m: Record, day: int, knobs: Knobs, tmp: Floats) -> None:
    """End the metric's day."""
    if m["day"] >= 0 and m["live_ms"] > DAY_MS:
        count = m["maxima_n"]
        for view in range(ALL_VIEWS):
            for side in range(2):
                push(m["maxima"][view, side], count, m["most"][view, side])
        m["maxima_n"] = count + 1
    for view in range(ALL_VIEWS):
        for side in range(2):
            m["most"][view, side] = 0.0
    _calibrate(m, knobs, tmp)
    if m["day"] >= 0:
        n = m["levels_n"]
        m["levels"][n % DAYS] = m["level"][m["season"]]
        m["levels_n"] = n + 1
        n = min(n + 1, DAYS)
        daily = m["typical"]
        if n >= 3:
            for k in range(n):
                tmp[k] = abs(np.float64(m["levels"][k]))
            sort_first(tmp, n)
            daily = max(0.5 * m["typical"], 1.4826 * tmp[n // 2])
            daily = max(daily, tmp[min(n - 1, int(0.8 * n))] / 1.28 * (1.0 if n > 5 else 1.5))
        m["daily"] = daily
    season = ALL
    if m["live_ms"] > 14.0 * DAY_MS:
        error = m["error"]
        for c in (KIND, WEEK):
            if error[c] < 0.8 * error[ALL] and error[c] < error[season]:
                season = c
    m["season"] = season
    if m["typical"] > 1e-6 and not 0.02 < m["typical"] < 50.0:
        recode(m, m["centre"], m["scale"] * m["typical"])


@njit(cache=True)
def _close_hour(m: Record, hour: int, gap: float, tmp: Floats) -> None:
    """End an hour: levels are medians of the hours of a day, the stretch is that of their mean deviations."""
    if m["hour_n"] > 0:
        k = m["hour"] % HOURS
        m["hours"][k] = m["hour"]
        for c in range(SEASONS):
            m["hours_r"][c, k] = m["hour_r"][c] / m["hour_c"][c] if m["hour_c"][c] > 0 else np.nan
            m["hour_r"][c] = 0.0
            m["hour_c"][c] = 0
        m["hours_u"][k] = m["hour_u"] / m["hour_n"]
        m["hours_z"][k] = m["hour_z"] / m["hour_n"]
        m["hour_n"] = 0
        m["hour_u"] = 0.0
        m["hour_z"] = 0.0
    m["hour"] = hour
    for c in range(SEASONS):
        n = 0
        for k in range(HOURS):
            if (
                m["hours"][k] >= hour - 25
                and m["hours"][k] > 0
                and not math.isnan(m["hours_r"][c, k])
            ):
                tmp[n] = m["hours_r"][c, k]
                n += 1
        if n >= 6:
            m["level"][c] = median(tmp, n)
        elif gap >= DAY_MS:
            m["level"][c] = 0.0
    n = 0
    for k in range(HOURS):
        if m["hours"][k] >= hour - 25 and m["hours"][k] > 0:
            tmp[n] = m["hours_z"][k]
            n += 1
    if n >= 8:
        ratio = median(tmp, n) / MEAN_Z
        m["stretch"] = 1.0
        if ratio > 1.4:
            m["stretch"] = min(ratio / 1.4, 8.0)
        elif 0.0 < ratio < 0.7:
            m["stretch"] = max(ratio * 1.4, 0.2)


@njit(cache=True)
def _accept(m: Record, t: int, hour: int, knobs: Knobs, tmp: Floats) -> None:
    """Make a level or unit that has stayed the memory's own: the memory is moved, not forgotten."""
    season = m["season"]
    level, typical = m["level"][season], max(m["typical"], 1e-12)
    centre, scale = m["centre"], m["scale"]
    if scale <= 0.0 or typical <= 0.0:
        return
    n = 0
    for back in range(12):
        k = (hour - 1 - back) % HOURS
        if (
            m["hours"][k] == hour - 1 - back
            and m["hours"][k] > 0
            and not math.isnan(m["hours_r"][season, k])
        ):
            u = centre + scale * np.float64(m["hours_u"][k])
            v = u + scale * np.float64(m["hours_r"][season, k])
            if u != 0.0 and v / u > 0.0:
                tmp[n] = v / u
                tmp[40 + n] = np.float64(m["hours_r"][season, k])
                tmp[80 + n] = u
                tmp[120 + n] = v
                n += 1
    gain, shift = 1.0, 0.0
    if n >= 8:
        for k in range(n):
            tmp[160 + k] = tmp[k]
        ratio = median(tmp[160:], n)
        if ratio > 2.5 or ratio < 0.4:
            for k in range(n):
                tmp[160 + k] = tmp[40 + k]
            plus = median(tmp[160:], n)
            for k in range(n):
                tmp[160 + k] = abs(tmp[120 + k] - ratio * tmp[80 + k])
            by_ratio = median(tmp[160:], n)
            for k in range(n):
                tmp[160 + k] = abs(tmp[40 + k] - plus) * scale
            by_shift = median(tmp[160:], n)
            off = max(abs(ratio), 1.0) * typical * scale
            if by_ratio < 0.5 * by_shift and by_ratio < 2.0 * off and abs(plus) > 4.0 * typical:
                gain = ratio
    if gain == 1.0:
        away = abs(level) > max(3.0 * m["daily"], 3.0 * typical)
        if not away:
            m["shift_ms"] = 0
            return
        if m["shift_ms"] == 0:
            m["shift_ms"] = t
        if t - m["shift_ms"] < knobs.level_days * DAY_MS or not _is_steady(m, hour, level):
            return
        shift = level
    since = m["shift_ms"] if gain == 1.0 else t - 12 * HOUR_MS
    new_scale = scale * gain
    new_centre = centre * gain if gain != 1.0 else centre + shift * scale
    days = int((t - since) // DAY_MS) + 2
    for bin_ in range(BINS):
        last = m["written"][bin_] - 1
        if last < 0:
            continue
        for d in range(max(last - days, last - DAYS + 1), last + 1):
            if d < m["day"] - days:
                continue
            code = m["memory"][bin_, d % DAYS]
            if code != MISSING:
                x = decode(code)
                y = (centre + scale * x - new_centre) / new_scale
                u_old = abs(x - _nearest_usual(m, bin_, d))
                u_new = abs(y - _nearest_usual(m, bin_, d))
                if u_new < u_old:
                    m["memory"][bin_, d % DAYS] = encode(y)
    for k in range(HOURS):
        for c in range(SEASONS):
            r = np.float64(m["hours_r"][c, k])
            m["hours_r"][c, k] = r - shift if gain == 1.0 else 0.0
    for c in range(SEASONS):
        m["level"][c] = m["level"][c] - shift if gain == 1.0 else 0.0
    m["old_centre"] = centre
    m["old_scale"] = scale
    m["old_until_ms"] = t + 8 * DAY_MS
    m["centre"] = new_centre
    m["scale"] = new_scale
    m["back_n"] = 0
    m["fresh"] = 0
    m["shift_ms"] = 0
    for k in range(3):
        m["ew"][k] = 0.0
    m["bin_n"] = 0  # the ring is digested again


@njit(cache=True)
def _nearest_usual(m: Record, bin_: int, day: int) -> float:
    """Value of a bin some days before a shift: the median of three."""
    a = b = c = np.nan
    n = 0
    row = m["memory"][bin_]
    last = m["written"][bin_] - 1
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


@njit(cache=True)
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


@njit(cache=True)
def _spread(m: Record, near: int) -> tuple[float, float]:
    """Spread of the bins around now, and the floor under it, both coded."""
    total = wide = 0.0
    n = 0
    for k in range(max(near - 2, 0), min(near + 3, 2 * near + 1)):
        if not math.isnan(m["mid"][k]):
            total += np.float64(m["mid"][k])
            wide += np.float64(m["wide"][k])
            n += 1
    spread = max(total, wide) / n if n > 0 else m["typical"]
    floor = max(0.02 * (m["range_high"] - m["range_low"]), 0.25 * m["step"])
    if m["share"] < 0.35 and m["sizes"] > 0:
        floor = max(floor, 0.7 * m["size"])
    floor = max(floor, 0.3 * m["typical"])
    floor = max(floor, 1e-9 * abs(m["centre"]) / m["scale"])
    return spread, max(floor, 1e-9)


@njit(cache=True)
def _offset(level: float, dead: float) -> float:
    """Level beyond its dead zone."""
    if level > dead:
        return level - dead
    if level < -dead:
        return level + dead
    return 0.0


@njit(cache=True)
def _is_asked(m: Record, c: int, near: int) -> bool:
    """Whether a season may excuse a value."""
    season = m["season"]
    return not (
        season != ALL and (c == ALL or c == RECENT) and not math.isnan(m["usual"][season, near])
    )


@njit(cache=True)
def _nearest(m: Record, x: float, near: int, spread: float) -> tuple[float, float, float]:
    """Deviation of a coded value from the nearest usual one of about this time.

    returns : deviation in spreads (a little more for a value of another time or season), residual, that usual value
    """
    best, residual, expected = 1e300, 0.0, 0.0
    dead = DEAD * m["typical"]
    season = m["season"]
    for c in range(SEASONS):
        if not _is_asked(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        for k in range(2 * near + 1):
            u = np.float64(m["usual"][c, k])
            if math.isnan(u):
                continue
            z = (x - u - offset) / spread
            penalty = (0.0 if k == near else 0.3) + (0.0 if c == season else 0.3)
            if abs(z) + penalty < abs(best):
                best = z + penalty if z > 0.0 else z - penalty
                if penalty == 0.0:
                    best = z
                residual = x - u - offset
                expected = u + offset
    return best, residual, expected


@njit(cache=True)
def _excuse(
    m: Record, x: float, z: float, near: int, spread: float, knobs: Knobs, tmp: Floats
) -> float:
    """Reduce a deviation that most days of a season show within a quarter of an hour of this time."""
    high, low = tmp[300:328], tmp[330:358]
    if extremes(m, m["day"], m["bin"], high, low) < 3:
        return z
    dead = DEAD * m["typical"]
    for c in range(SEASONS):
        if not _is_asked(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        reach, n = recurring(high if z > 0.0 else low, m["day"], c, 0.5, tmp)
        if n < 3:
            continue
        beyond = (x - reach - offset) / spread
        if z > 0.0:
            z = min(z, knobs.excuse + max(beyond, 0.0))
        else:
            z = max(z, -knobs.excuse + min(beyond, 0.0))
    return z


@njit(cache=True)
def _miss(m: Record, spread: float, tmp: Floats) -> None:
    """Compare the half hour that has just ended with the same one on the days before: has a usual peak or dip not come?"""
    near = near_of(m["width"])
    size = 2 * near + 1
    m["missed"] = 0.0
    width = m["width"]
    last_day, last_bin = m["day"], m["bin"]
    now = last_day * BINS + last_bin
    most, least = MISSING, 32767
    for k in range(size):
        if m["window_bin"][RING - 1 - k] != now - (k + 1) * width:
            return
        code = m["window"][0, RING - 1 - k]
        most, least = max(most, code), min(least, code)
    place = now - (near + 1) * width
    day, bin_ = place // BINS, place % BINS
    high, low = tmp[300:328], tmp[330:358]
    if extremes(m, day, bin_, high, low) < 5:
        return
    found_high, found_low = 1e300, 1e300
    usual_high = usual_low = 0.0
    dead = DEAD * m["typical"]
    for c in range(SEASONS):
        if not _is_asked(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        reach, n = recurring(high, day, c, 0.15, tmp)
        if n < 3:
            continue
        middle = tmp[n // 2]
        z = (reach + offset - decode(most)) / max(spread, middle - reach)
        if z < found_high:
            found_high, usual_high = z, middle + offset
        reach, n = recurring(low, day, c, 0.85, tmp)
        middle = tmp[n // 2]
        z = (decode(least) - reach - offset) / max(spread, reach - middle)
        if z < found_low:
            found_low, usual_low = z, middle + offset
    if found_high < 1e299 and found_high > max(found_low, 0.0):
        m["missed"] = -found_high
        m["missed_usual"] = usual_high
        m["missed_most"] = decode(most)
    elif found_low < 1e299 and found_low > 0.0:
        m["missed"] = found_low
        m["missed_usual"] = usual_low
        m["missed_most"] = decode(least)


@njit(cache=True)
def _follow_jump(
    m: Record,
    x: float,
    value: float,
    hour: int,
    floor: float,
    residual: float,
    near: int,
    dt: float,
    iv: float,
    v: Floats,
    tmp: Floats,
) -> None:
    """Jump from the newest values: of the value itself and of what is left after each season, whichever is least."""
    season = m["season"]
    if m["back_n"] >= BACK:
        for k in range(BACK):
            tmp[k] = (m["back"][k] - m["centre"]) / m["scale"]
        jump = x - median(tmp, BACK)
        m["jump_from"] = m["centre"] + m["scale"] * (x - jump)
        least, own = jump, 0.0
        for c in range(SEASONS):
            u = np.float64(m["usual"][c, near])
            if math.isnan(u) or not _is_asked(m, c, near):
                continue
            for k in range(BACK):
                tmp[k] = m["back_r"][c, k]
            e = x - u - median(tmp, BACK)
            if c == season:
                own = e
            if e * least <= 0.0:
                least = 0.0
            elif abs(e) < abs(least):
                least = e
        for k in range(BACK):
            tmp[k] = m["back_r"][SEASONS, k]
        before = median(tmp, BACK)
        e = residual - before
        if e * least <= 0.0:
            least = 0.0
        elif abs(e) < abs(least):
            least = e
        if abs(residual) < abs(before):
            least = 0.0  # on its way back
        size = abs(own)
        every = m["jump"]
        if m["jumps"] == 0:
            for k in range(25):
                every[k] = max(size, floor)
        eta = max(0.01, 1.0 / (1.0 + m["jumps"]))
        total = np.float64(every[24])
        total = max(total * math.exp(eta * (0.8 if size > total else -0.2)), 1e-9)
        every[24] = total
        mine = np.float64(every[hour])
        usual = max(max(mine, 0.5 * total) / 1.28, 0.5 * floor)
        v[JUMP] = clip(least / usual, 1e3)
        m["near_jump"] = v[JUMP]
        eta = 0.15 * min(1.0, max(iv, 60_000.0) / 300_000.0)
        every[hour] = max(mine * math.exp(eta * (0.8 if size > mine else -0.2)), 0.1 * total)
        m["jumps"] += 1
        r0 = x - np.float64(
            m["usual"][season if not math.isnan(m["usual"][season, near]) else ALL, near]
        )
        step = min(abs(r0 - m["before_r"]) / usual, 6.0)
        tau = max(1.5 * HOUR_MS, 8.0 * iv)
        m["spread_now"] += (step - m["spread_now"]) * fade(dt, tau)
        m["spread_ms"] += dt
        age = min(max(m["live_ms"], 0.2 * DAY_MS), 7.0 * DAY_MS)
        m["spread_usual"] += (m["spread_now"] - m["spread_usual"]) * fade(dt, age)
        if m["spread_ms"] > tau:
            v[SPREAD] = m["spread_now"] / max(m["spread_usual"], 0.3)
    k = m["back_n"] % BACK
    for c in range(SEASONS):
        u = np.float64(m["usual"][c, near])
        m["back_r"][c, k] = x - (u if not math.isnan(u) else np.float64(m["usual"][ALL, near]))
    m["back_r"][SEASONS, k] = residual
    m["back"][k] = value
    m["back_n"] += 1


@njit(cache=True)
def _follow_run(
    m: Record, t: int, value: float, gap: float, dt: float, iv: float, v: Floats
) -> None:
    """Stretch of equal values, against the longest one before."""
    m["flat"] = 0
    if m["samples"] > 0 and value == m["last"] and gap < 6.0 * iv + 1_800_000.0:
        m["run_n"] += 1
        length = np.float64(t - m["run_ms"])
        if m["run_n"] > 12 and m["varied"] > 0.5:
            if m["live_ms"] > 1.5 * DAY_MS:
                v[STUCK] = min(
                    length / 5_400_000.0,
                    length / (3.0 * m["run_longest"]) if m["run_longest"] > 0.0 else 1e3,
                )
            if v[STUCK] >= 1.0 or length > DAY_MS:
                m["flat"] = 1
                m["mute_ms"] = t
    else:
        if m["run_n"] > 0 and m["mute_ms"] < m["sample_ms"]:
            m["run_longest"] = max(m["run_longest"], np.float64(m["sample_ms"] - m["run_ms"]))
        m["run_longest"] *= math.exp(-dt / (20.0 * DAY_MS))
        m["run_n"] = 0
        m["run_ms"] = t
    if m["samples"] > 0 and m["flat"] == 0:
        m["varied"] += ((1.0 if value != m["last"] else 0.0) - m["varied"]) * fade(dt, DAY_MS)


@njit(cache=True)
def _follow_step(m: Record, value: float, x: float) -> None:
    """Typical size of a change and range of the values; a value moves each by a step at most."""
    if m["samples"] > 0 and value != m["last"] and m["scale"] > 0.0:
        size = abs(value - m["last"]) / m["scale"]
        m["step"] = (
            size
            if m["steps"] == 0
            else m["step"]
            * math.exp(min(0.05, 1.0 / m["steps"]) * (1.0 if size > m["step"] else -1.0))
        )
        m["steps"] += 1
    if m["samples"] == 0:
        m["range_low"] = m["range_high"] = x
    pace = 0.02 * max(m["typical"], m["step"]) * max(1.0, 400.0 / (1.0 + m["samples"]))
    m["range_low"] += pace * (0.05 if x > m["range_low"] else -0.95)
    m["range_high"] += pace * (0.95 if x > m["range_high"] else -0.05)


@njit(cache=True)
def _watch_cold(m: Record, value: float, knobs: Knobs) -> None:
    """In the first days: is a value far outside of everything so far? Ten times as far on the first day."""
    m["cold"] = 0
    if m["live_ms"] >= knobs.ready_days * DAY_MS and m["samples"] >= READY_SAMPLES:
        return
    if m["samples"] == 0:
        m["low"] = m["high"] = value
        return
    width = m["high"] - m["low"]
    times = 1.0 if m["live_ms"] >= DAY_MS else 10.0
    if m["samples"] >= COLD_SAMPLES:
        beyond = max(m["low"] - value, value - m["high"])
        typical = max(m["step"] * m["scale"], 0.01 * abs(m["centre"]))
        if beyond > times * width and beyond > times * 8.0 * typical:
            m["cold"] = 1 if value > m["high"] else -1
            if width > 0.0:
                return
    m["low"] = min(m["low"], value)
    m["high"] = max(m["high"], value)


@njit(cache=True)
def judge_late(m: Record, t: int, local_ms: int, value: float, tmp: Floats) -> float:
    """Judge a value that is older than the newest by its own time of day, and fill its place in the memory.

    returns : ratio to the level of single values, signed; NaN where it cannot be judged
    """
    if m["scale"] <= 0.0 or m["counter"] == 1:
        return math.nan
    day = int(local_ms // DAY_MS)
    width, near = m["width"], near_of(m["width"])
    bin_ = int((local_ms % DAY_MS) // BIN_MS)
    bin_ -= bin_ % width
    for c in range(SEASONS):
        for k in range(RING):
            tmp[200 + c * RING + k] = m["usual"][c, k]
    for k in range(RING):
        tmp[260 + k] = m["mid"][k]
        tmp[270 + k] = m["wide"][k]
    for k in range(2 * near + 1):
        b = bin_ + (k - near) * width
        d = day
        if b < 0:
            b += BINS
            d -= 1
        elif b >= BINS:
            b -= BINS
            d += 1
        digest(m, b, d, k, tmp)
    ratio = math.nan
    x = clip((value - m["centre"]) / m["scale"], FARTHEST)
    if not math.isnan(m["usual"][ALL, near]):
        remembered, floor = _spread(m, near)
        spread = max(remembered * m["stretch"], floor)
        spread += 0.2 * max(0.0, abs(m["level"][m["season"]]) - DEAD * m["typical"])
        z, _, expected = _nearest(m, x, near, spread)
        z = clip(z, FAR)
        bar = np.float64(m["bar"][VALUE, 0 if z > 0.0 else 1])
        ratio = z / bar if bar > 0.0 else math.nan
        m["expected"] = expected
        m["spread"] = spread
        far = abs(np.float64(t - m["late_ms"])) > max(6.0 * m["interval_ms"], 1_800_000.0)
        if far:
            m["late_ew"] = 0.0
        m["late_ew"] += (clip(z, 15.0) - m["late_ew"]) * fade(
            min(abs(np.float64(t - m["late_ms"])), 4.0 * m["interval_ms"]),
            max(900_000.0, 1.5 * m["interval_ms"]),
        )
        m["late_ms"] = t
        bar = np.float64(m["bar"][QUARTER, 0 if m["late_ew"] > 0.0 else 1])
        if (
            bar > 0.0
            and abs(m["late_ew"]) / bar > abs(ratio)
            and abs(z) > 3.0
            and m["late_ew"] * z > 0.0
        ):
            ratio = m["late_ew"] / bar
    for c in range(SEASONS):
        for k in range(RING):
            m["usual"][c, k] = tmp[200 + c * RING + k]
    for k in range(RING):
        m["mid"][k] = tmp[260 + k]
        m["wide"][k] = tmp[270 + k]
    if read(m, bin_, day) == MISSING:
        write(m, bin_, day, x)
    return ratio


@njit(cache=True)
def clear_views(m: Record) -> None:
    """Nothing is said of a value that is not judged."""
    for view in range(ALL_VIEWS):
        m["q"][view] = 0.0


@njit(cache=True)
def fold_sample(
    m: Record,
    t: int,
    local_ms: int,
    value: float,
    knobs: Knobs,
    use: int,
    warmup: int,
    tmp: Floats,
    shape: Floats32,
    distances: Floats32,
) -> bool:
    """Judge and learn one sample.

    tmp     : float64 (>= 400,)  scratch
    returns : whether it could be judged
    """
    first = m["samples"] == 0
    iv = max(m["interval_ms"], 60_000.0)
    gap = np.float64(t - m["sample_ms"]) if not first else 0.0
    dt = min(gap, 4.0 * iv)
    m["live_ms"] += dt
    if first:
        m["centre"] = value
        m["day"] = -1
        m["stretch"] = 1.0
        m["width"] = width_of(iv)
    if m["scale"] <= 0.0 and value != m["centre"]:
        m["scale"] = abs(value - m["centre"])
    scale = m["scale"] if m["scale"] > 0.0 else 1.0
    x = clip((value - m["centre"]) / scale, FARTHEST)
    day, hour = int(local_ms // DAY_MS), int(local_ms // HOUR_MS)
    v = tmp[380:394]
    for view in range(VIEWS + 1):
        v[view] = 0.0
    if hour != m["hour"] or first:
        _close_hour(m, hour, gap, tmp)
        if not first:
            _accept(m, t, hour, knobs, tmp)
            scale = m["scale"] if m["scale"] > 0.0 else 1.0
            x = clip((value - m["centre"]) / scale, FARTHEST)
    if day != m["day"]:
        before = m["scale"]
        _close_day(m, day, knobs, tmp)
        if m["scale"] != before:
            scale = m["scale"]
            x = clip((value - m["centre"]) / scale, FARTHEST)
    if gap > max(6.0 * iv, 1_800_000.0):
        for k in range(3):
            m["ew"][k] = 0.0
        m["fresh"] = 0
        m["back_n"] = 0
        m["spread_now"] = m["spread_usual"]
        m["spread_ms"] = 0.0
    width = width_of(iv)
    if width != m["width"]:
        m["width"] = width
        m["bin_n"] = 0
    bin_ = int((local_ms % DAY_MS) // BIN_MS)
    bin_ -= bin_ % width
    turned = bin_ != m["bin"] or day != m["day"] or m["bin_n"] == 0
    if turned:
        for k in range(RING - 1):
            m["window"][0, k] = m["window"][0, k + 1]
            m["window_bin"][k] = m["window_bin"][k + 1]
        m["window"][0, RING - 1] = encode(m["bin_mean"])
        m["window_bin"][RING - 1] = m["day"] * BINS + m["bin"] if m["bin_n"] > 0 else -1
        turn(m, day, bin_, tmp)
        m["day"] = day
        m["bin"] = bin_
        m["bin_n"] = 0
    _follow_run(m, t, value, gap, dt, iv, v)
    _watch_cold(m, value, knobs)
    near = near_of(width)
    judged = not math.isnan(m["usual"][ALL, near]) and m["scale"] > 0.0
    if judged:
        _judge(m, t, x, value, int(hour % 24), near, turned, dt, iv, knobs, v, tmp)
    elif m["scale"] > 0.0 or first:
        m["expected"] = x
        m["back"][m["back_n"] % BACK] = value
        for c in range(SEASONS + 1):
            m["back_r"][c, m["back_n"] % BACK] = x
        m["back_n"] += 1
    _follow_step(m, value, x)
    m["bin_n"] += 1
    m["bin_mean"] = x if m["bin_n"] == 1 else m["bin_mean"] + (x - m["bin_mean"]) / m["bin_n"]
    write(m, bin_, day, m["bin_mean"])
    if (use >> COURSE) & 1:
        fold_course(m["course"], t, value, warmup, knobs, shape, distances)
    m["last"] = value
    m["sample_ms"] = t
    m["samples"] += 1
    if m["samples"] == 24 and m["steps"] > 0 and m["step"] > 0.0:
        recode(m, m["centre"], m["scale"] * m["step"])
    _rank(m, v, knobs, use)
    return judged


@njit(cache=True)
def _judge(
    m: Record,
    t: int,
    x: float,
    value: float,
    hour: int,
    near: int,
    turned: bool,
    dt: float,
    iv: float,
    knobs: Knobs,
    v: Floats,
    tmp: Floats,
) -> None:
    """Write what each view sees of a sample, and learn it."""
    season = m["season"]
    if math.isnan(m["usual"][season, near]):
        season = ALL
    remembered, floor = _spread(m, near)
    if m["typical"] <= 1e-9:
        m["typical"] = max(remembered, 1e-9)
    plain_spread = max(remembered, floor)
    spread = max(remembered * m["stretch"], floor)
    level = m["level"][season]
    spread += 0.2 * max(0.0, abs(level) - DEAD * m["typical"])
    z, residual, near_value = _nearest(m, x, near, spread)
    if m["old_until_ms"] > t:
        other = clip((value - m["old_centre"]) / m["old_scale"], FARTHEST)
        z_old, r_old, u_old = _nearest(m, other, near, spread)
        if abs(z_old) + 0.3 < abs(z):
            z, residual = z_old, r_old
    if abs(z) > knobs.excuse:
        z = _excuse(m, x, z, near, spread, knobs, tmp)
    z = clip(z, FAR)
    usual = np.float64(m["usual"][season, near]) + level
    m["expected"] = near_value if abs(z) < 3.0 else usual
    m["spread"] = spread
    m["deviation"] = z
    m["plain"] = clip((x - usual) / spread, 30.0)
    _follow_tail(m, m["plain"])
    typical = m["typical"]
    for c in range(SEASONS):
        u = np.float64(m["usual"][c, near])
        if math.isnan(u):
            u = np.float64(m["usual"][ALL, near])
        r = x - u
        most = 20.0 * typical + abs(m["level"][c])
        if r * m["before_r"] > 0.0:  # two in a row on the same side are no single row
            most = max(most, 1.5 * abs(m["before_r"]))
        m["hour_r"][c] += clip(r, most)
        m["hour_c"][c] += 1
        e = min(abs(r - m["level"][c]) / typical, 10.0)
        m["error"][c] += (e - np.float64(m["error"][c])) * fade(dt, 8.0 * DAY_MS)
    m["hour_n"] += 1
    m["hour_u"] += np.float64(m["usual"][season, near])
    m["hour_z"] += min(abs(x - usual) / plain_spread, 4.0)
    v[VALUE] = z
    if m["fresh"] >= 1 and z * m["before"] > 0.0:
        v[TWO] = z if abs(z) < abs(m["before"]) else m["before"]
    m["before"] = z
    ew = m["ew"]
    ew[0] += (clip(z, 15.0) - ew[0]) * fade(dt, max(900_000.0, 1.5 * iv))
    ew[1] += (clip(z, 3.0) - ew[1]) * fade(dt, max(3_600_000.0, 3.0 * iv))
    ew[2] += (clip(z, 2.5) - ew[2]) * fade(dt, max(14_400_000.0, 6.0 * iv))
    v[QUARTER] = ew[0]
    v[HOUR] = ew[1]
    v[HOURS4] = ew[2]
    m["fresh"] += 1
    v[LEVEL] = clip(level / max(m["daily"], 0.5 * typical), 1e3) if m["levels_n"] >= 2 else 0.0
    if turned:
        _miss(m, spread, tmp)
    v[MISSED] = clip(m["missed"], 1e3)
    m["near_jump"] = 0.0
    _follow_jump(m, x, value, hour, floor, residual, near, dt, iv, v, tmp)
    m["before_r"] = x - np.float64(m["usual"][season, near])
    size = abs(x - usual)
    odd = 1.0 if size > 0.05 * spread and abs(x - near_value) > 0.05 * spread else 0.0
    m["share"] += (odd - m["share"]) * fade(dt, 5.0 * DAY_MS)
    if odd > 0.0:
        m["size"] = (
            size
            if m["sizes"] == 0
            else m["size"]
            * math.exp(min(0.1, 1.0 / m["sizes"]) * (1.0 if size > m["size"] else -1.0))
        )
        m["sizes"] += 1
    m["often"] += (odd - m["often"]) * fade(dt, max(3_600_000.0, 4.0 * iv))
    if m["share"] < 0.05:
        v[OFTEN] = m["often"]
    if remembered > 0.0 and typical > 0.0:
        m["typical"] *= math.exp(
            clip(math.log(remembered / typical), 0.5) * fade(dt, DAY_MS)
            if m["samples"] > 600
            else clip(math.log(remembered / typical), 0.02)
        )


@njit(cache=True)
def _rank(m: Record, v: Floats, knobs: Knobs, use: int) -> None:
    """Put each view over its level; today's largest is remembered, at most as large as the level."""
    watched = m["live_ms"] > 0.5 * DAY_MS
    for view in range(COURSE):
        side = 0 if v[view] > 0.0 else 1
        size = abs(v[view])
        bar = np.float64(m["bar"][view, side]) if view != STUCK else 1.0
        if bar <= 0.0:
            bar = 2.0 * floor_of(knobs, view)
        if watched and size > m["most"][view, side]:
            m["most"][view, side] = bound(size, bar, m["maxima_n"])
        m["q"][view] = v[view] / bar if (use >> view) & 1 else 0.0
    m["q"][CROSS] = 0.0
    m["q"][COURSE] = (
        max(m["course"]["score"], 0.0) / knobs.course if m["course"]["phase"] == 2 else 0.0
    )


@njit(cache=True)
def fold_value(
    m: Record,
    t: int,
    local_ms: int,
    value: float,
    knobs: Knobs,
    use: int,
    warmup: int,
    tmp: Floats,
    shape: Floats32,
    distances: Floats32,
) -> bool:
    """Fold one finite value in order of time.

    returns : whether it made a sample that was judged; else the views keep what they said last

    Cost: O(1), see DESIGN.md.
    """
    if m["seen"] == 0:
        m["origin_ms"] = t
        m["last_ms"] = t
        m["up_since_ms"] = t
        m["total"] = value
        m["total_ms"] = t
    pause = t - m["last_ms"]
    if pause > 0:
        m["interval_ms"] = follow_interval(m["interval_ms"], np.float64(pause), m["seen"])
    m["seen"] += 1
    m["last_ms"] = t
    m["newest"] = value
    if m["seen"] > 1:
        changed = _follow_total(m, t, value)
        if changed:
            return False
    if m["counter"] == 1:
        step, since = value - m["total"], t - m["total_ms"]
        if since <= 0:
            return False
        m["total"] = value
        m["total_ms"] = t
        if step < 0.0:
            return False
        value = step / (since / 1000.0)
    elif pause > 0 or m["seen"] == 1:
        m["total"] = value
        m["total_ms"] = t
    iv = m["interval_ms"]
    if 0.0 < iv < FASTEST_MS:
        minute = t // MINUTE_MS
        if m["minute_n"] > 0 and minute == m["minute"]:
            m["minute_sum"] += value
            m["minute_n"] += 1
            m["minute_ms"] = t
            return False
        judged = False
        if m["minute_n"] > 0:
            shift = local_ms - t
            judged = fold_sample(
                m,
                m["minute_ms"],
                m["minute_ms"] + shift,
                m["minute_sum"] / m["minute_n"],
                knobs,
                use,
                warmup,
                tmp,
                shape,
                distances,
            )
        m["minute"] = minute
        m["minute_sum"] = value
        m["minute_n"] = 1
        m["minute_ms"] = t
        return judged
    m["minute_n"] = 0
    if m["samples"] > 0 and t - m["sample_ms"] < min(0.5 * iv, 60_000.0):
        return False
    return fold_sample(m, t, local_ms, value, knobs, use, warmup, tmp, shape, distances)


@njit(cache=True)
def _follow_total(m: Record, t: int, value: float) -> bool:
    """Recognise a total that only grows; returns whether the metric has just become one or has ceased to be one."""
    if value > m["total"]:
        m["ups"] += 1
    elif value < m["total"]:
        if value < 0.0 or value > 0.1 * m["total"]:
            m["downs"] += 1
            m["ups"] = 0
            m["equals"] = 0
            m["up_since_ms"] = t
    else:
        m["equals"] += 1
    if m["counter"] == 0:
        n = m["ups"] + m["equals"]
        if (
            m["ups"] >= 60
            and m["ups"] > 0.5 * n
            and t - m["up_since_ms"] > 1.5 * DAY_MS
            and m["samples"] < 2000 + 0 * n
        ):
            _restart(m, 1)
            m["total"] = value
            m["total_ms"] = t
            return True
        return False
    if m["downs"] >= 3:
        _restart(m, 0)
        m["total"] = value
        m["total_ms"] = t
        return True
    return False


@njit(cache=True)
def _restart(m: Record, counter: int) -> None:
    """Forget what was learned in another meaning of the value."""
    m["counter"] = counter
    m["downs"] = 0
    m["samples"] = 0
    m["scale"] = 0.0
    m["live_ms"] = 0.0
    m["minute_n"] = 0
    m["bin_n"] = 0
    m["hour_n"] = 0
    m["steps"] = m["sizes"] = m["jumps"] = m["back_n"] = m["fresh"] = 0
    for side in range(2):
        m["tail"][side, 0] = m["tail"][side, 1] = 0.0
    m["typical"] = m["step"] = m["size"] = m["share"] = m["often"] = m["daily"] = 0.0
    m["maxima_n"] = m["levels_n"] = 0
    m["season"] = 0
    for c in range(SEASONS):
        m["level"][c] = 0.0
        m["error"][c] = 0.0
        m["hour_r"][c] = 0.0
        m["hour_c"][c] = 0
    for k in range(HOURS):
        m["hours"][k] = 0
    for k in range(BINS):
        m["written"][k] = 0
    m["old_until_ms"] = 0
    m["run_n"] = 0
    m["run_longest"] = 0.0
    m["missed"] = 0.0
    clear_views(m)
