"""The prediction loop: poll, score, send, commit; one transaction at a time.

Invariant: the input positions, scores, anomalies, dead letters and activations of a transaction
           become visible together or not at all. After a transaction in doubt the state is dropped
           and restored the same way as after an assignment. One thread does all this; others only
           fold records, between a poll and the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import structlog

from consumer_prediction.dependencies import Dependencies
from consumer_prediction.folding import Folded, FoldingPool, Piece
from consumer_prediction.health.counting import measure_budget, report
from consumer_prediction.health.gauges import Gauges
from consumer_prediction.health.rejections import Rejections
from consumer_prediction.outgoing import Encoder
from consumer_prediction.ownership import Owned, metadata, take_over
from consumer_prediction.polling import Polling
from consumer_prediction.transaction import Transaction
from shared.batch import Batch, Position
from shared.errors import (
    GuardError,
    ProducerFenced,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.events import Activation
from shared.models.model import Model
from shared.operations.counters import BATCH_SECONDS, COMMITS, REBALANCES, SNAPSHOTS, Counters
from shared.operations.failpoints import failpoint
from shared.operations.retry import Outage
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules
from shared.settings import PredictSettings
from shared.snapshots import SnapshotProgress

log = structlog.get_logger()

SETTLE_S = 5.0
"""Time without an error after which an outage is over.

