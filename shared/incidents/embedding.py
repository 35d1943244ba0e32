"""A vector of what an alarm looked like, for the search of similar past ones.

Invariant: the vector is a function of the record that opened the episode; its size never depends on
           the entity's metrics. It holds features without weights: those belong to the search, so
           that other weights need no other vectors.

Features, in order: the share of each view in the score (square roots, so that the squared distance
of two such parts is at most 2), the share of each metric (by hash of its name), direction, how many
metrics contribute, distance from the expected value in half widths of the band, and relative to
the value. ``benchmarks/similarity.py`` compares it with distances of the values themselves.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from shared.events import Kind

VIEWS = (
    "value", "two_rows", "quarter_hour", "hour", "four_hours", "jump", "missed", "level", "spread",
    "often", "stuck", "course", "combination", "trained", "joint",
)  # fmt: skip
"""Views that an attribution names; a further place counts all others."""

MODEL_KEY = "time_of_day"
"""Key of an attribution by a trained model that is not a metric."""

BUCKETS = 16
"""Places of metrics; metrics of the same hash share one."""

SIZE = len(VIEWS) + 1 + BUCKETS + 4
SIZE_BYTES = 4 * SIZE
MOST_HALF_WIDTHS = 1e6
_FORMAT = struct.Struct(f"<{SIZE}f")
_OTHER_VIEW = len(VIEWS)
_FIRST_METRIC = _OTHER_VIEW + 1
_LAST = _FIRST_METRIC + BUCKETS
_SIGN = {"up": 1.0, "down": -1.0}


def embedding_of(record: Mapping[str, Any]) -> bytes:
    """Return the features of an alarm, SIZE float32; empty for other records.

    An alarm without contributions, such as one with cold_start, counts as one by its metric in an
    unnamed view; without a metric it has no embedding.

    record : decoded anomaly event; numbers that are not finite count as unknown
    """
    shares = {
        str(key): float(share)
        for key, share in (record.get("attributions") or {}).items()
        if isinstance(share, int | float) and 0.0 < share <= 1.0
    }
    has_views = record.get("top_feature") in shares
    if not shares and record.get("metric") and record.get("kind") == Kind.ANOMALY:
        shares = {str(record["metric"]): 1.0}
    if not shares:
        return b""
    features = [0.0] * SIZE
    by_metric: dict[str, float] = {}
    for key, share in shares.items():
        metric, _, view = key.rpartition(".") if has_views else (key, "", "")
        features[VIEWS.index(view) if view in VIEWS else _OTHER_VIEW] += share
        if has_views or key != MODEL_KEY:
            by_metric[metric] = by_metric.get(metric, 0.0) + share
    for metric, share in by_metric.items():
        features[_FIRST_METRIC + zlib.crc32(metric.encode()) % BUCKETS] += share
    features = [math.sqrt(feature) for feature in features]
    features[_LAST] = _SIGN.get(str(record.get("direction")), 0.0)
    features[_LAST + 1] = _breadth(list(by_metric.values()))
    features[_LAST + 2], features[_LAST + 3] = _deviation(record)
    return _FORMAT.pack(*features)


def to_list(embedding: bytes) -> list[float]:
    """Return the features as numbers; empty for none."""
    return list(_FORMAT.unpack(embedding)) if embedding else []


def of_list(features: Iterable[float]) -> bytes:
    """Return an embedding from its numbers; empty where they are not SIZE: of another version."""
    found = list(features)
    return _FORMAT.pack(*found) if len(found) == SIZE else b""


def _breadth(shares: list[float]) -> float:
    """Return log2 of how many metrics contribute: 0 = one, 1 = two equally, 2 = four."""
    total = sum(shares)
    if not total:
        return 0.0
    return -math.log2(sum((share / total) ** 2 for share in shares))


def _deviation(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return the signed distance from the expected value, twice; 0 = not known.

    In half widths of the band, as log(1 + distance); and relative to the value and the expected
    value together: -1 to 1.
    """
    value, expected = _finite(record.get("value")), _finite(record.get("expected"))
    if value is None or expected is None or value == expected:
        return 0.0, 0.0
    size = max(abs(value), abs(expected))
    moved = value / size - expected / size
    relative = moved / (abs(value / size) + abs(expected / size))
    lower, upper = _finite(record.get("lower")), _finite(record.get("upper"))
    if lower is None or upper is None or lower >= upper:
        return 0.0, relative
    half = (upper / 2 - lower / 2) / size
    widths = min(abs(moved) / half, MOST_HALF_WIDTHS) if half > 0 else MOST_HALF_WIDTHS
    return math.copysign(math.log1p(widths), moved), relative


def _finite(number: Any) -> float | None:
    if not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return float(number)
