"""The demo's options, and the partitions and pacing with which the broker loses nothing.

Invariant: sizes are estimated from above; readers notice a record that is dropped nevertheless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lapwing.embedded.broker import RETENTION_BYTES
from producer.replay import Stream
from producer.sources import Source, SourceOptions
from shared.batch import Blob
from shared.errors import ConfigError
from shared.kernels.hashing import murmur2_partitions

SAFE_SHARE = 0.6
MAX_PARTITIONS = 768
RECORD_OVERHEAD_BYTES = 70
"""Header of a record batch; a batch of one record has one for itself."""

ANOMALY_BYTES, ANOMALOUS_SHARE = 1_500, 1 / 3
"""Size of an anomaly event with headers, and largest share of events in flight that are anomalous.

All anomaly events go to one partition.
"""

MAX_PACE_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of ``lapwing demo``.

    speed    : event seconds per second in the live part; inf = full speed; None = inf with
               once, else 3000
    backfill : share of the events that is sent first and trained on
    once     : end with the data; otherwise the replay begins again, until Ctrl-C
    keep     : where models, reports and logs stay; None = they are removed with the demo
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    predictors: int = 2
    speed: float | None = None
    backfill: float = 0.6
    once: bool = False
    as_json: bool = False
    picture: Path | None = None
    keep: Path | None = None

    def check(self) -> None:
        """Raise ConfigError for an option out of range."""
        if self.speed is not None and not self.speed > 0:
            raise ConfigError(
                f"--speed {self.speed:g}: event seconds per second, more than 0, or max"
            )
        if not 0 < self.backfill < 1:
            raise ConfigError(
                f"--backfill {self.backfill:g}: a share of the events between 0 and 1"
            )
        if not 1 <= self.predictors <= 64:
            raise ConfigError(f"--predictors {self.predictors}: 1 to 64")
        if self.keep is not None and self.keep.exists() and any(self.keep.iterdir()):
            raise ConfigError(f"--keep {self.keep}: the folder is not empty; name a new one")


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Partitions and pacing of a run.

    partitions   : of the input and the scores
    pace_records : the replay may be so far ahead of the predictors and of the reader of their
                   results
    backfill     : events of the first part, which trains the model
    """

    partitions: int
    pace_records: int
    backfill: int
    events: int


def make_plan(source: Source, backfill: float, partitions: int) -> DemoPlan:
    """Fit partitions and pace to the series.

    backfill   : share of the events that has to lie in the topic as a whole, because the training
                 reads it afterwards
    partitions : wanted; doubled until the backfill fits
    raises     : ConfigError when no number of partitions is enough, because one host has too much
                 by itself
    """
    stream = source.stream
    count = round(len(stream) * backfill)
    while True:
        events, size_bytes = _by_partition(stream, count, partitions)
        if size_bytes.max(initial=0) <= SAFE_SHARE * RETENTION_BYTES:
            break
        if partitions >= MAX_PARTITIONS:
            raise ConfigError(
                f"{source.name}: {count:,} events of {len(stream.entities):,} hosts do not fit into"
                f" the embedded broker, which keeps {RETENTION_BYTES:,} bytes per partition; use"
                " fewer or shorter series, or a real Kafka"
            )
        partitions *= 2
    busiest = events.max() / events.sum() if count else 1.0
    scores = (_score_bytes(stream) + RECORD_OVERHEAD_BYTES) * busiest
    pace = SAFE_SHARE * RETENTION_BYTES / max(scores, ANOMALY_BYTES * ANOMALOUS_SHARE)
    return DemoPlan(partitions, min(MAX_PACE_RECORDS, int(pace)), count, len(stream))


def arguments(options: SourceOptions) -> list[str]:
    """Return the replay's command line for these series."""
    given = [("--data", options.data), ("--fleet", options.fleet)]
    words = [part for name, value in given if value is not None for part in (name, str(value))]
    return words + options.columns.arguments()


def _by_partition(
    stream: Stream, count: int, partitions: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return events and bytes of the first count events in each partition."""
    names = [name.encode() for name in stream.entities]
    keys = Blob.join(names)
    where = np.zeros(len(names), np.int64)
    murmur2_partitions(np.frombuffer(keys.data, np.uint8), keys.bounds, partitions, where)
    fixed = 5 + 2 + 6 + 9 * len(stream.metrics) + 16
    size = np.array([fixed + 2 * len(name) for name in names], np.float64)
    events = np.bincount(stream.entity[:count], minlength=len(names))
    sums = [
        np.bincount(where, weights=weights, minlength=partitions).astype(np.float64)
        for weights in (events, size * events)
    ]
    return sums[0], sums[1]


def _score_bytes(stream: Stream) -> int:
    longest = max((len(name.encode()) for name in stream.entities), default=0)
    metrics = sum(len(name) + 1 + 5 * 9 for name in stream.metrics)
    return 200 + 2 * longest + metrics
