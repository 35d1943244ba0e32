"""Slow and obviously right: levels, codes, intervals, counters, and many metrics together."""

from __future__ import annotations

import numpy as np

HALVES = np.arange(31744, dtype=np.uint16).view(np.float16).astype(np.float64)
"""All finite half floats >= 0; the place of each is its code."""


def code_of(x):
    """Place of the nearest half float of at most 65000; the larger one of two that are as near."""
    size = float(np.float32(min(abs(x), 65000.0)))
    at = int(np.searchsorted(HALVES, size))
    below, above = HALVES[max(at - 1, 0)], HALVES[min(at, len(HALVES) - 1)]
    code = at if above - size <= size - below else at - 1
    return code if x >= 0 else -code


def value_of(code):
    """The half float that a code stands for."""
    return float(np.sign(code) * HALVES[abs(code)])


def return_level(maxima, least, days, prior, trust):
    """Level reached once in so many days: a Gumbel law of the logarithms of daily maxima.

    In a first week of three days or more, the largest says nothing of the law; the level is higher.
    """
    logs = np.sort(np.log(np.maximum(np.asarray(maxima, np.float32).astype(float), least)))
    n = len(logs)
    law = logs[:-1] if 3 <= n < 7 else logs

    def gumbel(p):
        return -np.log(-np.log(p))

    low, middle, high = np.quantile(law, [0.3, 0.5, 0.8])
    measured = max(
        (high - middle) / (gumbel(0.8) - gumbel(0.5)),
        (high - low) / (gumbel(0.8) - gumbel(0.3)),
        0.06,
    )
    slope = trust * measured + (1 - trust) * prior
    level = np.exp(middle + slope * (gumbel(1 - 1 / days) - gumbel(0.5)))
    second = logs[-2] if n > 1 else logs[0]
    return max(level * (1 + 1 / n), 1.1 * np.exp(second)) if n < 7 else level


def interval(pauses):
    """Time-weighted median: half of the time lies in pauses that are at least as long."""
    ordered = np.sort(pauses)
    return ordered[np.searchsorted(np.cumsum(ordered), 0.5 * np.sum(ordered))]


def rates(times_ms, totals):
    """What a counter's metric is judged by: growth per second; nothing where it was reset."""
    steps, seconds = np.diff(totals), np.diff(times_ms) / 1000
    return [s / t for s, t in zip(steps, seconds, strict=True) if s >= 0]


def joint(sizes):
    """The k-th largest of a row's sizes, k = a quarter of the metrics, at least 2."""
    place = max(2, len(sizes) // 4)
    found = sorted((min(abs(x), 30.0) for x in sizes if not np.isnan(x)), reverse=True)
    return found[place - 1] if len(found) >= place else 0.0
