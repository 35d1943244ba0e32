"""Slow and obviously right: neighbours and levels of the time of day from dictionaries."""

from __future__ import annotations

import math

DAY_MS = 86_400_000


def neighbour_scores(times, values, bins_per_day, block, slack, days):
    """Return the distance to the best-matching window at the same time of day on earlier days.

    A bin without a value repeats the one before.
    """
    bins, order, out = {}, [], []
    for time_ms, value in zip(times, values, strict=True):
        place = time_ms * bins_per_day // DAY_MS
        if order and place <= order[-1]:
            place = order[-1]
        elif order:
            for missed in range(order[-1] + 1, place):
                bins[missed] = list(bins[order[-1]])
                order.append(missed)
            order.append(place)
        else:
            order.append(place)
        bins.setdefault(place, []).append(value)
        out.append(_best(bins, order[0], order[-1], bins_per_day, block, slack, days))
    return out


def _mean(bins, first, place, block):
    part = [sum(bins[p]) / len(bins[p]) for p in range(max(first, place - block + 1), place + 1)]
    return sum(part) / len(part)


def _best(bins, first, newest, bins_per_day, block, slack, days):
    length, best = 8 * block, math.inf
    if newest - first < length:
        return 0.0
    for day in range(1, days + 1):
        for shift in range(-slack, slack + 1):
            other = newest - day * bins_per_day + shift * block
            if other - first < length - 1 or other > newest - length:
                continue
            gaps = [
                _mean(bins, first, newest - k * block, block)
                - _mean(bins, first, other - k * block, block)
                for k in range(8)
            ]
            best = min(best, sum(g * g for g in gaps))
    return math.sqrt(best / 8) if best < math.inf else 0.0


def time_of_day_scores(times, values, memory):
    """Return the distance from the level of the current and both adjacent half hours of the day.

    The level is their mean, weighted by the number of values that each has seen.
    """
    seen, level, out = [0.0] * 48, [0.0] * 48, []
    for time_ms, value in zip(times, values, strict=True):
        at = time_ms % DAY_MS // (DAY_MS // 48)
        around = [(at - 1) % 48, at, (at + 1) % 48]
        weight = sum(seen[b] for b in around)
        out.append(abs(value - sum(seen[b] * level[b] for b in around) / weight) if weight else 0.0)
        seen[at] = min(seen[at] + 1, memory)
        level[at] += (value - level[at]) / seen[at]
    return out
