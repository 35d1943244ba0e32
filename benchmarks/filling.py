"""Fills a topic with the records of a generated fleet that have any number of metrics."""

from __future__ import annotations

import numpy as np

from benchmarks.fleet.hosts import METRICS, generate
from shared.batch import Blob, Outgoing
from shared.encode.avro_columns import encode_flat, flat_schema, select
from shared.kafka import Publisher
from shared.registry import Registry
from shared.settings import Settings

STEPS_A_CALL = 50


def fill(settings: Settings, metrics: int, hosts: int, days: int, seed: int = 0) -> int:
    """Register the schema and send a record of each host every five minutes.

    metrics : those beyond the fleet's three are the same ones of other hosts
    returns : records sent
    raises  : RuntimeError where records were not acknowledged
    """
    fleet = generate(hosts, days, seed, anomalies=False)
    columns = [
        np.roll(fleet.values[:, :, number % len(METRICS)], -number, axis=0)
        for number in range(metrics)
    ]
    values = np.stack(columns, axis=-1)
    schema = flat_schema("lapwing.Bench", "host", [f"metric_{number}" for number in range(metrics)])
    topic = settings.topics.input
    schema_id = Registry(settings.registry).register(f"{topic}-value", schema, "BACKWARD")
    names = Blob.join([f"host-{number}".encode() for number in range(hosts)])
    publisher = Publisher(settings)
    for start in range(0, len(fleet.time_ms), STEPS_A_CALL):
        times = fleet.time_ms[start : start + STEPS_A_CALL]
        index = np.tile(np.arange(hosts), len(times))
        rows = values[:, start : start + STEPS_A_CALL].transpose(1, 0, 2).reshape(-1, metrics)
        encoded = encode_flat(schema_id, names, index, np.repeat(times, hosts), rows)
        publisher.send(Outgoing(topic, encoded, select(names, index)))
    total = hosts * len(fleet.time_ms)
    if publisher.flush(60.0) or publisher.acknowledged != total:
        raise RuntimeError(f"{topic}: {publisher.acknowledged} of {total} records were sent")
    return total
