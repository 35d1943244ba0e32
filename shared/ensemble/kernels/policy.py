"""Policy: which of the rows above the threshold become an alarm, and where the threshold lies.

Law: part of the state like everything else; asked and given alarms depend on the entity's own past
     alone.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.calibration import add
from shared.ensemble.kernels.layout import Knobs, Record

DAY_MS = 86_400_000
PERIODS = 20.0
"""Periods after which the entity's own peaks set the threshold of a budget."""

PEAK_MEMORY = 300.0
LOWEST, HIGHEST = 0.05, 8.0
CORRECTION = 0.25
SURPLUS = 8.0
"""At most so many alarms above or below the budget are remembered."""

FIRST_COLD = 30
COLD_SPREADS = 8.0
FIRST_DAY = 10.0
COLD_QUIET = 50
"""Rows without a further cold alarm."""


@njit(cache=True)
def is_extreme(state: Record, time_ms: int, value: float) -> bool:
    """Whether a value of the warm-up lies far outside everything so far: robust spreads and the
    range that was seen.

    Before a whole day has been seen, a job that runs once a day would look so; it takes FIRST_DAY
    times as much then.
    """
    n = state["count"]
    if state["phase"] == 2 or n < FIRST_COLD:
        return False
    warm = state["warm"]
    low = np.float64(warm[0, 2])
    high = np.float64(warm[0, 1])
    for i in range(n):
        low = min(low, np.float64(warm[i, 2]))
        high = max(high, np.float64(warm[i, 1]))
    beyond = max(low - value, value - high)
    times = 1.0 if time_ms - state["origin_ms"] >= DAY_MS else FIRST_DAY
    if beyond <= times * (high - low):
        return False
    ordered = np.sort(warm[:n, 0].copy())
    centre = np.float64(ordered[n // 2])
    spread = max(
        (np.float64(ordered[int(n * 0.9)]) - np.float64(ordered[int(n * 0.1)])) / 2.56,
        0.01 * abs(centre),
    )
    return bool(spread > 0.0 and abs(value - centre) > times * COLD_SPREADS * spread)


@njit(cache=True)
def decide_cold(entity: Record, extreme: bool) -> bool:
    """Say whether a row of the warm-up is an alarm; the row must be counted in ``rows`` already."""
    if not extreme or (entity["alarm"] > 0 and entity["rows"] - entity["alarm"] <= COLD_QUIET):
        return False
    entity["alarm"] = entity["rows"]
    return True


@njit(cache=True)
def severity(z: float, threshold: float) -> float:
    """Map Z to 0..1: .5 exactly at the threshold, .75 one above it, never falling; NaN stays.

    threshold : > 0
    """
    if z >= threshold:
        return 1.0 - 0.5 / (1.0 + (z - threshold))
    return max(0.5 * z / threshold, 0.0) if not math.isnan(z) else z


@njit(cache=True)
def knows_peaks(entity: Record) -> bool:
    """Whether enough periods have gone by for the entity's own peaks to set a budget's threshold."""
    peaks = entity["peaks"]
    return bool(peaks["total"] >= PERIODS * peaks["gain"] > 0.0)


@njit(cache=True)
def decide(entity: Record, z: float, budgeted: bool, knobs: Knobs) -> bool:
    """Say whether a row is an alarm; the row must be counted in ``rows`` already.

    A quiet time of ``refractory`` warm-ups follows an alarm, unless Z is ``break_through`` times
    that of the alarm; and each alarm raises the bar by ``habituation``, which fades over
    ``habituation_memory`` warm-ups; beyond ``habit_often`` alarms in that time the bar rises with
    their square, so that a series that is always new does not alarm for ever
    (``budgeted``: it rises by those at most, and the budget sees to the rest).

    Twin: tests/reference/policy.py::alarms.
    """
    warmup = np.float64(entity["warmup"])
    entity["habit"] *= math.exp(-1.0 / (knobs.habituation_memory * warmup))
    habit = entity["habit"]
    worth = (
        min(habit, knobs.habit_often) if budgeted else habit * max(1.0, habit / knobs.habit_often)
    )
    effective = z - knobs.habituation * worth
    entity["effective"] = effective
    if effective < entity["threshold"]:
        return False
    quiet = entity["alarm"] > 0 and entity["rows"] - entity["alarm"] <= knobs.refractory * warmup
    if quiet and effective < knobs.break_through * entity["alarm_z"]:
        return False
    entity["alarm"] = entity["rows"]
    entity["alarm_z"] = effective
    entity["habit"] += 1.0
    return True


@njit(cache=True)
def exceeded(sketch: Record, share: float) -> float:
    """Value that a share of the remembered weight lies above; the sketch holds something.

    Twin: tests/reference/budget.py::exceeded.  Cost: O(entries above).
    """
    wanted = share * sketch["total"]
    above = 0.0
    for i in range(sketch["size"] - 1, -1, -1):
        weight = np.float64(sketch["weight"][i])
        if above + weight >= wanted:
            inside: float = (wanted - above) / weight
            return np.float64(sketch["high"][i]) - inside * (
                np.float64(sketch["high"][i]) - np.float64(sketch["low"][i])
            )
        above += weight
    return np.float64(sketch["low"][0])


@njit(cache=True)
def follow_budget(
    entity: Record, z: float, alarm: bool, per_day: float, interval_ms: float, knobs: Knobs
) -> None:
    """Move the threshold so that about ``per_day`` alarms a day follow in the long run.

    z       : Z less habituation
    per_day : > 0, asked alarms per day; the bar is where that share of the entity's own peaks lies
              above, one peak per quiet time; beyond the largest peaks an exponential tail;
              corrected by the alarms given so far

    Twin: tests/reference/budget.py::thresholds.  Cost: O(1), at the end of a period O(SKETCH).
    """
    length = max(1.0, knobs.refractory * np.float64(entity["warmup"]))
    rows_per_day = DAY_MS / interval_ms
    asked = per_day / rows_per_day
    surplus = entity["surplus"] + (1.0 if alarm else 0.0) - asked
    entity["surplus"] = min(max(surplus, -SURPLUS), SURPLUS)
    entity["peak"] = max(entity["peak"], z)
    entity["period"] += 1
    if entity["period"] < length:
        return
    peaks = entity["peaks"]
    add(peaks, max(entity["peak"], 0.0), PEAK_MEMORY)
    entity["period"] = 0
    entity["peak"] = 0.0
    periods = peaks["total"] / peaks["gain"]
    if not knows_peaks(entity):
        return
    share = min(asked * length * math.exp(-CORRECTION * entity["surplus"]), 0.9)
    least = 3.0 / periods
    if share >= least:
        bar = exceeded(peaks, share)
    else:
        slope = (exceeded(peaks, least) - exceeded(peaks, 4.0 * least)) / math.log(4.0)
        bar = exceeded(peaks, least) + max(slope, 0.02) * math.log(least / share)
    entity["threshold"] = min(max(bar, LOWEST), HIGHEST)
