"""The training input: what the fold sees of the rows of all partitions, as a bounded sample.

Invariant: the result depends on the partitions' logs, the labels and the settings only, not on
           batch sizes or the order in which partitions were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.reading.checkpoint_file import CheckpointRefused, Saved
from consumer_training.reading.entity_share import EntityShare
from consumer_training.reading.partition import MAX_EPISODES, Partition, Seen
from consumer_training.reading.reservoir import BANDS, Chosen, Reservoir, salt_of
from shared.batch import Batch
from shared.events import STATE_VERSION, Detector
from shared.features.vectors import FEATURES
from shared.labels import Windows
from shared.operations.workers import Workers
from shared.ports import Decoder
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import Settings

MAX_SERIES = 10_000
"""Metrics of entities that are folded at once; of more, a part of the entities is read."""

_ALONE = Workers(1, "fold")


@dataclass(frozen=True, slots=True)
class Rows:
    """Sampled rows, series by series, in order of time.

    A series holds the rows of one entity in one partition.

    series   : (S,) entity and partition, sorted
    bounds   : int64 (S + 1,)    series i is rows bounds[i]:bounds[i + 1]
    metrics  : (M,) in order of first appearance, lowest partition first
    time_ms  : int64 (n,)        event time
    values   : float64 (n, M)    NaN = missing
    features : float64 (n, FEATURES)  what a trained model sees
    bands    : float64 (n, M, 3) expected value, lower and upper end of the usual range
    use      : uint8 (n,)        USABLE, ALARMED or LABELLED
    """

    series: tuple[tuple[str, int], ...]
    bounds: npt.NDArray[np.int64]
    metrics: tuple[str, ...]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    bands: npt.NDArray[np.float64]
    use: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time_ms)


class History:
    """Folds the batches of all partitions as a predictor does, and samples their rows.

    Each partition's batches come in log order. Memory: the fold's state of at most MAX_SERIES
    series, and the reservoir's budget. Rows in an episode that alarmed, and those that labels name,
    are kept apart.
    """

    def __init__(
        self, decoder: Decoder, settings: Settings, labels: Windows | None = None, halvings: int = 0
    ) -> None:
        self.decoder = decoder
        self.settings = settings
        self.labels = labels
        self.halvings = halvings
        configuration = Configuration.from_settings(settings)
        self._rules = Rules(replace(configuration, detector=Detector.ENSEMBLE))
        self._begin()

    def _begin(self) -> None:
        seed = self.settings.train.seed
        self._share: Any = EntityShare(self.decoder, seed, self.halvings)
        self._reservoir = Reservoir(seed)
        self._kept_per_series = 0
        self._schemas: tuple[str, ...] = ()
        self._salts: list[int] = []
        self._columns: dict[str, int] = {}
        self._partitions: dict[int, Partition] = {}

    @property
    def share(self) -> float:
        """Share of the entities that are read."""
        return 0.5**self.halvings

    @property
    def is_overfull(self) -> bool:
        """Whether the entities have more metrics than are folded at once, or than are sampled."""
        return self._has_too_many_series() or self._reservoir.is_overfull

    def _has_too_many_series(self) -> bool:
        series = sum(partition.series for partition in self._partitions.values())
        return series > MAX_SERIES

    def halve(self) -> None:
        """Forget all that was read, and read half of these entities from now on.

        In place: a second history beside one that is full would take its memory again.
        """
        self.halvings += 1
        self._begin()

    def add(self, batch: Batch) -> None:
        """Decode and fold a batch, and sample its rows.

        raises : TransportError, SchemaNotAllowed
        """
        self.add_all([batch], _ALONE)

    def add_all(self, batches: Sequence[Batch], workers: Workers) -> None:
        """Decode and fold batches of different partitions at the same time; sample their rows.

        batches : at most one of a partition
        raises  : TransportError, SchemaNotAllowed
        """
        filled = [batch for batch in batches if len(batch)]
        for batch in filled:
            self.decoder.prepare(batch)
            if batch.partition not in self._partitions:
                self._new(batch.partition, int(batch.offsets[0]))
        with workers.begun(self._fold, filled) as results:
            for number, found in results:
                for seen in found:
                    self._sample(number, seen)

    def _new(self, number: int, first: int) -> Partition:
        scorer = Scorer(PartitionState(first), self._rules, features=True)
        self._partitions[number] = Partition(scorer, first, first)
        return self._partitions[number]

    def _fold(self, batch: Batch) -> tuple[int, list[Seen]]:
        partition = self._partitions[batch.partition]
        found = partition.read(batch, self._share, self.labels, self._has_too_many_series)
        return batch.partition, list(found)

    def __len__(self) -> int:
        return sum(partition.accepted for partition in self._partitions.values())

    @property
    def rejected(self) -> int:
        """Number of records rejected so far."""
        return sum(
            count
            for partition in self._partitions.values()
            for count in partition.rejected.values()
        )

    def facts(self) -> dict[str, Any]:
        """Return per partition the offsets read, accepted rows, and rejected records by reason."""
        return {
            str(number): {
                "first_offset": partition.first_offset,
                "next_offset": partition.next_offset,
                "accepted": partition.accepted,
                "rejected": dict(sorted(partition.rejected.items())),
            }
            for number, partition in sorted(self._partitions.items())
        }

    def sampling(self) -> dict[str, Any]:
        """Return how much of the input the sample stands for, and which episodes are left out."""
        episodes = [
            episode
            for partition in self._partitions.values()
            for episode in partition.episodes.values()
        ]
        episodes.sort(key=lambda one: (one["start"], one["entity"], one["metric"] or ""))
        return {
            "entity_share": self.share,
            "entities": len({name for p in self._partitions.values() for name in p.numbers}),
            "rows_read": len(self),
            "rows_known": sum(partition.known for partition in self._partitions.values()),
            "rows_kept_per_series": self._kept_per_series or self._reservoir.rows,
            "episodes": sum(partition.episode_count for partition in self._partitions.values()),
            "left_out_episodes": episodes[:MAX_EPISODES],
        }

    def rows(self) -> Rows:
        """Return the sampled rows, sorted by series."""
        ordered = sorted(self._partitions.items())
        metrics = tuple(
            dict.fromkeys(name for _, partition in ordered for name in partition.metrics)
        )
        columns = [self._columns[name] for name in metrics]
        numbers = sorted(
            (name, number, series)
            for number, partition in ordered
            for name, series in partition.numbers.items()
        )
        sizes = [self._reservoir.kept_rows(series) for _, _, series in numbers]
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        count, width = int(bounds[-1]), len(columns)
        rows = Rows(
            tuple((name, number) for name, number, _ in numbers),
            bounds,
            metrics,
            np.empty(count, np.int64),
            np.empty((count, width)),
            np.empty((count, FEATURES)),
            np.empty((count, width, BANDS)),
            np.empty(count, np.uint8),
        )
        for (_, _, series), low, high in zip(numbers, bounds, bounds[1:], strict=False):
            kept = self._reservoir.kept(series)
            for name in ("time_ms", "features", "use"):
                getattr(rows, name)[low:high] = kept[name]
            for name in ("values", "bands"):
                getattr(rows, name)[low:high] = kept[name][:, columns]
        return rows

    @property
    def position(self) -> dict[int, int]:
        """Return the offset at which each partition continues."""
        return {number: one.next_offset for number, one in self._partitions.items()}

    def schema_sha256(self) -> list[str]:
        """Return the SHA-256 of each schema that was read, sorted."""
        return sorted({*self._schemas, *self.decoder.schema_sha256()})

    def origin(self, topic: str) -> dict[str, Any]:
        """Return what a checkpoint depends on, by name.

        topic : what tells the topic from others of its name
        """
        settings = self.settings.model_dump(mode="json")
        found = {
            f"{section}.{name}": value
            for section in ("input", "features", "detection", "quality")
            for name, value in settings[section].items()
        }
        labels = repr(sorted((self.labels or {}).items())).encode()
        return found | {
            "topics.input": self.settings.topics.input,
            "train.seed": self.settings.train.seed,
            "predict.max_entities": self.settings.predict.max_entities,
            "the topic's identity": topic,
            "the digest of --labels": hashlib.sha256(labels).hexdigest() if self.labels else None,
            "the state version": STATE_VERSION,
            "the version of lapwing": version("lapwing"),
        }

    def saved(self, topic: str, end: Mapping[int, int]) -> Saved:
        """Return all that ``resumed`` needs, without copying the state of the fold."""
        arrays = {f"sample/{name}": array for name, array in self._reservoir.saved().items()}
        for number, partition in self._partitions.items():
            state = partition.scorer.state.to_arrays()
            arrays |= {f"{number}/{name}": array for name, array in state.items()}
        facts = {
            "halvings": self.halvings,
            "rows": self._reservoir.rows,
            "columns": list(self._columns),
            "schemas": self.schema_sha256(),
            "partitions": {str(n): one.facts() for n, one in self._partitions.items()},
        }
        return Saved(self.origin(topic), end, facts, arrays)

    def resumed(self, saved: Saved) -> History:
        """Return a history that continues from a checkpoint, which loses its arrays.

        raises : CheckpointRefused where its parts do not fit together
        """
        facts = saved.facts
        try:
            found = History(self.decoder, self.settings, self.labels, int(facts["halvings"]))
            found._columns = {name: number for number, name in enumerate(facts["columns"])}
            found._schemas = tuple(facts["schemas"])
            salts: dict[int, int] = {}
            for text, kept in facts["partitions"].items():
                number = int(text)
                partition = found._new(number, int(kept["first_offset"]))
                partition.resume(kept, _taken(saved.arrays, f"{number}/"))
                salts |= {k: salt_of(name, number) for name, k in partition.numbers.items()}
            found._salts = [salts[number] for number in range(len(salts))]
            sample = _taken(saved.arrays, "sample/")
            found._reservoir.resume(facts["rows"], np.array(found._salts, np.uint64), sample)
            if found._reservoir.metrics != len(found._columns):
                raise ValueError("the sample has other metrics than the partitions")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointRefused(
                f"the checkpoint's parts do not fit together: {error}"
            ) from error
        return found

    def release(self) -> None:
        """Free the memory of fold and sample: no more is read, and ``rows`` has been called."""
        for partition in self._partitions.values():
            partition.scorer.state = PartitionState(partition.next_offset)
        self._kept_per_series = self._reservoir.rows
        self._reservoir = Reservoir(self.settings.train.seed)

    def _sample(self, number: int, seen: Seen) -> None:
        """Offer rows to the reservoir."""
        partition = self._partitions[number]
        targets = [
            self._columns.setdefault(name, len(self._columns))
            for name in partition.metrics[: seen.values.shape[1]]
        ]
        series = np.array([self._series(partition, name, number) for name in seen.names])
        series = series[seen.owner]
        self._reservoir.reserve(np.array(self._salts, np.uint64), len(self._columns))
        if self._reservoir.is_overfull:
            return
        values, bands = seen.values, seen.bands
        if targets != list(range(len(self._columns))):
            values = np.full((len(series), len(self._columns)), np.nan)
            bands = np.full((*values.shape, BANDS), np.nan)
            values[:, targets], bands[:, targets] = seen.values, seen.bands
        order = np.argsort(series, kind="stable")
        self._reservoir.add(
            Chosen(
                series[order],
                seen.time_ms[order],
                values[order],
                seen.features[order],
                bands[order],
                seen.use[order],
            )
        )

    def _series(self, partition: Partition, name: str, number: int) -> int:
        """Return the number of a series, which gets one if it has none."""
        if name not in partition.numbers:
            partition.numbers[name] = len(self._salts)
            self._salts.append(salt_of(name, number))
        return partition.numbers[name]


def _taken(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Remove the arrays whose names begin so, and return them: their memory is soon free."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}
