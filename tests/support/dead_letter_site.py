"""A broker, a registry and the command line of ``lapwing dlq``, for tests of dead letters."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lapwing.app import app
from lapwing.embedded.broker import EmbeddedBroker
from shared.batch import Batch, Blob, Outgoing
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.dead_letters import dead_letters
from shared.events import Reason
from shared.kafka import Publisher, Reader
from shared.kernels.hashing import murmur2_partitions
from shared.registry import Registry
from shared.settings import InputSettings, Settings, load_settings
from tests.reference.records import METRIC_EVENT

PARTITIONS = 3
NO_SCHEMA = AvroDecoder.of_schemas({}, InputSettings())
INPUT, DLQ = "metrics.cloudwatch.raw", "metrics.cloudwatch.raw.dlq"
LATER = json.dumps(json.loads(METRIC_EVENT) | {"name": "MetricEventLater"})


def partition_of_key(key: bytes) -> int:
    """The partition of a key, as every client with murmur2 has it."""
    found = np.zeros(1, np.int64)
    murmur2_partitions(np.frombuffer(key, np.uint8), np.array([0, len(key)]), PARTITIONS, found)
    return int(found[0])


class Site:
    """A broker, a registry, and a command line connected to them."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        url: str,
        monkeypatch: pytest.MonkeyPatch,
        *,
        has_registry: bool = True,
    ) -> None:
        self.settings: Settings = load_settings(
            {"kafka": broker.client_settings, "registry": {"url": url}}, environ={}
        )
        for name in [name for name in os.environ if name.startswith("LAPWING_")]:
            monkeypatch.delenv(name)
        for name, value in broker.client_settings.items():
            monkeypatch.setenv("LAPWING_KAFKA__" + name.replace(".", "_").upper(), str(value))
        monkeypatch.setenv("LAPWING_REGISTRY__URL", url)
        self.killed = [0] * PARTITIONS
        self.publisher = Publisher(self.settings)
        self.registry = Registry(self.settings.registry)
        if has_registry:
            self.registry.register(f"{INPUT}-value", METRIC_EVENT, "BACKWARD")

    def send(self, records: Outgoing) -> None:
        self.publisher.send(records)
        assert self.publisher.flush(10) == 0
        assert self.publisher.failed == 0
        time.sleep(0.002)  # the next ones are newer

    def close(self) -> None:
        self.publisher.close()

    def kill(
        self, key: bytes, value: bytes, reason: Reason, *, offset: int = 0, limit: int = 65_536,
        topic: str = INPUT,
        partition: int | None = None, headers: Any = (),
    ) -> tuple[str, str]:  # fmt: skip
        """Write a dead letter as the predictor does; return its coordinates."""
        at = partition_of_key(key) if partition is None else partition
        one = np.zeros(1, np.int64)
        batch = Batch(
            topic,
            at,
            Blob.join([value]),
            Blob.join([key]),
            one + offset,
            one,
            {0: headers} if headers else {},
        )
        self.send(
            dead_letters(
                DLQ,
                batch,
                one,
                np.array([reason], np.uint8),
                NO_SCHEMA,
                "lapwing-prediction",
                limit,
            )
        )
        self.killed[partition_of_key(key)] += 1
        return str(partition_of_key(key)), str(self.killed[partition_of_key(key)] - 1)

    def input(self) -> list[tuple[int, bytes, bytes, dict[str, bytes]]]:
        return [
            (batch.partition, batch.keys[row], batch.values[row], dict(batch.headers.get(row, ())))
            for batch in Reader(self.settings).read(INPUT)
            for row in range(len(batch))
        ]

    def dlq(self, *words: str, code: int = 0) -> str:
        ran = CliRunner().invoke(app, ["dlq", *words])
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code == code, ran.output
        return ran.output
