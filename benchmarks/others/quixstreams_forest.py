"""The job of a predictor with an Isolation Forest alone, in quixstreams; see ``other_systems``.

Arguments: a JSON object with address, input, output, group, guarantee, folder. Each record is
decoded by fastavro, gets running features, is scored by the same forest in a compiled kernel, row
by row, and its score is encoded by fastavro. It imports nothing of the product.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import fastavro
import numba
import numpy as np
from quixstreams import Application

GIVEN = json.loads(sys.argv[1])
FOLDER = Path(GIVEN["folder"])
READ = fastavro.parse_schema(json.loads((FOLDER / "input.avsc").read_text()))
WRITE = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Score",
        "fields": [
            {"name": "host", "type": "string"},
            {"name": "timestamp", "type": "long"},
            {"name": "score", "type": "double"},
            {"name": "is_anomaly", "type": "boolean"},
            {"name": "values", "type": {"type": "array", "items": "double"}},
        ],
    }
)
METRICS = ("cpu", "network_in", "disk_write")
DECAYS = (0.3, 0.05)


@numba.njit(nogil=True)
def score_row(x, feature, threshold, left, path_length, offsets, denominator):  # type: ignore[no-untyped-def]
    """Return the score of one row: the forest's, higher = more anomalous."""
    total = 0.0
    for tree in range(len(offsets) - 1):
        root = offsets[tree]
        node = root
        while feature[node] >= 0:
            goes_left = x[feature[node]] <= threshold[node]
            node = root + left[node] + (0 if goes_left else 1)
        total += path_length[node]
    return 2.0 ** (-total / denominator)


class Scorer:
    """The running features of each entity, and the score of its next record."""

    def __init__(self) -> None:
        model = np.load(FOLDER / "forest.npz")
        names = ("feature", "threshold", "left", "path_length", "offsets")
        self._forest = tuple(model[name] for name in names)
        self._denominator = float(model["denominator"])
        self._cut = float(model["cut"])
        computed = len(METRICS) * (1 + len(DECAYS))  # the forest sees as many as it was trained on
        self._x = np.zeros(max(computed, int(model["features"])), np.float32)
        self._means: dict[str, list[float]] = {}
        score_row(self._x, *self._forest, self._denominator)

    def __call__(self, value: bytes) -> bytes:
        """Return the encoded score of a record."""
        fields: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), READ)
        host = fields["host"]
        values = [fields[name] if fields[name] is not None else 0.0 for name in METRICS]
        means = self._means.get(host)
        if means is None:
            means = self._means[host] = [value for value in values for _ in DECAYS]
        x, place = self._x, 0
        for number, current in enumerate(values):
            x[place] = current
            for k, decay in enumerate(DECAYS):
                at = len(DECAYS) * number + k
                x[place + 1 + k] = current - means[at]
                means[at] += decay * (current - means[at])
            place += 1 + len(DECAYS)
        score = score_row(x, *self._forest, self._denominator)
        out = io.BytesIO()
        out.write(b"\0\0\0\0\1")
        record = {
            "host": host,
            "timestamp": fields["timestamp"],
            "score": score,
            "is_anomaly": score > self._cut,
            "values": values,
        }
        fastavro.schemaless_writer(out, WRITE, record)
        return out.getvalue()


def main() -> None:
    """Score the input topic until the process is ended."""
    app = Application(
        broker_address=GIVEN["address"],
        consumer_group=GIVEN["group"],
        auto_offset_reset="earliest",
        auto_create_topics=False,
        processing_guarantee=GIVEN["guarantee"],
        commit_interval=0.1,
        loglevel="WARNING",
        consumer_extra_config={"fetch.wait.max.ms": 10, "fetch.queue.backoff.ms": 5},
        producer_extra_config={"linger.ms": 5, "batch.num.messages": 10000},
    )
    source = app.topic(GIVEN["input"], value_deserializer="bytes", key_deserializer="bytes")
    target = app.topic(GIVEN["output"], value_serializer="bytes", key_serializer="bytes")
    app.dataframe(source).apply(Scorer()).to_topic(target)
    app.run()


if __name__ == "__main__":
    main()
