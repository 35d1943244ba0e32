"""One (entity, metric): from a value to the rarity of what each online member sees.

Invariant: a pure fold over the metric's values in log order; the warm-up is buffered and then
replayed through the same fold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Floats32, Record
from shared.ensemble.kernels.codes import clip, lengthen, shorten
from shared.ensemble.kernels.course.absence import watch_silence
from shared.ensemble.kernels.course.course_layout import (
    LONG,
    LONG_BLOCK,
    NEIGHBOURS,
    SEASON_BLOCK,
    SEASON_DAYS,
    SHORT,
    SHORT_BLOCK,
    SLACK,
    TIME_OF_DAY,
    WARMUP,
)
from shared.ensemble.kernels.course.neighbours import (
    Unit,
    Window,
    expect_time_of_day,
    push_season,
    push_time_of_day,
    score_neighbours,
)
from shared.ensemble.kernels.course.novelty import fit_unit, push_block, score_novelty
from shared.ensemble.kernels.course.ranks import growth_of, rank_and_add
from shared.ensemble.kernels.course.scale import (
    deadband,
    middle_of,
    push_median,
    rescale,
    robust_scale,
)
from shared.ensemble.kernels.layout import BIN_MS, EnsembleParams
from shared.ensemble.kernels.season.season_memory import width_of
from shared.kernels.units import DAY_MS

MEASURE = 150
"""Values whose median interval is the sampling interval."""

FIRST_RANK = 20
"""Samples before a rank is used."""

WARMUP_DAYS = 3
PREFILL = 64
LARGEST_UNITS = 1e30
"""Samples of a warm-up lie at most so far from the first value, in units of the next other one."""

LONGEST_GAP_MS = 48 * DAY_MS
"""Of a longer gap within a warm-up only the time of day counts."""

USUAL_MS = 300_000.0
"""Interval at which a rarity counts as it is."""


class CourseWork(NamedTuple):
    """Scratch of the course.

    shape     : float32 (SHAPE,)
    distances : float32 (LIBRARY,)
    windows   : float32 (WINDOWS,)
    known     : float64 (2,)  a memory of ranks and its growth
    """

    shape: Floats32
    distances: Floats32
    windows: Floats32
    known: Floats


@njit(cache=True, error_model="numpy")
def _round(x: float) -> int:
    return int(x + 0.5)


@njit(cache=True, error_model="numpy")
def long_block(warmup: int, params: EnsembleParams) -> int:
    """Samples in a block of the long novelty member."""
    return min(max(1, _round(warmup / params.long_blocks)), LONG_BLOCK)


@njit(cache=True, error_model="numpy")
def _plan_season(state: Record, params: EnsembleParams) -> None:
    """Set the width of a bin and the bins in a block of the neighbours member."""
    season, sample_ms = state["season"], state["interval_ms"] * state["fold"]
    season["width"] = width_of(sample_ms)
    block_ms = state["warmup"] * sample_ms / params.season_blocks
    block = _round(block_ms / (season["width"] * BIN_MS))
    season["block"] = min(max(1, block), SEASON_BLOCK)


@njit(cache=True, error_model="numpy")
def _unit(m: Record, params: EnsembleParams) -> Unit:
    """Return how the memory's numbers become those of the course.

    m : METRIC_DTYPE
    """
    state = m["course"]
    spread = state["spread"]
    shift = m["centre"] / spread - state["centre"] / spread
    width = params.deadband * (state["high"] - state["low"])
    return Unit(m["scale"] / spread, shift, middle_of(state["median"]), width)


@njit(cache=True, error_model="numpy")
def _median_interval(warm: Array, n: int) -> float:
    if n < 2:
        return 300_000.0
    gaps = np.empty(n - 1)
    for i in range(1, n):
        gaps[i - 1] = warm[i]["gap_ms"]
    ordered = np.sort(gaps)
    middle = ordered.size // 2
    lower = middle if ordered.size % 2 else middle - 1
    found = 0.5 * (np.float64(ordered[lower]) + np.float64(ordered[middle]))
    return max(found, 1.0)


@njit(cache=True, error_model="numpy")
def _plan(interval_ms: float, warmup: int) -> tuple[int, int]:
    """Return the samples of a warm-up and the values in each of them."""
    if warmup > 0:
        return warmup, 1
    samples = WARMUP_DAYS * DAY_MS / interval_ms
    fold = max(1, math.ceil(samples / WARMUP - 1e-9))
    return int(min(max(samples / fold, np.float64(MEASURE)), np.float64(WARMUP))), fold


@njit(cache=True, error_model="numpy")
def _measure(state: Record, warmup: int) -> None:
    """Set interval, warm-up length and fold from the buffered values, and group them."""
    n = state["count"]
    warm = state["warm"]
    state["interval_ms"] = _median_interval(warm, n)
    state["phase"] = 1
    samples, fold = _plan(state["interval_ms"], warmup)
    state["fold"] = fold
    state["warmup"] = samples
    if fold > 1:
        state["count"] = 0
        time_ms = _first_ms(state, n)
        for i in range(n):
            time_ms += _gap(state, i)
            _buffer(state, time_ms, _mean(state, i))


@njit(cache=True, error_model="numpy")
def _gap(state: Record, at: int) -> int:
    """Return the milliseconds between a buffered sample and the one before it."""
    gap_ms: int = np.int64(state["warm"][at]["gap_ms"])  # type: ignore[assignment]
    return gap_ms


@njit(cache=True, error_model="numpy")
def _first_ms(state: Record, n: int) -> int:
    """Return the time of the first of n buffered samples."""
    first_ms: int = state["buffered_ms"]
    for i in range(n):
        first_ms -= _gap(state, i)
    return first_ms


@njit(cache=True, error_model="numpy")
def _mean(state: Record, at: int) -> float:
    """Return the mean of a buffered sample."""
    mean: float = state["centre"] + state["spread"] * np.float64(state["warm"][at]["mean"])
    return mean


@njit(cache=True, error_model="numpy")
def _open(state: Record, value: float) -> None:
    """Add a value to the open sample; the first two of a series are the unit of its warm-up."""
    if state["phase"] < 2 and state["spread"] == 0.0:
        state["spread"] = abs(value - state["centre"])
    fold = max(state["fold"], 1)
    if state["in_fold"] == 0:
        state["open_sum"] = 0.0
        state["open_high"] = value
        state["open_low"] = value
    state["in_fold"] += 1
    state["open_sum"] += value / fold
    state["open_high"] = max(state["open_high"], value)
    state["open_low"] = min(state["open_low"], value)


@njit(cache=True, error_model="numpy")
def _buffer(state: Record, time_ms: int, value: float) -> None:
    _open(state, value)
    if state["in_fold"] < max(state["fold"], 1):
        return
    at = state["count"]
    sample = state["warm"][at]
    gap_ms = time_ms - state["buffered_ms"] if at > 0 else 0
    if gap_ms > LONGEST_GAP_MS:
        gap_ms = LONGEST_GAP_MS + gap_ms % DAY_MS
    mean = state["open_sum"]
    unit = state["spread"] if state["spread"] > 0.0 else 1.0
    sample["gap_ms"] = gap_ms
    sample["mean"] = clip((mean - state["centre"]) / unit, LARGEST_UNITS)
    sample["above"] = shorten((state["open_high"] - mean) / unit)
    sample["below"] = shorten((mean - state["open_low"]) / unit)
    state["buffered_ms"] = time_ms
    state["in_fold"] = 0
    state["count"] = at + 1


@njit(cache=True, error_model="numpy")
def _growth(state: Record, params: EnsembleParams, known: Floats) -> float:
    """Return the growth of the ranks' memory; that of the last metric is known."""
    memory = params.rank_memory * state["warmup"]
    if known[0] != memory:
        known[0] = memory
        known[1] = growth_of(memory)
    growth: float = known[1]
    return growth


