"""CloudWatch Metric Streams' JSON: an object per line, with the statistics of one metric.

Invariant: a line is a row. Its labels are the dimensions, then namespace, region, account and unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from lapwing.route.formats.event_time import time_reader, time_refusal
from lapwing.route.rows import Refusal, Refused, Row, Sample, shown
from shared.decode.json.document import kind_of

_MEMBERS = (
    ("metric_name", str, "text"),
    ("dimensions", dict, "an object"),
    ("value", dict, "an object of statistics"),
)
_LABELS = ("metric_stream_name", "account_id", "region", "namespace", "unit")


class CloudWatchJson:
    """A ``RowDecoder`` of newline-delimited metrics.

    unit       : of ``timestamp``, ms by default
    statistics : that become fields; percentiles are those that the stream was told to add
    """

    format = "cloudwatch"

    def __init__(self, unit: str, statistics: Sequence[str]) -> None:
        self._unit = unit
        self._time = time_reader(unit)
        self._statistics = statistics

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"line {row + 1}"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        for line in value.removesuffix(b"\n").split(b"\n"):
            yield self._row(line) if line.strip() else None

    def _row(self, line: bytes) -> Row:
        try:
            item = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return Refusal(Refused.MALFORMED, f"it is not JSON: {shown(error)}")
        if type(item) is not dict:
            return Refusal(Refused.ROW_UNFIT, f"it is {kind_of(item)}, not an object")
        name, dimensions, value = (item.get(key) for key, _, _ in _MEMBERS)
        if type(name) is not str or type(dimensions) is not dict or type(value) is not dict:
            return _unfit(item)
        time_ms = self._time(item.get("timestamp"))
        if time_ms is None:
            detail = time_refusal("timestamp", item.get("timestamp"), self._unit)
            return Refusal(Refused.TIME_INVALID, detail)
        for key, found in value.items():
            if found is not None and type(found) not in (int, float):
                detail = f"value.{shown(key)} is {kind_of(found)}; it must be a number"
                return Refusal(Refused.ROW_UNFIT, detail)
        labels = {key: item.get(key) for key in _LABELS} | dimensions
        fields = {one: value.get(one) for one in self._statistics}
        if "mean" in fields:
            fields["mean"] = _mean(value.get("sum"), value.get("count"))
        return Sample(name, labels, time_ms, fields)


def _unfit(item: Mapping[str, Any]) -> Refusal:
    """Return which member of a metric is missing or of another type."""
    key, wanted = next((k, wanted) for k, kind, wanted in _MEMBERS if type(item.get(k)) is not kind)
    return Refusal(Refused.ROW_UNFIT, f"{key} is {kind_of(item.get(key))}; it must be {wanted}")


def _mean(total: float | None, count: float | None) -> float | None:
    return total / count if total is not None and count else None
