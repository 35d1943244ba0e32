"""Computes a verdict again, by the same scorer as the predictors, from the records before it.

Invariant: pure: batches in, one verdict out. Of other entities only the record that makes a change
of settings known is folded, because their records cannot change the verdict. The exceptions, which
need all records, are named in ``Question.entity``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Blob, Headers, Outgoing
from shared.directory import UNKNOWN, Directory
from shared.events import Activation
from shared.models.model import Model
from shared.ports import Decoder
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState

Floats = npt.NDArray[np.float64]
Encode = Callable[[Outcome, PartitionState], Sequence[Outgoing]]
LoadModel = Callable[[str], Model]


@dataclass(frozen=True, slots=True)
class Question:
    """Which verdict is wanted.

    offset    : of the input record
    entity    : whose records are folded; None = those of the whole partition, which is needed for
                an entity that stopped reporting (the partition's clock) or that was evicted
    from_ms, until_ms : event times of the entity's rows that are kept for a picture
    """

    offset: int
    entity: str | None
    from_ms: int = 0
    until_ms: int = -1


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The verdict on the target's record.

    outcome : of that record alone
    sent    : the results as a predictor encodes them
    state   : after the record; later records change it
    """

    outcome: Outcome
    sent: list[Outgoing]
    state: PartitionState
    activation: Activation
    model: Model | None
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class SeenRow:
    """One row of the entity, for a picture; values by metric, NaN = missing or not known yet."""

    time_ms: int
    offset: int
    value: dict[str, float]
    expected: dict[str, float]
    lower: dict[str, float]
    upper: dict[str, float]
    is_anomaly: bool


@dataclass
class Recomputation:
    """Folds records in log order; ``result`` is there once the target has been folded.

    state       : empty, or of a snapshot at or below the target
    activations : of this state version, oldest first; the first applies to the records before it
    decoder     : prepared for each batch by the caller
    on_result   : called right after the target was folded, before a later record changes the state

    raises : ValueError when there is no activation
    """

    question: Question
    state: PartitionState
    activations: Sequence[Activation]
    load_model: LoadModel
    decoder: Decoder
    encode: Encode
    on_result: Callable[[Recomputed], None] = lambda _: None
    result: Recomputed | None = None
    rows: list[SeenRow] = field(default_factory=list)
    records_read: int = 0
    rows_folded: int = 0
    is_past: bool = False

    def __post_init__(self) -> None:
        before = self.state.activation
        after = before.offset if before else -1
        self._ahead = [one for one in self.activations if one.offset > after]
        first = before or (self._ahead.pop(0) if self._ahead else None)
        if first is None:
            raise ValueError("no activation says which settings apply")
        configuration = Configuration.from_text(first.settings or self._text_of(first))
        self._scorer = Scorer(self.state, Rules(configuration))
        self._apply(first)
        # The record at which settings change may be another entity's: it ends open episodes.
        self._pending = [self.state.next_offset, *(one.offset for one in self._ahead)]
        self._names, self._metrics = Directory(), list[str]()

    def feed(self, batch: Batch) -> None:
        """Fold one batch, which was prepared; what lies below the state's offset is skipped."""
        start = int(np.searchsorted(batch.offsets, self.state.next_offset))
        batch = batch.rows(start, len(batch))
        self.records_read += len(batch)
        kept = self._kept(batch)
        target = self.question.offset
        boundaries = [target, target + 1, *(one.offset for one in self._ahead)]
        cuts = np.searchsorted(kept.offsets, np.array(boundaries, np.int64))
        for first, stop in itertools.pairwise(sorted({0, len(kept), *cuts.tolist()})):
            self._fold(kept.rows(first, stop))

    def _fold(self, piece: Batch) -> None:
        offset = int(piece.offsets[0])
        while self._ahead and self._ahead[0].offset <= offset:
            self._apply(self._ahead.pop(0))
        outcome = self._scorer.process(piece, self.decoder)
        self.rows_folded += len(outcome.columns)
        if offset == self.question.offset:
            self._keep(outcome)
        self._collect(outcome)

    def _keep(self, outcome: Outcome) -> None:
        activation = self.state.activation
        assert activation is not None  # noqa: S101 - set by ``_apply`` before the first row
        self.result = Recomputed(
            outcome,
            list(self.encode(outcome, self.state)),
            self.state,
            activation,
            self._scorer.model,
            self._scorer.configuration,
        )
        self.on_result(self.result)

    def _apply(self, activation: Activation) -> None:
        model = self.load_model(activation.model_sha256) if activation.model_sha256 else None
        text = activation.settings or self._text_of(activation)
        self._scorer.use(model, Configuration.from_text(text))
        self.state.activation = activation

    def _text_of(self, activation: Activation) -> str:
        """Return the settings of an activation that a snapshot names by their id only."""
        for one in self.activations:
            if one.settings_id == activation.settings_id and one.settings:
                return one.settings
        raise ValueError(f"no activation has the settings {activation.settings_id}")

    def _kept(self, batch: Batch) -> Batch:
        """Return the entity's records, and the first readable one at or after each activation."""
        if self.question.entity is None:
            return batch
        columns = self.decoder.decode(batch, self._names, self._metrics)
        own = self._names.find(self.question.entity)
        offsets = batch.offsets[columns.accepted]
        wanted = columns.entity == own if own != UNKNOWN else np.zeros(len(columns), np.bool_)
        while self._pending and len(offsets) and offsets[-1] >= self._pending[0]:
            wanted[int(np.searchsorted(offsets, self._pending.pop(0)))] = True
        return picked(batch, columns.accepted[wanted])

    def _collect(self, outcome: Outcome) -> None:
        """Keep the entity's rows within the picture; note the first row beyond it."""
        question, columns = self.question, outcome.columns
        if question.until_ms < question.from_ms or question.entity is None:
            return
        own = columns.entity == self.state.entities.find(question.entity)
        within = own & (columns.time_ms >= question.from_ms)
        if self.result is not None:
            self.is_past |= bool((own & (columns.time_ms > question.until_ms)).any())
        within &= columns.time_ms <= question.until_ms
        self.rows += [
            _seen_row(outcome, row, self.state.metrics) for row in np.flatnonzero(within).tolist()
        ]


def _seen_row(outcome: Outcome, row: int, metrics: list[str]) -> SeenRow:
    columns, verdicts = outcome.columns, outcome.verdicts

    def by_metric(array: Floats) -> dict[str, float]:
        return dict(zip(metrics, array[row].tolist(), strict=False))

    return SeenRow(
        int(columns.time_ms[row]),
        int(outcome.batch.offsets[columns.accepted[row]]),
        by_metric(columns.values),
        by_metric(verdicts.expected),
        by_metric(verdicts.lower),
        by_metric(verdicts.upper),
        bool(verdicts.is_anomaly[row]),
    )


def picked(batch: Batch, rows: npt.NDArray[np.int64]) -> Batch:
    """Return some rows of a batch, increasing."""
    if len(rows) == len(batch):
        return batch
    indices = rows.tolist()
    return Batch(
        batch.topic,
        batch.partition,
        Blob.join([batch.values[row] for row in indices]),
        Blob.join([batch.keys[row] for row in indices]),
        batch.offsets[rows],
        batch.broker_ms[rows],
        {new: batch.headers[old] for new, old in enumerate(indices) if old in batch.headers},
    )


def anomalies_of(sent: Sequence[Outgoing], topic: str) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Yield key, value and headers of each record that was encoded for a topic."""
    for outgoing in sent:
        if outgoing.topic == topic:
            for row in range(len(outgoing)):
                yield (
                    outgoing.keys[row],
                    outgoing.values[row],
                    tuple(outgoing.headers.get(row, ())),
                )