Between two probes, a broker that is gone looks the same as an idle topic.
"""

LEAST_REST = 0.3
"""A transaction is committed early where less of its interval is left than this share of the time
for which a poll gathers: a further poll would return few records, at nearly the cost of a full one.
"""

OVERLAP_FROM_RECORDS = {"at-least-once": 64, "exactly-once": 1024}
"""Results of a transaction from which on the next records are folded while it is committed. Where
there are fewer, the next poll returns these records together with later ones, at less cost. Results
that are sent right after a commit wait until the broker has completed that transaction.
"""


class PredictionLoop:
    """Scores the assigned partitions; the RebalanceListener of its own source."""

    def __init__(
        self,
        dependencies: Dependencies,
        rules: Rules,
        encoder: Encoder,
        settings: PredictSettings,
        counters: Counters,
        outage: Outage,
        rejections: Rejections,
    ) -> None:
        self.dependencies = dependencies
        self.rules = rules
        self.encoder = encoder
        self.settings = settings
        self.counters = counters
        self.owned: dict[int, Owned] = {}
        self.model: Model | None = None
        self.transaction = Transaction(
            dependencies.open_sink,
            dependencies.clock,
            settings.commit_interval_ms / 1000,
            LEAST_REST * settings.gather_s,
        )
        self.overlap_from_records = OVERLAP_FROM_RECORDS[settings.delivery]
        self.pool = FoldingPool(settings.threads, dependencies.decoder, encoder, dependencies.clock)
        self.polling = Polling(dependencies.source, settings, dependencies.clock)
        self.outage = outage
        self._gauges = Gauges(dependencies, encoder.topics.input, counters)
        self._skipped_model = ""
        self.rejections = rejections

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until a request to stop; then commit, write snapshots and leave the group.

        raises : ProducerFenced, GuardError, ArtifactMissing; TransportError when an outage outlasts
                 outage_deadline_s
        """
        self.dependencies.source.subscribe(self)
        try:
            while not stopping():
                self.step()
        except GuardError:
            self.drain(commit=False)
            raise
        self.drain()

    def step(self) -> None:
        """Poll once, process the records, and commit when it is due."""
        self.outage.step()
        self._gauges.refresh(self.owned, self.model)
        self.rejections.log_due()
        try:
            if self.transaction.broken:
                self._recover()
            self._poll_model()
            # What a long fold has made overdue is committed first, not after a further fold.
            if self.transaction.due_in_s != 0.0 or self.polling.is_waiting:
                self._take_all(self.polling.poll(self.transaction.due_in_s, self.outage.pause_s))
            if self.transaction.due_in_s == 0.0:
                self._commit_when_due()
            if not self.polling.held:
                self.outage.succeeded()
        except TransactionAborted as error:
            self.outage.suspect(error)
            self._invalidate("transaction aborted", error)
        except TransactionInDoubt as error:
            self.outage.suspect(error)
            self._invalidate("transaction in doubt", error, in_doubt=True)
        except ProducerFenced:
            raise
        except TransportError as error:
            self.outage.failed(error)
            self.dependencies.sleep(self.outage.pause_s)

    @property
    def rebuilding(self) -> bool:
        """Whether the state was dropped and has not been restored yet."""
        return self.transaction.broken

    def drain(self, *, commit: bool = True) -> None:
        """Commit the open transaction and write snapshots, or abort; then leave the group."""
        try:
            if not commit:
                self.transaction.sink.abort()
            elif not self.transaction.broken:
                self._commit()
                for owned in self.owned.values():
                    self._snapshot(owned, last=True)
        except TransportError as error:
            log.warning(
                "shut down without committing, records will be scored again", error=str(error)
            )
        finally:
            self.rejections.log_due(last=True)
            self.owned.clear()
            self.pool.close()
            self.dependencies.snapshots.close()
            self._report_snapshots()
            self.dependencies.source.close()
            self.transaction.sink.close()

    # -- ownership ---------------------------------------------------------------------------------

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over partitions; see RebalanceListener."""
        for partition, position in committed.items():
            self._take_over(partition, position, start[partition])
        return {partition: self.owned[partition].state.next_offset for partition in committed}

    def _take_over(self, partition: int, position: Position | None, log_start: int) -> None:
        folder = self.dependencies.snapshots.folder
        owned, refused = take_over(
            partition, position, log_start, folder, self.dependencies.history, self.rules
        )
        for why in refused:
            log.warning("snapshot skipped", partition=partition, because=why)
        if owned.state.activation:
            self._apply_activation(owned, owned.state.activation)
        elif owned.ahead:
            self._apply_activation(owned, owned.ahead.pop(0))
        elif owned.replaying:  # the first activation of this state version will be the same
            owned.scorer.use(self._suitable(self.model), self.rules.configuration)
        # else a snapshot is due, so that a predictor killed again soon need not repeat the replay
        if not owned.replaying:
            owned.progress.captured_at_s = self.dependencies.clock()
        self.owned[partition] = owned
        failpoint("in_takeover")
        self.counters.add(REBALANCES, 1, "assigned")
        log.info(
            "partition taken over",
            partition=partition,
            from_offset=owned.state.next_offset,
            replay_until=owned.replay_until,
            entities=owned.state.live,
        )

    def revoked(self, partitions: Sequence[int]) -> None:
        """Commit the open transaction, then release partitions; see RebalanceListener."""
        failpoint("in_revoke")
        try:
            if not self.transaction.broken:
                self._commit()
        except TransportError as error:
            self._invalidate("partitions revoked, commit failed", error, in_doubt=True)
        self._drop(partitions, snapshot=not self.transaction.broken)
        failpoint("after_revoke")

    def lost(self, partitions: Sequence[int]) -> None:
        """Drop partitions that another member owns already; see RebalanceListener."""
        self._drop(partitions, snapshot=False)
        self._invalidate("partitions lost", None)

    def _drop(self, partitions: Sequence[int], *, snapshot: bool) -> None:
        for partition in partitions:
            owned = self.owned.pop(partition, None)
            if owned and snapshot:
                self._snapshot(owned, last=True)
            self.counters.add(REBALANCES, 1, "revoked" if snapshot else "lost")
        self.rejections.forget(partitions)
        self.polling.drop(partitions)
        log.info("partitions released", partitions=sorted(partitions))

    # -- records -----------------------------------------------------------------------------------

    def _take_all(self, batches: Sequence[Batch]) -> None:
        todo = [] if self.transaction.broken else list(batches)
        failure: TransportError | None = None
        while todo and failure is None:
            taken, failure = self._prepare(todo)
            self._score_all(taken)
            todo = todo[len(taken) :]
        if failure is not None:
            self.polling.hold(todo)
            self.outage.failed(failure)
        else:
            self.polling.go_on()

    def _prepare(self, batches: Sequence[Batch]) -> tuple[list[list[Piece]], TransportError | None]:
        """Look up what the first batches need, at most one of each partition.

        returns : the pieces of each batch, none where all is known or owned by others; the error at
                  the batch after them
        """
        taken: dict[int, list[Piece]] = {}
        for batch in batches:
            if batch.partition in taken:
                break
            try:
                taken[batch.partition] = self._pieces(batch)
            except TransportError as error:
                return list(taken.values()), error
        return list(taken.values()), None

    def _pieces(self, batch: Batch) -> list[Piece]:
        """Divide the unseen records of a batch where a replay ends and where models change."""
        owned = self.owned.get(batch.partition)
        if owned is None:
            return []
        unseen = owned.unseen(batch)
        if not len(unseen):
            return []
        failpoint("after_poll")
        self.dependencies.decoder.prepare(unseen)
        return [Piece(owned, *segment) for segment in owned.segments(unseen)]

    def _score_all(self, partitions: Sequence[list[Piece]]) -> None:
        """Score the pieces of each partition one after another, and send their results."""
        rounds = itertools.zip_longest(*partitions)
        for pieces in rounds:
            present = [piece for piece in pieces if piece is not None]
            for piece in present:
                self._switch(piece)
            self.pool.fold(present, self._finish)

    def _switch(self, piece: Piece) -> None:
        """Use the model and settings that apply to a piece."""
        owned = piece.owned
        if piece.is_activated:
            self._apply_activation(owned, owned.ahead.pop(0))
        if not piece.is_replayed:
            self._activate(owned, piece.batch)

    def _finish(self, folded: Folded, since_s: float | None = None) -> None:
        """Send the results of a piece; those of a replayed one were sent before.

        since_s : as of ``Transaction.send``; None = when the poll began to gather
        """
        owned = folded.piece.owned
        owned.progress.work_s += folded.fold_s
        if folded.piece.is_replayed:
            failpoint("in_replay")
            return
        failpoint("after_process")
        self.counters.observe(BATCH_SECONDS, folded.work_s)
        if since_s is None:
            since_s = self.dependencies.clock() - self.polling.gathered_s
        self.transaction.send(folded.results, since_s)
        failpoint("after_produce")
        owned.dirty = True
        self.transaction.add(folded.outcome)

    def _is_switch(self, piece: Piece) -> bool:
        """Return whether another model, or other settings, apply from a piece on."""
        is_new = not piece.is_replayed and self._new_activation(piece.owned, piece.batch)
        return piece.is_activated or bool(is_new)

    def _activate(self, owned: Owned, batch: Batch) -> None:
        """Write an activation if model or settings change from this batch on."""
        new = self._new_activation(owned, batch)
        if new is None:
            return
        activation, model = new
        configuration = self.rules.configuration
        owned.state.activation = activation
        owned.scorer.use(model, configuration)
        record = self.encoder.activation(batch.partition, activation, configuration.detector.value)
        self.transaction.send([record])
        failpoint("after_activation")
        log.info(
            "activated",
            detector=configuration.detector.value,
            model=activation.model_id or None,
            partition=batch.partition,
            offset=activation.offset,
        )

    def _new_activation(self, owned: Owned, batch: Batch) -> tuple[Activation, Model | None] | None:
        """Return what applies from this batch on; None where it applies already."""
        configuration = self.rules.configuration
        first = owned.state.activation is None and owned.state.live > 0
        model = self._suitable(owned.scorer.model if first else self.model or owned.scorer.model)
        activation = Activation(
            model.sha256 if model else "",
            int(batch.offsets[0]),
            model.version if model else "",
            settings=configuration.text,
        )
        now = owned.state.activation
        if now is not None and (now.model_sha256, now.settings_id) == (
            activation.model_sha256,
            activation.settings_id,
        ):
            return None
        return activation, model

    def _suitable(self, model: Model | None) -> Model | None:
        takes = model is not None and self.rules.configuration.takes(model.detector)
        return model if takes else None

    def _apply_activation(self, owned: Owned, activation: Activation) -> None:
        """Use the model and settings of an activation record."""
        model = (
            self.dependencies.models.load(activation.model_sha256)
            if activation.model_sha256
            else None
        )
        owned.scorer.use(model, Configuration.from_text(activation.settings))
        owned.state.activation = activation

    # -- transactions ------------------------------------------------------------------------------

    def _commit_when_due(self) -> None:
        """Commit, and fold the records of the next poll meanwhile.

        Not where that gains little, nor where a snapshot is due, which needs the committed state.
        """
        is_small = self.transaction.sent < self.overlap_from_records
        if is_small or self.polling.held or self._next_snapshot(is_committed=False):
            self._commit()
            return
        polled_s = self.dependencies.clock()
        batches = self.polling.poll_ahead()
        if self.transaction.broken:
            return
        pieces = self._ready(batches)
        if pieces is None:
            self._commit()
            self._poll_model()
            self._take_all(batches)
            return
        positions = self._positions()
        with self.pool.begun(pieces) as results:
            self._commit_at(positions)
            self._poll_model()  # before the results open the next transaction
            for folded in results:
                self._finish(folded, polled_s)
        self._report_snapshots()

    def _ready(self, batches: Sequence[Batch]) -> list[Piece] | None:
        """Return the pieces of batches, None where something has to be sent or awaited first."""
        taken, failure = self._prepare(batches)
        pieces = [piece for pieces in taken for piece in pieces]
        is_simple = len(taken) == len(batches) and all(len(pieces) < 2 for pieces in taken)
        if failure is not None or not is_simple or any(map(self._is_switch, pieces)):
            return None
        return pieces

    def _commit(self) -> None:
        """Commit the results of all folded records; then write a snapshot if it is due."""
        self._commit_at(self._positions())
        self._snapshot_due()

    def _positions(self) -> dict[int, Position]:
        """Return the positions of the partitions with results that are not committed."""
        return {
            partition: Position(
                owned.state.next_offset,
                metadata(owned.state, self.dependencies.snapshots.folder.topic_id),
            )
            for partition, owned in self.owned.items()
            if owned.dirty
        }

    def _commit_at(self, positions: Mapping[int, Position]) -> None:
        """Commit what has been sent: the results of the records before these positions."""
        outcomes = self.transaction.commit(positions)
        if positions:
            self.counters.add(COMMITS, 1, "committed")
        measure_budget(
            self.counters, self.owned, outcomes, self.rules.configuration.detection.alarms_per_day
        )
        report(
            self.counters,
            outcomes,
            self.dependencies.now_ms(),
            self.dependencies.decoder.entity_name,
        )
        self.rejections.note(outcomes)
        for partition in positions:
            self.owned[partition].dirty = False

    def _snapshot_due(self) -> None:
        """Write a snapshot of one partition's committed state when it is due."""
        if due := self._next_snapshot(is_committed=True):
            self._snapshot(self.owned[due.partition])
        self._report_snapshots()

    def _next_snapshot(self, *, is_committed: bool) -> SnapshotProgress | None:
        """Return the partition whose snapshot is due.

        is_committed : False = it may be due after the next commit
        """
        savable = [
            owned.progress
            for owned in self.owned.values()
            if owned.savable or (not is_committed and owned.dirty)
        ]
        return self.dependencies.snapshots.next_due(savable, self.settings.snapshot_interval_s)

    def _snapshot(self, owned: Owned, *, last: bool = False) -> None:
        """Write a snapshot of a committed state; a failure only makes the next replay longer."""
        if owned.savable:
            failpoint("before_snapshot")
            self.dependencies.snapshots.write(owned.progress, owned.state, last=last)

    def _report_snapshots(self) -> None:
        for done in self.dependencies.snapshots.finished():
            self.counters.add(SNAPSHOTS, 1, "failed" if done.error else "written")
            if done.error:
                log.warning("snapshot not written", partition=done.partition, error=str(done.error))

    def _invalidate(self, event: str, error: Exception | None, *, in_doubt: bool = False) -> None:
        """Drop all state; the next step restores that of the last commit."""
        log.warning(event, error=str(error) if error else None, partitions=sorted(self.owned))
        self.counters.add(COMMITS, 1, "undecided" if in_doubt else "aborted")
        self.transaction.invalidate(in_doubt=in_doubt)
        self.owned.clear()
        self.polling.held.clear()

    def _recover(self) -> None:
        self.transaction.recover()
        self.owned.clear()
        self.dependencies.source.rewind()
        self.transaction.resume()

    # -- models ------------------------------------------------------------------------------------

    def _poll_model(self) -> None:
        """Switch to a newer model, but only between transactions."""
        if self.transaction.is_open:
            return
        newest = self.dependencies.models.newest()
        if newest is not None and not self.rules.configuration.takes(newest.detector):
            if newest.sha256 != self._skipped_model:
                self._skipped_model = newest.sha256
                log.warning(
                    "model skipped, it was trained for another detector",
                    model=newest.model_id,
                    model_detector=newest.detector.value,
                    detector=self.rules.configuration.detector.value,
                )
            newest = None
        self.model = newest
