"""Score and anomaly events as batches of a topic, for tests of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import schemas
from dashboard.history.results import Arrived, Stream, decode
from shared.batch import Batch, Blob
from shared.encode.records import encode_records

START_MS = 1_397_606_400_000
STEP_MS = 300_000
SCHEMAS = {1: schemas.text(schemas.SCORE_EVENT), 2: schemas.text(schemas.ANOMALY_EVENT)}


def event_id(number: int) -> str:
    return f"{number:032x}"


def score(row: int, entity: str = "web-1", **given: Any) -> dict[str, Any]:
    """The score event of row ``row``: cpu is 10 + row % 5."""
    value = given.pop("value", 10.0 + row % 5)
    metric = {"name": "cpu", "value": value, "expected": 12.0, "lower": 8.0, "upper": 16.0}
    return {
        "event_id": event_id(row),
        "detector_id": "ensemble",
        "entity": entity,
        "event_time": START_MS + row * STEP_MS,
        "score": 0.25,
        "severity": 0.2,
        "threshold": 1.0,
        "state": "READY",
        "top_metric": "cpu",
        "source_topic": "metrics.cloudwatch.raw",
        "source_partition": 0,
        "source_offset": row,
        "metrics": [metric | {"severity": 0.2}],
        **given,
    }


def anomaly(row: int, entity: str = "web-1", **given: Any) -> dict[str, Any]:
    """The alarm that opens an episode at row ``row``."""
    time_ms = START_MS + row * STEP_MS
    return {
        "event_id": event_id(1_000_000 + row),
        "detector_id": "ensemble",
        "kind": "anomaly",
        "entity": entity,
        "metric": "cpu",
        "event_time": time_ms,
        "value": 98.0,
        "expected": 12.0,
        "severity": 0.9,
        "severity_class": "critical",
        "score": 3.5,
        "threshold": 1.0,
        "is_anomaly": True,
        "state": "READY",
        "reason": "cpu is 98, usually about 12",
        "attributions": {"cpu.value": 1.0},
        "episode_id": event_id(1_000_000 + row),
        "phase": "open",
        "episode_start": time_ms,
        "peak_time": time_ms,
        "peak_value": 98.0,
        "peak_severity": 0.9,
        "source_topic": "metrics.cloudwatch.raw",
        "source_partition": 0,
        "source_offset": row,
        **given,
    }


def closed(opened: dict[str, Any], row: int, because: str = "recovered") -> dict[str, Any]:
    """The end of an episode at row ``row``."""
    return opened | {
        "event_id": event_id(2_000_000 + row),
        "kind": "episode_closed",
        "event_time": START_MS + row * STEP_MS,
        "is_anomaly": False,
        "severity": None,
        "severity_class": None,
        "score": None,
        "threshold": None,
        "attributions": {},
        "phase": "closed",
        "closed_because": because,
    }


def batch(stream: Stream, records: Sequence[dict[str, Any]], first_offset: int = 0) -> Batch:
    """Records as they lie in their topic."""
    schema_id = 1 if stream == "scores" else 2
    values = encode_records(SCHEMAS[schema_id], schema_id, records)
    count = len(records)
    return Batch(
        f"{stream}.topic",
        0,
        values,
        Blob.join([b"key"] * count),
        np.arange(count, dtype=np.int64) + first_offset,
        np.full(count, 1_700_000_000_000, np.int64),
    )


def arrived(stream: Stream, records: Sequence[dict[str, Any]], first_offset: int = 0) -> Arrived:
    """Records as the readers hand them to the writer."""
    return decode(batch(stream, records, first_offset), stream, SCHEMAS.get)
