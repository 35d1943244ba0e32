"""Embedding and search of similar episodes, slowly: by name, one number at a time."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

VIEWS = "value two_rows quarter_hour hour four_hours jump missed level spread often stuck course"
VIEWS += " combination trained joint"


def number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def features_of(record: dict[str, Any]) -> list[float]:
    """The features of an alarm, rounded to float32; empty where it names nothing."""
    names = [*VIEWS.split(), "other", *range(16), "direction", "breadth", "widths", "relative"]
    shares = {
        key: share for key, share in (record.get("attributions") or {}).items() if 0 < share <= 1
    }
    with_views = record.get("top_feature") in shares
    if not shares and record.get("kind") == "anomaly" and record.get("metric"):
        shares[record["metric"]] = 1.0
    if not shares:
        return []
    found: dict[Any, float] = dict.fromkeys(names, 0.0)
    metrics: dict[str, float] = {}
    for key, share in shares.items():
        *parts, view = key.split(".") if with_views else (key, "")
        found[view if view in VIEWS.split() else "other"] += share
        metric = ".".join(parts)
        if with_views or key != "time_of_day":
            metrics[metric] = metrics.get(metric, 0.0) + share
    for metric, share in metrics.items():
        found[zlib.crc32(metric.encode()) % 16] += share
    found = {name: share**0.5 for name, share in found.items()}
    found["direction"] = {"up": 1.0, "down": -1.0}.get(record.get("direction"), 0.0)
    if metrics:
        total = sum(metrics.values())
        found["breadth"] = -math.log2(sum((share / total) ** 2 for share in metrics.values()))
    value, expected = number(record.get("value")), number(record.get("expected"))
    if value is not None and expected is not None and value != expected:
        found["relative"] = (value - expected) / (abs(value) + abs(expected))
        lower, upper = number(record.get("lower")), number(record.get("upper"))
        if lower is not None and upper is not None and lower < upper:
            widths = min(1e6, abs(value - expected) / ((upper - lower) / 2))
            found["widths"] = math.copysign(math.log(1 + widths), value - expected)
    return [struct.unpack("<f", struct.pack("<f", found[name]))[0] for name in names]


def distance(one: list[float], other: list[float]) -> float:
    weights = [1.0] * 16 + [0.5] * 16 + [0.5, 0.5, 0.25, 1.5]
    total = 0.0
    for a, b, weight in zip(one, other, weights, strict=True):
        total += (weight * (a - b)) ** 2
    return round(math.sqrt(total), 4)


def nearest(query: dict[str, Any], episodes: list[dict[str, Any]], limit: int) -> list[str]:
    """Ids of the nearest earlier episodes of other incidents, one of each incident."""
    best: dict[str, tuple[float, int, str]] = {}
    for one in episodes:
        is_other = one["incident"] != query["incident"] and one["start"] < query["start"]
        if not is_other or not one["features"] or not query["features"]:
            continue
        away = distance(query["features"], one["features"])
        place = away, -one["start"], one["id"]
        if away <= 1.2 and place < best.get(one["incident"], (math.inf, 0, "")):
            best[one["incident"]] = place
    return [place[2] for place in sorted(best.values())[:limit]]