@njit(cache=True, error_model="numpy")
def _judge(
    state: Record, member: int, score: float, count: int, params: EnsembleParams, work: CourseWork
) -> None:
    if score < params.floor * (state["high"] - state["low"]):  # differences that small are noise
        score = 0.0
    growth = _growth(state, params, work.known)
    rarity = rank_and_add(state["sketch"][member], score, growth, work.distances)
    state["rarity"][member] = rarity if count >= FIRST_RANK else 0.0


@njit(cache=True, error_model="numpy")
def _fold_short(
    state: Record,
    time_ms: int,
    x: float,
    params: EnsembleParams,
    work: CourseWork,
) -> None:
    """The fast member: every value."""
    middle = middle_of(state["median"])
    width = state["high"] - state["low"]
    member = state["short"]
    near = deadband(x, middle, params.deadband * width)
    block = min(max(1, _round(params.short_block)), SHORT_BLOCK)
    fit_unit(member, width)
    push_block(member, block, near, near, near)
    watch_silence(state, near != 0.0, time_ms, block, params)
    stride = max(1, _round(params.short_stride))
    score = score_novelty(member, block, stride, work.shape, work.distances)
    _judge(state, SHORT, score, member["count"] - 1, params, work)


@njit(cache=True, error_model="numpy")
def _fold_sample(
    m: Record,
    time_ms: int,
    local_ms: int,
    mean: float,
    high: float,
    low: float,
    params: EnsembleParams,
    work: CourseWork,
) -> None:
    """The slow members: every sample."""
    state = m["course"]
    count = state["count"]
    warmup = state["warmup"]
    state["count"] = count + 1
    middle = middle_of(state["median"])
    width = state["high"] - state["low"]
    long = state["long"]
    wide = params.deadband_long * width
    block = long_block(warmup, params)
    fit_unit(long, width)
    push_block(
        long,
        block,
        deadband(mean, middle, wide),
        deadband(high, middle, wide),
        deadband(low, middle, wide),
    )
    score = score_novelty(long, block, max(1, block // 2), work.shape, work.distances)
    _judge(state, LONG, score, count, params, work)

    near = deadband(mean, middle, params.deadband * width)
    slack, days = min(_round(params.slack), SLACK), min(_round(params.season_days), SEASON_DAYS)
    window = Window(int(state["season"]["block"]), slack, days)
    push_season(m, local_ms, near, window, _unit(m, params))
    score = score_neighbours(state["season"], window, work.windows)
    _judge(state, NEIGHBOURS, score, count, params, work)

    expected = expect_time_of_day(state["bins"], time_ms)
    score = 0.0 if math.isnan(expected) else abs(near - expected)
    push_time_of_day(state["bins"], time_ms, near, params.time_memory)
    _judge(state, TIME_OF_DAY, score, count, params, work)


@njit(cache=True, error_model="numpy")
def _widen(state: Record, x: float, params: EnsembleParams) -> None:
    """Move running median and range."""
    warmup = state["warmup"]
    state["low"] = min(state["low"], x)
    state["high"] = max(state["high"], x)
    if params.range_memory > 0.0:
        middle = middle_of(state["median"])
        rate = 1.0 / (params.range_memory * warmup * state["fold"])
        state["low"] += (min(middle, x) - state["low"]) * rate
        state["high"] += (max(middle, x) - state["high"]) * rate
    stride = max(1, _round(params.median_memory * warmup * state["fold"] / 127.0))
    if state["seen"] % stride == 0:
        push_median(state["median"], x)


@njit(cache=True, error_model="numpy")
def _join(state: Record, params: EnsembleParams) -> float:
    """Weighted mean of the members' rarities (0 where none has a weight), smoothed.

    Per unit of time.
    """
    rarity = state["rarity"]
    weights = (
        params.weight_long + params.weight_neighbours + params.weight_time + params.weight_short
    )
    joint = 0.0
    if weights > 0.0:
        joint = (
            params.weight_long * rarity[LONG]
            + params.weight_neighbours * rarity[NEIGHBOURS]
            + params.weight_time * rarity[TIME_OF_DAY]
            + params.weight_short * rarity[SHORT]
        ) / weights
    state["smooth"] += params.smoothing * (joint - state["smooth"])
    smoothed: float = 0.5 * (joint + state["smooth"])
    if state["interval_ms"] == USUAL_MS:
        return smoothed
    return smoothed + params.interval_weight * math.log10(state["interval_ms"] / USUAL_MS)


@njit(cache=True, error_model="numpy")
def _start(m: Record, shift_ms: int, params: EnsembleParams, work: CourseWork) -> None:
    """End the warm-up: take the scale from it and replay it.

    shift_ms : local time minus UTC
    """
    state = m["course"]
    n = state["count"]
    times, values = np.empty(n, np.int64), np.empty((n, 3))
    time_ms = _first_ms(state, n)
    for i in range(n):
        sample = state["warm"][i]
        mean = _mean(state, i)
        time_ms += _gap(state, i)
        times[i] = time_ms
        values[i, 0] = mean
        values[i, 1] = mean + state["spread"] * np.float64(lengthen(sample["above"]))
        values[i, 2] = mean - state["spread"] * np.float64(lengthen(sample["below"]))
    for i in range(WARMUP):
        sample = state["warm"][i]
        sample["gap_ms"] = 0
        sample["mean"] = 0.0
        sample["above"] = sample["below"] = 0
    state["phase"] = 2
    state["count"] = 0
    _plan_season(state, params)
    centre, spread = robust_scale(values[:, 0].copy())
    state["centre"] = centre
    state["spread"] = spread
    median = state["median"]
    stride = max(1, n // PREFILL)
    low = math.inf
    high = -math.inf
    for i in range(n):
        low = min(low, values[i, 2])
        high = max(high, values[i, 1])
        if i % stride == 0:
            push_median(median, rescale(values[i, 0], centre, spread))
    state["low"] = rescale(low, centre, spread)
    state["high"] = rescale(high, centre, spread)
    for i in range(n):
        x = rescale(values[i, 0], centre, spread)
        if state["fold"] == 1:
            _fold_short(state, times[i], x, params, work)
        _fold_sample(
            m,
            times[i],
            times[i] + shift_ms,
            x,
            rescale(values[i, 1], centre, spread),
            rescale(values[i, 2], centre, spread),
            params,
            work,
        )
        state["score"] = _join(state, params)


@njit(cache=True, error_model="numpy")
def fold_value(
    m: Record,
    time_ms: int,
    local_ms: int,
    value: float,
    warmup: int,
    params: EnsembleParams,
    work: CourseWork,
) -> None:
    """Fold one finite value into the course of its metric, whose memory has it already.

    m        : METRIC_DTYPE; of its course, score is Z, meaningful in phase 2, and rarity the
               calibrated score of each member
    local_ms : local time
    warmup   : samples of warm-up; 0 = WARMUP_DAYS of samples, 150 to WARMUP
    work     : scratch

    Cost: about 1 us, whatever the length of the history.
    """
    state = m["course"]
    if state["seen"] == 0:
        state["origin_ms"] = time_ms
        state["centre"] = value
    state["seen"] += 1
    if state["phase"] < 2:
        _buffer(state, time_ms, value)
        if state["phase"] == 0 and state["count"] >= (
            min(MEASURE, warmup) if warmup > 0 else MEASURE
        ):
            _measure(state, warmup)
        if state["phase"] == 1 and state["count"] >= state["warmup"]:
            _start(m, local_ms - time_ms, params, work)
        return
    centre = state["centre"]
    spread = state["spread"]
    x = rescale(value, centre, spread)
    _widen(state, x, params)
    _fold_short(state, time_ms, x, params, work)
    _open(state, value)
    if state["in_fold"] == state["fold"]:
        state["in_fold"] = 0
        mean = x if state["fold"] == 1 else rescale(state["open_sum"], centre, spread)
        _fold_sample(
            m,
            time_ms,
            local_ms,
            mean,
            rescale(state["open_high"], centre, spread),
            rescale(state["open_low"], centre, spread),
            params,
            work,
        )
    state["score"] = _join(state, params)


@njit(cache=True, error_model="numpy")
def alarms(state: Record, z: float, time_ms: int, threshold: float, params: EnsembleParams) -> bool:
    """Say whether a sample opens an alarm of the course.

    A quiet time of ``refractory`` warm-ups follows an alarm, unless Z is ``break_through`` times
    that of the alarm; each alarm raises the bar by ``habituation``, which fades over
    ``habituation_memory`` warm-ups, beyond ``habit_often`` of them with their square.
    """
    warmup_ms = state["warmup"] * state["fold"] * state["interval_ms"]
    since = np.float64(time_ms - state["row_ms"]) if state["row_ms"] > 0 else 0.0
    state["row_ms"] = time_ms
    state["habit"] *= math.exp(-since / (params.habituation_memory * warmup_ms))
    habit = state["habit"]
    effective = z - params.habituation * habit * max(1.0, habit / params.habit_often)
    if effective < threshold:
        return False
    quiet = state["alarm_ms"] > 0 and time_ms - state["alarm_ms"] <= params.refractory * warmup_ms
    if quiet and effective < params.break_through * state["alarm_z"]:
        return False
    state["alarm_ms"] = time_ms
    state["alarm_z"] = effective
    state["habit"] += 1.0
    return True
