"""OTLP metrics as protobuf: what OpenTelemetry's Kafka exporter writes (``otlp_proto``).

Invariant: a data point is a row. A label is an attribute of the resource, else of the point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

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
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample, shown


class OtlpProto:
    """A ``RowDecoder`` of ExportMetricsServiceRequest, which has the bytes of MetricsData.

    statistics : of histograms and summaries, which become fields
    """

    format = "otlp"

    def __init__(self, statistics: Sequence[str]) -> None:
        self._statistics = statistics

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"data point {row}"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        try:
            request = ExportMetricsServiceRequest.FromString(value)
        except DecodeError as error:
            detail = f"its {len(value)} bytes are not OTLP metrics in protobuf: {shown(error)}"
            raise RecordRefused(Refused.MALFORMED, detail) from error
        return self._rows(request)

    def _rows(self, request: Any) -> Iterator[Row]:
        for resource in request.resource_metrics:
            labels = _labels(resource.resource.attributes)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    yield from self._points(metric, labels)

    def _points(self, metric: Any, resource: Mapping[str, str]) -> Iterator[Row]:
        name, kind = metric.name, metric.WhichOneof("data")
        if kind is None:
            yield None  # a metric without data, or of a kind that is newer than these libraries
            return
        points = getattr(metric, kind).data_points
        if kind in ("gauge", "sum"):
            for point in points:
                labels = _PointLabels(resource, point)
                time_ms = point.time_unix_nano // NS_PER_MS
                yield _new(Sample, (name, labels, time_ms, {"": _number(point)}))
            return
        for point in points:
            fields = _NO_FIELDS if point.flags & NO_VALUE else self._fields(kind, point)
            if isinstance(fields, Refusal):
                yield fields
            else:
                time_ms = point.time_unix_nano // NS_PER_MS
                yield Sample(name, _PointLabels(resource, point), time_ms, fields)

    def _fields(self, kind: str, point: Any) -> Fields | Refusal:
        if kind == "summary":
            quantiles = {one.quantile: one.value for one in point.quantile_values}
            return summary_fields(point.count, point.sum, quantiles, self._statistics)
        total = point.sum if point.HasField("sum") else None
        low = point.min if point.HasField("min") else None
        high = point.max if point.HasField("max") else None
        if kind == "histogram":
            found = Histogram(
                point.count, total, low, high, point.explicit_bounds, point.bucket_counts
            )
            return histogram_fields(found, self._statistics)
        return exponential_fields(
            ExponentialHistogram(
                point.count,
                total,
                low,
                high,
                point.scale,
                point.zero_threshold,
                point.zero_count,
                (point.positive.offset, point.positive.bucket_counts),
                (point.negative.offset, point.negative.bucket_counts),
            ),
            self._statistics,
        )


_NO_FIELDS: Fields = {}
_new = tuple.__new__  # what Sample(...) calls, without its argument names: a third of its time


def _number(point: Any) -> float | None:
    """Return a number's value; None where the point has none."""
    value: float = point.as_double
    if not value:  # an integer, a zero, or no value: the slower question is rarely needed
        kind = point.WhichOneof("value")
        if kind is None:
            return None
        if kind == "as_int":
            value = point.as_int
    return None if value != value or point.flags & NO_VALUE else value


def _labels(attributes: Any) -> dict[str, str]:
    pairs = ((one.key, _text(one.value)) for one in attributes)
    return {key: text for key, text in pairs if text is not None}


def _text(value: Any) -> str | None:
    kind = value.WhichOneof("value")
    return text_of(getattr(value, kind)) if kind else None


class _PointLabels(Mapping[str, object]):
    """The resource's labels, then the point's, which are looked for when asked for.

    Only few of them are: reading all would take longer than the rest of the row.
    """

    __slots__ = ("_point", "_resource")

    def __init__(self, resource: Mapping[str, str], point: Any) -> None:
        self._resource = resource
        self._point = point

    def get(self, name: str, default: object = None) -> object:
        found = self._resource.get(name)
        if found is not None:
            return found
        for one in self._point.attributes:
            if one.key == name:
                return one.value.string_value or _text(one.value)
        return default

    def __getitem__(self, name: str) -> object:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter({**self._resource, **_labels(self._point.attributes)})

    def __len__(self) -> int:
        return len({**self._resource, **_labels(self._point.attributes)})
