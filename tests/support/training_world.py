"""A topic in memory and a clock, for the training service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

import schemas
from consumer_training.outside import Dependencies, Options
from consumer_training.service import TrainingService
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_metric_events
from shared.errors import TransportError
from shared.operations.counters import Counters
from shared.settings import Settings
from tests.support.models import START_MS, STEP_MS, series

DAY_S = 86_400.0


class World:
    """A topic of two partitions, a registry and a clock; things happen when somebody sleeps.

    up_to : rows of each of the three hosts that are in the topic
    plan  : {seconds on the clock: what happens then}
    """

    def __init__(self, folder: Path, **train: object) -> None:
        self.settings = Settings(
            models_dir=folder,
            train={"trees": 10, "samples": 32, "min_rows": 100, **train},
            input={"exclude": ("disk_write",)},
        )
        self.values = {
            f"host-{k}": np.column_stack([series(400, 2, k), np.zeros(400)]) for k in range(3)
        }
        self.up_to = 0
        self.time_s = 1_700_000_000.0
        self.plan: dict[float, Callable[[], None]] = {}
        self.slept: list[float] = []
        self.down: TransportError | None = None
        self.stopped = False
        self.reads: list[dict[int, int]] = []
        self.retained: Callable[[], set[str]] = set
        self.name = "cluster/topic"

    def ends(self) -> Mapping[int, int]:
        if self.down:
            raise self.down
        return {0: 2 * self.up_to, 1: self.up_to}

    def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
        self.reads.append(dict(start or {}))
        for partition, hosts in ((0, ("host-0", "host-1")), (1, ("host-2",))):
            low, high = (start or {}).get(partition, 0), end[partition]
            for first in range(low, high, 60):
                offsets = np.arange(first, min(first + 60, high), dtype=np.int64)
                rows, names = offsets // len(hosts), [hosts[k % len(hosts)] for k in offsets]
                values = np.stack(
                    [self.values[name][row] for name, row in zip(names, rows, strict=True)]
                )
                blob = encode_metric_events(1, names, START_MS + rows * STEP_MS, values)
                yield Batch(
                    "metrics",
                    partition,
                    blob,
                    Blob.join([b""] * len(offsets)),
                    offsets,
                    np.zeros(len(offsets), np.int64),
                )

    def identity(self) -> str:
        return self.name

    def decoder(self) -> AvroDecoder:
        return AvroDecoder.of_schemas({1: schemas.text(schemas.METRIC_EVENT)}, self.settings.input)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.time_s += max(seconds, 1e-3)
        for at in sorted(self.plan):
            if at <= self.elapsed:
                self.plan.pop(at)()

    @property
    def elapsed(self) -> float:
        return self.time_s - 1_700_000_000.0

    def stop(self) -> None:
        self.stopped = True

    def service(self, options: Options | None = None) -> TrainingService:
        dependencies = Dependencies(
            self,
            self.decoder,
            lambda: self.time_s,
            lambda: self.time_s,
            self.sleep,
            lambda: self.retained(),
        )
        self.counters = Counters()
        return TrainingService(
            self.settings,
            options or Options(once=True),
            dependencies,
            self.counters,
            lambda: self.stopped,
        )

    def fill(self, up_to: int) -> Callable[[], None]:
        def happen() -> None:
            self.up_to = up_to

        return happen
