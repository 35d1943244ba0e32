"""What OTLP's data points mean, whether they come as protobuf or as JSON.

Invariant: NaN, and a point that says it has no value, are missing values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lapwing.route.formats.otlp.distributions import (
    Distribution,
    explicit_buckets,
    exponential_buckets,
    fields_of,
    quantile_of,
)
from lapwing.route.rows import Refusal, Refused

NO_VALUE = 1
"""The flag of a point without a value."""

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Histogram:
    """A data point with explicit buckets; sum, min and max may be missing."""

    count: int
    sum: float | None
    min: float | None
    max: float | None
    bounds: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class ExponentialHistogram:
    """A data point with exponential buckets; each side is (offset, counts)."""

    count: int
    sum: float | None
    min: float | None
    max: float | None
    scale: int
    zero_threshold: float
    zero_count: int
    positive: tuple[int, Sequence[int]]
    negative: tuple[int, Sequence[int]]


Fields = Mapping[str, float | None]


def histogram_fields(point: Histogram, statistics: Sequence[str]) -> Fields | Refusal:
    """Return the statistics of a histogram."""
    buckets = explicit_buckets(point.bounds, point.counts) if point.counts else []
    if buckets is None:
        return Refusal(
            Refused.ROW_UNFIT,
            f"a histogram has {len(point.counts)} bucket_counts and {len(point.bounds)}"
            " explicit_bounds; there must be one more count than bounds, and bounds must increase",
        )
    quantile = quantile_of(buckets, point.min, point.max)
    found = Distribution(point.count, point.sum, point.min, point.max, quantile)
    return fields_of(found, statistics)


def exponential_fields(point: ExponentialHistogram, statistics: Sequence[str]) -> Fields:
    """Return the statistics of an exponential histogram."""
    zero = (point.zero_threshold, point.zero_count)
    buckets = exponential_buckets(point.scale, zero, point.positive, point.negative)
    quantile = quantile_of(buckets, point.min, point.max)
    found = Distribution(point.count, point.sum, point.min, point.max, quantile)
    return fields_of(found, statistics)


def summary_fields(
    count: int, total: float, quantiles: Mapping[float, float], statistics: Sequence[str]
) -> Fields:
    """Return the statistics of a summary; its quantiles are those that it has."""
    rounded = {round(share, 9): value for share, value in quantiles.items()}
    found = Distribution(
        count,
        total,
        rounded.get(0.0),
        rounded.get(1.0),
        lambda share: rounded.get(round(share, 9)),
    )
    return fields_of(found, statistics)


def text_of(value: object) -> str | None:
    """Return an attribute as a label: text, numbers, true and false; others are none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None
