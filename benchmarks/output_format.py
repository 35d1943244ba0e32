"""Score events as Avro and as JSON, encoded on one core: ``python -m benchmarks.output_format``.

A record has three metrics. ``avro`` and ``json`` are what a predictor writes by ``output.format``;
``naive`` is orjson alone, on dicts that are there already. The time is the thread's own, so that
load from outside counts little; figures are medians. A row is correct if its records read as those
of Avro do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

import schemas
from benchmarks.documents import report
from shared.batch import Blob
from shared.directory import Directory
from shared.encode.avro_columns import Scores, encode_scores
from shared.encode.json_columns import encode_json_scores
from shared.encode.results import decode_result
from shared.events import State

BATCH, HOSTS = 5_000, 200
METRICS = ("cpu", "network_in", "disk_write")
NUMBERS = ("value", "expected", "lower", "upper", "severity")
FLAGS = ("is_anomaly", "cold_start", "late", "duplicate", "imputed", "ahead")
T0_MS = 1_700_000_000_000


def scores_of(count: int) -> tuple[Scores, Directory]:
    """Return score events of a fleet with values of full precision."""
    entities, dice = Directory(), np.random.default_rng(0)
    for number in range(HOSTS):
        entities.add(f"host-{number:03d}")
    numbers: dict[str, Any] = {
        f"metric_{name}": 100 * dice.random((count, len(METRICS))) for name in NUMBERS
    }
    flags: dict[str, Any] = {name: np.zeros(count, np.bool_) for name in FLAGS}
    scores = Scores(
        entity=(np.arange(count) % HOSTS).astype(np.int32),
        time_ms=T0_MS + 1_000 * np.arange(count),
        score=dice.random(count),
        severity=dice.random(count),
        threshold=np.ones(count),
        state=np.full(count, State.READY, np.uint8),
        warmup_percent=np.full(count, 100.0),
        warmup_minutes_left=np.zeros(count),
        top_metric=np.zeros(count, np.int32),
        episode_id=np.full(count, "", "U32"),
        offsets=np.arange(count),
        listed=np.tile(np.arange(len(METRICS), dtype=np.int32), (count, 1)),
        metrics=METRICS,
        detector_id="ensemble",
        model_id=None,
        source_topic="metrics.cloudwatch.raw",
        source_partition=0,
        **numbers,
        **flags,
    )
    return scores, entities


def measure(repeats: int) -> list[dict[str, Any]]:
    """Return a row for each way."""
    scores, entities = scores_of(BATCH)
    text = schemas.text(schemas.SCORE_EVENT)
    avro, _ = encode_scores(scores, entities, 1)
    records = [decode_result(avro[row], lambda _: text) for row in range(BATCH)]
    ways: dict[str, Callable[[], Blob]] = {
        "avro": lambda: encode_scores(scores, entities, 1)[0],
        "json": lambda: encode_json_scores(scores, entities)[0],
        "naive": lambda: Blob.join([orjson.dumps(dict(record)) for record in records]),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    rows = []
    for _ in range(repeats):
        for name, encode in ways.items():
            began_s = time.thread_time()
            encode()
            found[name].append((time.thread_time() - began_s) / BATCH * 1e9)
    base = statistics.median(found["avro"])
    for name, encode in ways.items():
        blob = encode()
        read = [decode_result(blob[row], lambda _: text) for row in range(BATCH)]
        value = statistics.median(found[name])
        rows.append(
            {
                "id": f"output_format.scores.{name}",
                "value": round(value),
                "unit": "ns/record",
                "record_bytes": round(len(blob.data) / BATCH),
                "base": "output_format.scores.avro",
                "ratio": round(value / base, 2),
                "correct": read == records,
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    options = parser.parse_args()
    return report(
        measure(options.repeats), options.repeats, options.json, ("numba", "numpy", "orjson")
    )


if __name__ == "__main__":
    sys.exit(main())
