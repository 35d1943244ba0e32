"""Rows that ``lapwing route`` decodes and encodes on one core: ``python -m benchmarks.codec``.

A row is one metric event, from the bytes of the source's record to Avro. ``route`` rows do what the
service does, without Kafka. ``naive`` rows do the least that gives the same events with the usual
libraries: json or protobuf's Python interface, a dict per event, fastavro; they check nothing. A
row is correct if its events are, byte for byte, those of the naive way. Time is the thread's own,
so that load from outside counts little; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from benchmarks.documents import report
from lapwing.route.formats.choice import open_row_decoder
from lapwing.route.row_records import long_schema, wide_schema
from lapwing.route.row_router import Routed, RouteRules, RowRouter
from shared.encode.records import wire_header
from shared.settings import Settings

BATCH = 100
RECORDS = 40
T0_S = 1_700_000_000
FIELDS = ("cpu_usage_idle", "cpu_usage_system", "cpu_usage_user")
LONG = {"metric_field": "metric", "value_field": "value"}
SCHEMA_ID = 7
PACKAGES = ("fastavro", "orjson", "protobuf")

Naive = Callable[[bytes], list[bytes]]


class Case(NamedTuple):
    """Records of a format: the settings that read them, and the naive way."""

    settings: Mapping[str, Any]
    records: list[bytes]
    naive: Naive
    rows: int


def telegraf_metrics(number: int) -> list[dict[str, Any]]:
    """Return a batch of metrics with three fields and three tags."""
    return [
        {
            "name": "cpu",
            "tags": {"host": f"web-{row}", "cpu": "cpu-total", "dc": "eu"},
            "fields": {
                "usage_idle": 90 + number / 7 + row / 70,
                "usage_system": 1.5,
                "usage_user": 3.25 + row / 3,
            },
            "timestamp": T0_S + 10 * number,
        }
        for row in range(BATCH)
    ]


def otlp_request(number: int) -> bytes:
    """Return a request of 100 points with five attributes."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    _attribute(resource.resource, "host.name", f"web-{number % 9}")
    metric = resource.scope_metrics.add().metrics.add(name="system.cpu.utilization", unit="1")
    for row in range(BATCH):
        point = metric.gauge.data_points.add(
            time_unix_nano=(T0_S + number) * 10**9, as_double=row / 7 + number
        )
        cells = {"cpu": f"cpu{row}", "state": "user", "zone": "eu", "pod": f"p{row}", "env": "prod"}
        for key, value in cells.items():
            _attribute(point, key, value)
    return bytes(request.SerializeToString())


def _attribute(of: Any, key: str, value: str) -> None:
    of.attributes.add(key=key).value.string_value = value


def cases() -> dict[str, Case]:
    """Return what is measured, by the middle of its permanent id."""
    batches = [json.dumps({"metrics": telegraf_metrics(k)}).encode() for k in range(RECORDS)]
    singles = [json.dumps(one).encode() for k in range(RECORDS) for one in telegraf_metrics(k)]
    requests = [otlp_request(k) for k in range(RECORDS)]
    rows = BATCH * RECORDS
    otlp = {"route": {"format": "otlp", "entity": "{host.name}/{pod}"}, "input": LONG}
    return {
        "telegraf_batch": Case({}, batches, naive_telegraf, rows),
        "telegraf_single": Case({}, singles, naive_telegraf, rows),
        "otlp": Case(otlp, requests, naive_otlp, rows),
    }


def naive_telegraf(value: bytes) -> list[bytes]:
    """Read with json, write with fastavro."""
    document = json.loads(value)
    found = []
    for metric in document.get("metrics", [document]):
        event = {"host": metric["tags"]["host"], "timestamp": metric["timestamp"] * 1000}
        event |= {f"{metric['name']}_{name}": one for name, one in metric["fields"].items()}
        found.append(_written(_WIDE, event))
    return found


def naive_otlp(value: bytes) -> list[bytes]:
    """Read with protobuf's Python interface, write with fastavro."""
    request = ExportMetricsServiceRequest()
    request.ParseFromString(value)
    found = []
    for resource in request.resource_metrics:
        shared = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.gauge.data_points:
                    labels = shared | {one.key: one.value.string_value for one in point.attributes}
                    event = {
                        "host": f"{labels['host.name']}/{labels['pod']}",
                        "timestamp": point.time_unix_nano // 1_000_000,
                        "metric": metric.name,
                        "value": point.as_double,
                    }
                    found.append(_written(_LONG, event))
    return found


def _schema(text: str) -> Any:
    return fastavro.parse_schema(
        json.loads(text.replace('"logicalType": "timestamp-millis"', '"doc": ""'))
    )


_WIDE, _LONG = _schema(wide_schema("host", FIELDS)), _schema(long_schema("host", "metric", "value"))


def _written(schema: Any, event: Mapping[str, Any]) -> bytes:
    out = BytesIO()
    out.write(wire_header(SCHEMA_ID))
    fastavro.schemaless_writer(out, schema, event)
    return out.getvalue()


def measure(name: str, case: Case, repeats: int) -> list[dict[str, Any]]:
    """Return the rows of a case: route, and the naive way."""
    settings = Settings.model_validate(case.settings)
    router = RowRouter(
        open_row_decoder(settings.route), RouteRules.of(settings), lambda _: SCHEMA_ID
    )

    def route() -> list[bytes]:
        out = Routed()
        for value in case.records:
            router.route(value, out)
        return out.values

    def naive() -> list[bytes]:
        return [event for value in case.records for event in case.naive(value)]

    correct = route() == naive() and len(route()) == case.rows
    speeds: dict[str, list[float]] = {"route": [], "naive": []}
    for _ in range(repeats):
        for way, run in (("route", route), ("naive", naive)):
            began_s = time.thread_time()
            run()
            speeds[way].append(case.rows / (time.thread_time() - began_s))
    base = statistics.median(speeds["naive"])
    return [
        {
            "id": f"codec.{name}.{way}",
            "value": round(statistics.median(found)),
            "unit": "rows/s",
            "ratio": round(statistics.median(found) / base, 2),
            "correct": correct,
        }
        for way, found in speeds.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    options = parser.parse_args()
    rows = [row for name, case in cases().items() for row in measure(name, case, options.repeats)]
    return report(rows, options.repeats, options.json, PACKAGES)


if __name__ == "__main__":
    sys.exit(main())
