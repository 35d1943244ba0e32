"""Statistics of histograms and summaries: count, sum, mean, min, max and quantiles.

Invariant: a quantile lies in the bucket that holds it; within a bucket of known edges values are
taken to be spread evenly. What is not known is None, a missing value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Quantile = Callable[[float], float | None]


@dataclass(frozen=True, slots=True)
class Distribution:
    """What is known of many values.

    quantile : share from 0 to 1 -> value
    """

    count: float
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    quantile: Quantile = lambda _: None


def fields_of(distribution: Distribution, statistics: Sequence[str]) -> Mapping[str, float | None]:
    """Return statistics by name: count, sum, mean, min, max, p50, p99.9 ..."""
    return {name: _statistic(distribution, name) for name in statistics}


def _statistic(of: Distribution, name: str) -> float | None:
    if name == "mean":
        return of.sum / of.count if of.sum is not None and of.count > 0 else None
    if name[0] == "p":
        return of.quantile(float(name[1:]) / 100)
    found: float | None = getattr(of, name)
    return found


Bucket = tuple[float, float, float]
"""(lower edge, upper edge, count); edges may be infinite."""


def quantile_of(buckets: Sequence[Bucket], low: float | None, high: float | None) -> Quantile:
    """Return the quantiles of buckets with increasing edges.

    low, high : least and largest value, where they are known; else a quantile in an open bucket is
                its finite edge
    """

    def quantile(share: float) -> float | None:
        total = sum(count for _, _, count in buckets)
        if not 0 < total < math.inf:
            return None
        rank, seen = share * total, 0.0
        for lower, upper, count in buckets:
            if count > 0 and seen + count >= rank:
                bucket = (lower, upper)
                start = _within(low, bucket, lower if math.isfinite(lower) else upper)
                stop = _within(high, bucket, upper if math.isfinite(upper) else lower)
                found = start + (stop - start) * max(0.0, rank - seen) / count
                return found if math.isfinite(found) else None
            seen += count
        return None

    return quantile


def _within(value: float | None, bucket: tuple[float, float], open_edge: float) -> float:
    """Return a known value as far as it lies in a bucket, else the bucket's edge.

    open_edge : what stands for the edge where it is infinite
    """
    lower, upper = bucket
    known = value if value is not None and math.isfinite(value) else open_edge
    return min(max(known, lower), upper)


def explicit_buckets(bounds: Sequence[float], counts: Sequence[float]) -> list[Bucket] | None:
    """Return the buckets between bounds; None where the counts do not fit or bounds decrease."""
    if len(counts) != len(bounds) + 1 or any(
        not after > before for before, after in pairwise(bounds)
    ):
        return None
    edges = [-math.inf, *bounds, math.inf]
    return [(low, high, n) for (low, high), n in zip(pairwise(edges), counts, strict=True)]


def exponential_buckets(
    scale: int,
    zero: tuple[float, float],
    positive: tuple[int, Sequence[float]],
    negative: tuple[int, Sequence[float]],
) -> list[Bucket]:
    """Return the buckets of an exponential histogram, from the lowest value to the highest.

    zero               : (threshold, count)
    positive, negative : (offset, counts): bucket i is (base**(offset + i), base**(offset + i + 1)]
                         with base = 2**(2**-scale)
    """
    threshold, zeros = zero
    offset, counts = negative
    below = [
        (-_power(scale, offset + i + 1), -_power(scale, offset + i), count)
        for i, count in enumerate(counts)
        if count
    ]
    offset, counts = positive
    above = [
        (_power(scale, offset + i), _power(scale, offset + i + 1), count)
        for i, count in enumerate(counts)
        if count
    ]
    return [*reversed(below), (-threshold, threshold, zeros), *above]


def _power(scale: int, index: int) -> float:
    exponent = math.ldexp(index, -scale) if abs(scale) < 900 else math.nan
    if exponent >= 1_024:
        return math.inf
    return 2.0**exponent if exponent > -1_075 else 0.0
