"""A service's metrics as plain numbers, and their catalogue of names, units and labels.

Invariant: counting adds to a number, once per batch and never per event; there is no clock and no
I/O here, and no dependency on what reads the numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric of the catalogue; it equals itself alone, so that finding its numbers is cheap.

    buckets : upper edges in seconds, increasing; histograms only
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


_EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BATCH_EDGES_S = (0.0001, 0.00025, 0.0005, *_EDGES_S)
_LATENCY_EDGES_S = (*_EDGES_S, 10.0, 30.0, 60.0, 300.0)
_FIT_EDGES_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

EVENTS_PRODUCED = Metric(
    "lapwing_events_produced_total", "counter", "Events that the broker acknowledged", ("topic",)
)
EVENTS_CONSUMED = Metric(
    "lapwing_events_consumed_total",
    "counter",
    "Records read from the input",
    ("topic", "partition"),
)
EVENTS_SCORED = Metric(
    "lapwing_events_scored_total", "counter", "Events with a verdict", ("detector", "state")
)
ANOMALIES = Metric(
    "lapwing_anomalies_total", "counter", "Events judged anomalous", ("detector", "severity")
)
DATA_QUALITY = Metric("lapwing_data_quality_total", "counter", "Data-quality verdicts", ("kind",))
EPISODES_CLOSED = Metric(
    "lapwing_episodes_closed_total",
    "counter",
    "Episodes that ended: recovered, accepted, silent or restarted",
    ("because",),
)
ALARM_BUDGET = Metric(
    "lapwing_alarms_per_entity_day",
    "gauge",
    "Alarms per entity and day of event time: asked for (detection.alarms_per_day) and achieved"
    " since this process took over",
    ("which",),
)
DEAD_LETTERS = Metric(
    "lapwing_dead_letters_total", "counter", "Records sent to the dead-letter topic", ("reason",)
)
ROUTED_ROWS = Metric(
    "lapwing_routed_rows_total",
    "counter",
    "Rows of routed records: routed, refused, or left_out because they have no number",
    ("result",),
)
BATCH_SECONDS = Metric(
    "lapwing_batch_seconds",
    "histogram",
    "Time to decode, score and encode one batch",
    buckets=_BATCH_EDGES_S,
)
END_TO_END_SECONDS = Metric(
    "lapwing_end_to_end_seconds",
    "histogram",
    "From the input record's Kafka timestamp to the moment its result is committed",
    buckets=_LATENCY_EDGES_S,
)
CONSUMER_LAG = Metric(
    "lapwing_consumer_lag_records",
    "gauge",
    "Offsets between what was processed and the high watermark, owned partitions only",
    ("topic", "partition"),
)
MODEL_INFO = Metric(
    "lapwing_model_info",
    "gauge",
    "1 for the model that scores now",
    ("version", "model_id", "detector"),
)
MODEL_AGE_SECONDS = Metric(
    "lapwing_model_age_seconds",
    "gauge",
    "Time since the model that scores now was last published",
)
MODEL_RELOADS = Metric(
    "lapwing_model_reloads_total", "counter", "Attempts to take up a new model", ("result",)
)
FIT_SECONDS = Metric(
    "lapwing_fit_seconds", "histogram", "Time to fit one model", buckets=_FIT_EDGES_S
)
ENTITIES = Metric(
    "lapwing_entities",
    "gauge",
    "Entities of the owned partitions, counted every ten seconds",
    ("state",),
)
ENTITIES_DROPPED = Metric(
    "lapwing_entities_dropped_total",
    "counter",
    "Entities whose memory was dropped: evicted (predict.max_entities), expired (silent for long)"
    " or forgotten (returned after long)",
    ("reason",),
)
METRICS_IGNORED = Metric(
    "lapwing_metric_values_ignored_total",
    "counter",
    "Values of metrics beyond the 256th of their entity, which are not scored",
)
REBALANCES = Metric(
    "lapwing_rebalances_total", "counter", "Changes of partition ownership", ("kind",)
)
COMMITS = Metric(
    "lapwing_commits_total",
    "counter",
    "Commits of results together with their input positions",
    ("result",),
)
SNAPSHOTS = Metric("lapwing_snapshots_total", "counter", "Snapshots of the state", ("result",))
INCIDENT_CHANGES = Metric(
    "lapwing_incident_changes_total",
    "counter",
    "Records written about incidents: opened, worse, updated, closed or deleted",
    ("change",),
)
INCIDENTS_OPEN = Metric("lapwing_incidents_open", "gauge", "Open incidents")
INCIDENT_RECORDS_SKIPPED = Metric(
    "lapwing_incident_records_skipped_total",
    "counter",
    "Anomaly records that the incidents service does not understand",
    ("reason",),
)
NOTICES = Metric(
    "lapwing_notices_total",
    "counter",
    "Notices about incidents: delivered, unsent, outside_hours (dropped), silenced (no target) or"
    " unreadable (no target)",
    ("target", "result"),
)
NOTICES_WAITING = Metric(
    "lapwing_notices_waiting", "gauge", "Notices that are neither delivered nor given up"
)
OUTAGE_SECONDS = Metric(
    "lapwing_outage_seconds", "gauge", "How long broker or registry have not answered; 0 = they do"
)
BUILD_INFO = Metric(
    "lapwing_build_info",
    "gauge",
    "1; the labels say what runs",
    ("version", "state_version", "python"),
)

CATALOGUE: tuple[Metric, ...] = (
    EVENTS_PRODUCED,
    EVENTS_CONSUMED,
    EVENTS_SCORED,
    ANOMALIES,
    DATA_QUALITY,
    EPISODES_CLOSED,
    ALARM_BUDGET,
    DEAD_LETTERS,
    ROUTED_ROWS,
    BATCH_SECONDS,
    END_TO_END_SECONDS,
    CONSUMER_LAG,
    MODEL_INFO,
    MODEL_AGE_SECONDS,
    MODEL_RELOADS,
    FIT_SECONDS,
    ENTITIES,
    ENTITIES_DROPPED,
    METRICS_IGNORED,
    REBALANCES,
    COMMITS,
    SNAPSHOTS,
    INCIDENT_CHANGES,
    INCIDENTS_OPEN,
    INCIDENT_RECORDS_SKIPPED,
    NOTICES,
    NOTICES_WAITING,
    OUTAGE_SECONDS,
    BUILD_INFO,
)


class Histogram:
    """The number of observations in each bucket, and their sum.

    counts : int64 (b + 1,)   per bucket, not cumulative; the last is above every edge
    total  : float            sum of all observations, same unit as the edges
    """

    __slots__ = ("_ordered", "counts", "edges", "total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._ordered = edges
        self.edges = np.array(edges, np.float64)
        self.counts = np.zeros(len(edges) + 1, np.int64)
        self.total = 0.0

    def add(self, values: float | npt.NDArray[np.float64]) -> None:
        """Add observations.

        values : one, or float64 (n,), without NaN; an edge belongs to the bucket below it

        Cost: O(n log b).
        """
        if isinstance(values, float):
            self.counts[bisect_left(self._ordered, values)] += 1
            self.total += values
            return
        self.counts += np.bincount(
            np.searchsorted(self.edges, values, side="left"), minlength=len(self.counts)
        )
        self.total += float(values.sum())


class Counters:
    """The metrics of one process: a number, or a histogram, per metric and set of labels.

    One thread writes, any thread may read. Methods raise ValueError for a counter that would
    decrease and for a wrong number of labels.
    """

    def __init__(self) -> None:
        self._numbers: dict[Metric, dict[Labels, float]] = {}
        self._histograms: dict[Metric, dict[Labels, Histogram]] = {}
        for metric in CATALOGUE:
            if metric.kind == "histogram":
                self._histograms[metric] = {}
            else:
                self._numbers[metric] = {}
        self._followed: dict[Metric, Callable[[], float]] = {}

    def add(self, metric: Metric, amount: float = 1, *labels: object) -> None:
        """Add to a counter or gauge, e.g. ``add(EVENTS_CONSUMED, 512, topic, partition)``.

        labels : in the order of the catalogue
        """
        if metric.kind == "counter" and amount < 0:
            raise ValueError(f"{metric.name} is a counter and cannot decrease; got {amount}")
        key = _key(metric, labels)
        row = self._numbers[metric]
        row[key] = row.get(key, 0) + amount

    def set(self, metric: Metric, value: float, *labels: object) -> None:
        """Set a gauge."""
        if metric.kind != "gauge":
            raise ValueError(f"{metric.name} is a {metric.kind}, only a gauge can be set")
        self._numbers[metric][_key(metric, labels)] = value

    def follow(self, metric: Metric, measure: Callable[[], float]) -> None:
        """Compute a gauge without labels whenever it is read, even while the loop waits.

        measure : may be called from any thread
        """
        self.set(metric, measure())
        self._followed[metric] = measure

    def forget(self, metric: Metric, *labels: object) -> None:
        """Remove a gauge's number for one set of labels; without labels, all its numbers."""
        if labels:
            self._numbers[metric].pop(_key(metric, labels), None)
        else:
            self._numbers[metric].clear()

    def observe(
        self, metric: Metric, values: float | npt.NDArray[np.float64], *labels: object
    ) -> None:
        """Add one observation, or an array of them, to a histogram."""
        key = _key(metric, labels)
        row = self._histograms[metric]
        if key not in row:
            row[key] = Histogram(metric.buckets)
        row[key].add(values)

    def value(self, metric: Metric, *labels: object) -> float:
        """Return one number; 0 before the first count."""
        key = _key(metric, labels)
        if metric in self._followed:
            return self._followed[metric]()
        return self._numbers[metric].get(key, 0)

    def total(self, metric: Metric) -> float:
        """Return the sum over all labels."""
        return sum(list(self._numbers[metric].values()))

    def numbers(self) -> Iterator[tuple[Metric, list[tuple[Labels, float]]]]:
        """Iterate over counters and gauges; each list is a copy."""
        for metric, row in self._numbers.items():
            measure = self._followed.get(metric)
            if measure is None:
                yield metric, list(row.items())
            else:
                yield metric, [((), measure())]

    def histograms(self) -> Iterator[tuple[Metric, list[tuple[Labels, Histogram]]]]:
        """Iterate over histograms."""
        for metric, row in self._histograms.items():
            yield metric, list(row.items())


def _key(metric: Metric, labels: tuple[object, ...]) -> Labels:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}; got {labels}")
    return tuple(str(label) for label in labels)
