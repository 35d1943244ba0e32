"""OTLP metrics as JSON: what OpenTelemetry's Kafka exporter writes as ``otlp_json``.

Invariant: rows are those of the same metrics as protobuf. 64-bit integers are text or numbers, as
protobuf's JSON has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lapwing.route.formats.json_text import object_of, parse_json
from lapwing.route.formats.otlp.otlp_points import (
    NO_VALUE,
    NS_PER_MS,
    ExponentialHistogram,
    Fields,
    Histogram,
    exponential_fields,
    histogram_fields,
    summary_fields,
    text_of,
)
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample
from shared.decode.json.document import kind_of

KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_SCALARS = ("stringValue", "boolValue", "intValue", "doubleValue")
_LARGEST = 2**64
_DIGITS = 20


class _Unfit(Exception):
    """A member of a data point is not what OTLP has there."""


class OtlpJson:
    """A ``RowDecoder`` of ExportMetricsServiceRequest in JSON.

    statistics : of histograms and summaries, which become fields
    """

    format = "otlp_json"

    def __init__(self, statistics: Sequence[str]) -> None:
        self._statistics = statistics

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"data point {row}"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        document = object_of(parse_json(value), "it")
        if type(document.get("resourceMetrics")) is not list:
            found = kind_of(document.get("resourceMetrics"))
            detail = f"resourceMetrics is {found}; it must be an array"
            raise RecordRefused(Refused.MALFORMED, detail)
        return self._rows(document)

    def _rows(self, document: Mapping[str, Any]) -> Iterator[Row]:
        for resource in _objects(document, "resourceMetrics"):
            labels = _labels(_object(resource.get("resource")))
            for scope in _objects(resource, "scopeMetrics"):
                for metric in _objects(scope, "metrics"):
                    yield from self._points(metric, labels)

    def _points(self, metric: Mapping[str, Any], resource: Mapping[str, str]) -> Iterator[Row]:
        name = metric.get("name")
        kind = next((one for one in KINDS if type(metric.get(one)) is dict), None)
        if kind is None:
            yield None
            return
        if type(name) is not str:
            yield Refusal(Refused.ROW_UNFIT, f"a metric's name is {kind_of(name)}; it must be text")
            return
        for point in _objects(metric[kind], "dataPoints"):
            try:
                fields = self._fields(kind, point)
                time_ms = _whole(point, "timeUnixNano") // NS_PER_MS
            except _Unfit as error:
                yield Refusal(Refused.ROW_UNFIT, str(error))
                continue
            if isinstance(fields, Refusal):
                yield fields
            else:
                yield Sample(name, {**_labels(point), **resource}, time_ms, fields)

    def _fields(self, kind: str, point: Mapping[str, Any]) -> Fields | Refusal:
        if _whole(point, "flags") & NO_VALUE:
            return {}
        if kind in ("gauge", "sum"):
            return {"": _value(point)}
        count, total = _whole(point, "count"), _number(point, "sum")
        if kind == "summary":
            quantiles = {
                _number(one, "quantile") or 0.0: _number(one, "value") or 0.0
                for one in _objects(point, "quantileValues")
            }
            return summary_fields(count, total or 0.0, quantiles, self._statistics)
        known = (total, _number(point, "min"), _number(point, "max"))
        if kind == "histogram":
            bounds = _numbers(point, "explicitBounds")
            return histogram_fields(
                Histogram(count, *known, bounds, _wholes(point, "bucketCounts")), self._statistics
            )
        return exponential_fields(
            ExponentialHistogram(
                count,
                *known,
                _whole(point, "scale"),
                _number(point, "zeroThreshold") or 0.0,
                _whole(point, "zeroCount"),
                _side(point, "positive"),
                _side(point, "negative"),
            ),
            self._statistics,
        )


def _value(point: Mapping[str, Any]) -> float | None:
    if "asInt" in point:
        return _whole(point, "asInt")
    return _number(point, "asDouble")


def _side(point: Mapping[str, Any], name: str) -> tuple[int, Sequence[int]]:
    side = _object(point.get(name))
    return _whole(side, "offset"), _wholes(side, "bucketCounts")


def _whole(of: Mapping[str, Any], name: str) -> int:
    """Return a whole number, 0 where it is not given; raises _Unfit."""
    return _as_whole(of.get(name, 0), name)


def _as_whole(value: object, name: str) -> int:
    if type(value) is str and len(value) <= _DIGITS and value.removeprefix("-").isdecimal():
        value = int(value)
    if type(value) is not int or abs(value) > _LARGEST:
        raise _Unfit(f"{name} is {kind_of(value)}; it must be a whole number of 64 bits")
    return value


def _wholes(of: Mapping[str, Any], name: str) -> list[int]:
    return [_as_whole(one, name) for one in _array(of, name)]


def _number(of: Mapping[str, Any], name: str) -> float | None:
    """Return a number, None where it is not given or NaN; raises _Unfit."""
    return None if of.get(name) is None else _as_number(of[name], name)


def _as_number(value: Any, name: str) -> float | None:
    if type(value) in (int, float):
        number: float = value
        return number
    if value in ("NaN", "Infinity", "-Infinity"):
        return None if value == "NaN" else float(value)
    raise _Unfit(f"{name} is {kind_of(value)}; it must be a number")


def _numbers(of: Mapping[str, Any], name: str) -> list[float]:
    found = [_as_number(one, name) for one in _array(of, name)]
    return [math.nan if one is None else one for one in found]


def _array(of: Mapping[str, Any], name: str) -> list[Any]:
    found = of.get(name)
    if found is None:
        return []
    if type(found) is not list:
        raise _Unfit(f"{name} is {kind_of(found)}; it must be an array")
    return found


def _object(value: object) -> Mapping[str, Any]:
    return value if type(value) is dict else {}


def _objects(of: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = of.get(name)
    return [one for one in found if type(one) is dict] if type(found) is list else []


def _labels(of: Mapping[str, Any]) -> dict[str, str]:
    labels = {}
    for one in _objects(of, "attributes"):
        key, value = one.get("key"), _object(one.get("value"))
        scalar = next((value[kind] for kind in _SCALARS if kind in value), None)
        text = text_of(scalar)
        if type(key) is str and text is not None:
            labels[key] = text
    return labels
