"""What a trained model sees of a row and how rare it finds it, in plain Python."""

from __future__ import annotations

import math

import numpy as np

DAY_MS = 86_400_000


def features_of(state, values, ready_days):
    """Return the features of an entity's newest row and the columns that they come from.

    state  : of one entity, whose metrics are columns 0, 1, ...; it was folded last with values
    values : of the row, NaN = missing
    """
    entity = state.entities[0]
    metrics = [state.metrics[column] for column in range(len(values))]
    plain = [
        0.0 if math.isnan(value) or not is_judged(m) else clip(float(m["plain"]), 6.0)
        for value, m in zip(values, metrics, strict=True)
    ]
    rows = {}
    for column, (value, m) in enumerate(zip(values, metrics, strict=True)):
        is_ready = m["live_ms"] >= ready_days * DAY_MS and m["samples"] >= 14
        if math.isnan(value) or not is_judged(m) or not is_ready:
            continue
        residual = 0.0
        if entity["pairs_ok"] == 1:
            weights = [float(entity["inverse"][column, k]) for k in range(len(values))]
            total = sum(weight * z for weight, z in zip(weights, plain, strict=True))
            residual = clip(total / math.sqrt(weights[column]), 6.0)
        rows[column] = [
            float(m["deviation"]),
            float(m["near_jump"]),
            residual,
            float(m["means"][0]),
            float(m["means"][1]),
            float(entity["residual"][column]),
            float(m["spread_now"]) / max(float(m["spread_usual"]), float(m["spread_least"]), 0.3),
        ]
    if not rows:
        return [math.nan] * 7, [-1] * 7
    features, sources = [], []
    for feature in range(7):
        sizes = {column: min(abs(row[feature]), 30.0) for column, row in rows.items()}
        largest = max(sizes.values())
        features.append(math.log1p(largest))
        sources.append(min(column for column, size in sizes.items() if size == largest))
    return features, sources


def is_judged(m):
    """Whether the metric's newest sample had something to be compared with."""
    return m["typical"] > 0.0


def clip(x, most):
    return min(max(x, -most), most)


def rarity_of(score, knots, per_decade=32):
    """Return -log10 of the share of training rows that reach a score; knots are increasing."""
    last = len(knots) - 1
    if score >= knots[-1]:
        rise = knots[-1] - knots[per_decade]
        slope = (last - per_decade) / rise
        return min((last + (score - knots[-1]) * slope) / per_decade, 8.0)
    below = [k for k in range(last) if knots[k] <= score]
    k = max(below, default=0)
    width = knots[k + 1] - knots[k]
    share = 0.0 if width == 0 else (score - knots[k]) / width
    return (k + float(np.clip(share, 0.0, 1.0))) / per_decade
