"""Slow and obviously right: the silences of a series from the list of all that ended."""

from __future__ import annotations

import math


def silences(active, times, shortest, keep, params, interval_ms):
    """Return z of the silence at each value, 0 while its length is usual.

    keep : factor by which the length of a past silence shrinks per value

    A silence of less than 12 hours is always usual.
    """
    out, ended, quiet, ever = [], [], 0, False
    for row, (is_active, time_ms) in enumerate(zip(active, times, strict=True)):
        if is_active:
            if ever and quiet >= shortest:
                ended.append((row, quiet))
            quiet, ever = 0, True
            out.append(0.0)
            continue
        quiet += 1
        out.append(
            _judge(row, quiet, (time_ms - times[0]) / 3_600_000, ended, keep, params)
            if quiet * interval_ms >= 12 * 3_600_000
            else 0.0
        )
    return out


def _judge(row, quiet, hours, ended, keep, params):
    if not ended or hours < 7 * 24:
        return 0.0
    assert len(ended) <= 100  # beyond, the mean of the logarithms fades
    longest = max(length * keep ** (row - end) for end, length in ended)
    typical = math.log(longest) - sum(math.log(length) for _, length in ended) / len(ended)
    enough = len(ended) >= 20 or (len(ended) >= 5 and typical <= 0.1)
    if not enough or quiet <= 1.1 * longest:
        return 0.0
    slope = max(params.absence_slope, 1 / (max(typical, 0.0) + 0.05))
    return params.absence * (math.log10(min(hours, 60 * 24)) + slope * math.log10(quiet / longest))
