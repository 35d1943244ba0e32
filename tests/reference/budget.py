"""Slow and obviously right: the threshold of a budget from the list of all peaks."""

from __future__ import annotations

import math


def exceeded(peaks, memory, share):
    """Value that a share of the weight lies above; the newest of the peaks weighs 1, older ones
    fade.
    """
    weighted = sorted(
        ((peak, math.exp(-age / memory)) for age, peak in enumerate(reversed(peaks))), reverse=True
    )
    wanted = share * sum(weight for _, weight in weighted)
    above = 0.0
    for peak, weight in weighted:
        above += weight
        if above >= wanted:
            return peak
    return weighted[-1][0]


def thresholds(scores, warmup, per_day, interval_ms, threshold, knobs):
    """Threshold after each row, where every row that reaches the one in force alarms."""
    length = max(1.0, knobs.refractory * warmup)
    asked = per_day * interval_ms / 86_400_000
    out, peaks, period, surplus = [], [], [], 0.0
    for z in scores:
        surplus = min(max(surplus + (z >= threshold) - asked, -8.0), 8.0)
        period.append(z)
        if len(period) >= length:
            peaks.append(max(0.0, *period))
            period = []
            if sum(math.exp(-age / 300) for age in range(len(peaks))) >= 20:
                threshold = _bar(peaks, min(asked * length * math.exp(-0.25 * surplus), 0.9))
        out.append(threshold)
    return out


def _bar(peaks, share):
    """Quantile of the peaks; beyond the largest three an exponential tail through two quantiles."""
    least = 3 / sum(math.exp(-age / 300) for age in range(len(peaks)))
    if share >= least:
        bar = exceeded(peaks, 300, share)
    else:
        slope = (exceeded(peaks, 300, least) - exceeded(peaks, 300, 4 * least)) / math.log(4)
        bar = exceeded(peaks, 300, least) + max(slope, 0.02) * math.log(least / share)
    return min(max(bar, 0.05), 8.0)
