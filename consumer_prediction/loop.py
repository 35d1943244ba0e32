"""The prediction loop: poll, score, send, commit; one thread, one transaction at a time.

Law: input position, scores, anomalies, dead letters and activations of a transaction become visible
     together or not at all.
After anything undecided the state is dropped and rebuilt by the same path as an assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from consumer_prediction.counting import measure_budget, report
from consumer_prediction.doors import Doors
from consumer_prediction.gauges import Gauges
from consumer_prediction.outgoing import Encoder
from consumer_prediction.ownership import Owned, metadata, take_over
from consumer_prediction.rejections import Rejections
from consumer_prediction.transaction import Transaction
from shared.batch import Batch, Position
from shared.counters import BATCH_SECONDS, COMMITS, REBALANCES, SNAPSHOTS, Counters
from shared.errors import (
    GuardError,
    ProducerFenced,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.events import Activation
from shared.failpoints import failpoint
from shared.models.model import Model
from shared.retry import Outage
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules
from shared.settings import PredictSettings

log = structlog.get_logger()

IDLE_POLL_S = 0.2
LONGEST_POLL_S = 1.0
"""However rare commits are: a step that takes long is one that hangs."""

SETTLE_S = 5.0
"""An outage is over after so long without an error: between two probes, a broker that has gone
looks like an idle topic.
"""


class PredictionLoop:
    """Scores the partitions that the group hands to it; a RebalanceListener of its own source."""

    def __init__(
        self,
        doors: Doors,
        rules: Rules,
        encoder: Encoder,
        settings: PredictSettings,
        counters: Counters,
        outage: Outage,
        rejections: Rejections,
    ) -> None:
        self.doors = doors
        self.rules = rules
        self.encoder = encoder
        self.settings = settings
        self.counters = counters
        self.owned: dict[int, Owned] = {}
        self.model: Model | None = None
        self.transaction = Transaction(
            doors.open_sink, doors.clock, settings.commit_interval_ms / 1000
        )
        self._held: list[Batch] = []
        self._paused = False
        self.outage = outage
        self._gauges = Gauges(doors, encoder.topics.input, counters)
        self._unfit = ""
        self.rejections = rejections

    def run(self, stopping: Callable[[], bool]) -> None:
        """Go on until asked to stop; then commit, snapshot and leave.

        raises : ProducerFenced, GuardError, ArtifactMissing; TransportError when an outage outlasts
                 outage_deadline_s
        """
        self.doors.source.subscribe(self)
        try:
            while not stopping():
                self.step()
        except GuardError:
            self.drain(commit=False)
            raise
        self.drain()

    def step(self) -> None:
        """Poll once, process what came, and commit when it is time."""
        self.outage.step()
        self._gauges.refresh(self.owned, self.model)
        self.rejections.say()
        try:
            if self.transaction.broken:
                self._recover()
            self._look_for_model()
            self._take_all(self._arrivals())
            if self.transaction.due_in_s == 0.0:
                self._commit()
            if not self._held:
                self.outage.succeeded()
        except TransactionAborted as error:
            self.outage.suspect(error)
            self._invalidate("transaction aborted", error)
        except TransactionInDoubt as error:
            self.outage.suspect(error)
            self._invalidate("transaction undecided", error, undecided=True)
        except ProducerFenced:
            raise
        except TransportError as error:
            self.outage.failed(error)
            self.doors.sleep(self.outage.pause_s)

    @property
    def rebuilding(self) -> bool:
        """Whether all state was dropped and has yet to be rebuilt from what was committed."""
        return self.transaction.broken

    def drain(self, *, commit: bool = True) -> None:
        """Commit what is open and snapshot, or abort it; then leave the group."""
        try:
            if not commit:
                self.transaction.sink.abort()
            elif not self.transaction.broken:
                self._commit()
                for owned in self.owned.values():
                    self._snapshot(owned, last=True)
        except TransportError as error:
            log.warning(
                "left without committing; the records will be scored again", error=str(error)
            )
        finally:
            self.rejections.say(last=True)
            self.owned.clear()
            self.doors.snapshots.close()
            self._report_snapshots()
            self.doors.source.close()
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
        folder = self.doors.snapshots.folder
        owned, refused = take_over(
            partition, position, log_start, folder, self.doors.history, self.rules
        )
        for why in refused:
            log.warning("snapshot passed over", partition=partition, why=why)
        if owned.state.activation:
            self._apply_activation(owned, owned.state.activation)
        # else a snapshot is due: who is killed again soon should not replay the same again
        if not owned.replaying:
            owned.progress.captured_at_s = self.doors.clock()
        self.owned[partition] = owned
        failpoint("in_takeover")
        self.counters.add(REBALANCES, 1, "assigned")
        log.info(
            "partition taken over",
            partition=partition,
            from_offset=owned.state.next_offset,
            replay_until=owned.replay_until,
            entities=len(owned.state.entities),
        )

    def revoked(self, partitions: Sequence[int]) -> None:
        """Commit what is open, then give partitions up; see RebalanceListener."""
        failpoint("in_revoke")
        try:
            if not self.transaction.broken:
                self._commit()
        except TransportError as error:
            self._invalidate(
                "revoked, and the open transaction did not commit", error, undecided=True
            )
        self._drop(partitions, snapshot=not self.transaction.broken)
        failpoint("after_revoke")

    def lost(self, partitions: Sequence[int]) -> None:
        """Forget partitions that belong to somebody else already; see RebalanceListener."""
        self._drop(partitions, snapshot=False)
        self._invalidate("partitions lost", None)

    def _drop(self, partitions: Sequence[int], *, snapshot: bool) -> None:
        for partition in partitions:
            owned = self.owned.pop(partition, None)
            if owned and snapshot:
                self._snapshot(owned, last=True)
            self.counters.add(REBALANCES, 1, "revoked" if snapshot else "lost")
        self.rejections.forget(partitions)
        self._held = [batch for batch in self._held if batch.partition not in partitions]
        log.info("partitions given up", partitions=sorted(partitions))

    # -- records -----------------------------------------------------------------------------------

    def _arrivals(self) -> list[Batch]:
        if not self._held:
            due_in_s = self.transaction.due_in_s
            wait_s = IDLE_POLL_S if due_in_s is None else min(due_in_s, LONGEST_POLL_S)
            return self.doors.source.poll(self.settings.max_batch_records, wait_s)
        late = self.doors.source.poll(self.settings.max_batch_records, self.outage.pause_s)
        held, self._held = self._held, []
        return held + late

    def _take_all(self, batches: Sequence[Batch]) -> None:
        held = False
        for place, batch in enumerate(batches if not self.transaction.broken else ()):
            try:
                self._take(batch)
            except (TransactionAborted, TransactionInDoubt, ProducerFenced):
                raise
            except TransportError as error:
                self._held = list(batches[place:])
                self.doors.source.pause()
                self.outage.failed(error)
                held = True
                break
        if not held and self._paused:
            self.doors.source.resume()
        self._paused = held

    def _take(self, batch: Batch) -> None:
        owned = self.owned.get(batch.partition)
        if owned is None:
            return
        batch = owned.unseen(batch)
        if not len(batch):
            return
        failpoint("after_poll")
        self.doors.decoder.prepare(batch)
        for segment, replayed in owned.segments(batch):
            if owned.ahead and segment.offsets[0] >= owned.ahead[0].offset:
                self._apply_activation(owned, owned.ahead.pop(0))
            if replayed:
                self._process(owned, segment)
                failpoint("in_replay")
            else:
                self._score(owned, segment)

    def _score(self, owned: Owned, batch: Batch) -> None:
        self._activate(owned, batch)
        began_s = self.doors.clock()
        outcome = self._process(owned, batch)
        failpoint("after_process")
        results = self.encoder.outcome(outcome, owned.state)
        self.counters.observe(BATCH_SECONDS, self.doors.clock() - began_s)
        self.transaction.send(results)
        failpoint("after_produce")
        owned.dirty = True
        self.transaction.add(outcome)

    def _process(self, owned: Owned, batch: Batch) -> Outcome:
        """Move the state, and remember how long it took: so long would a replay."""
        began_s = self.doors.clock()
        outcome = owned.scorer.process(batch, self.doors.decoder)
        owned.progress.work_s += self.doors.clock() - began_s
        return outcome

    def _activate(self, owned: Owned, batch: Batch) -> None:
        """Write into the log what judges from this batch on, where that changes."""
        configuration = self.rules.configuration
        model = self.model or owned.scorer.model
        if model is not None and not configuration.takes(model.detector):
            model = None
        wanted = Activation(
            model.sha256 if model else "",
            int(batch.offsets[0]),
            model.version if model else "",
            settings=configuration.text,
        )
        now = owned.state.activation
        if now is not None and (now.model_sha256, now.settings_id) == (
            wanted.model_sha256,
            wanted.settings_id,
        ):
            return
        owned.state.activation = wanted
        owned.scorer.use(model, configuration)
        record = self.encoder.activation(batch.partition, wanted, configuration.detector.value)
        self.transaction.send([record])
        failpoint("after_activation")
        log.info(
            "activated",
            detector=configuration.detector.value,
            model=wanted.model_id or None,
            partition=batch.partition,
            offset=wanted.offset,
        )

    def _apply_activation(self, owned: Owned, activation: Activation) -> None:
        """Judge as the log says."""
        model = self.doors.models.load(activation.model_sha256) if activation.model_sha256 else None
        owned.scorer.use(model, Configuration.from_text(activation.settings))
        owned.state.activation = activation

    # -- transactions ------------------------------------------------------------------------------

    def _commit(self) -> None:
        positions = {
            partition: Position(
                owned.state.next_offset, metadata(owned.state, self.doors.snapshots.folder.topic_id)
            )
            for partition, owned in self.owned.items()
            if owned.dirty
        }
        outcomes = self.transaction.commit(positions)
        if positions:
            self.counters.add(COMMITS, 1, "committed")
        measure_budget(
            self.counters, self.owned, outcomes, self.rules.configuration.detection.alarms_per_day
        )
        report(self.counters, outcomes, self.doors.now_ms(), self.doors.decoder.entity_name)
        self.rejections.note(outcomes)
        for partition in positions:
            self.owned[partition].dirty = False
        self._snapshot_due()

    def _snapshot_due(self) -> None:
        """Save one partition's committed state when it is time."""
        savable = {
            owned.progress.partition: owned for owned in self.owned.values() if owned.savable
        }
        progresses = (owned.progress for owned in savable.values())
        if due := self.doors.snapshots.next_due(progresses, self.settings.snapshot_interval_s):
            self._snapshot(savable[due.partition])
        self._report_snapshots()

    def _snapshot(self, owned: Owned, *, last: bool = False) -> None:
        """Save a committed state; a snapshot that cannot be written costs a longer replay and
        nothing else.
        """
        if owned.savable:
            failpoint("before_snapshot")
            self.doors.snapshots.write(owned.progress, owned.state, last=last)

    def _report_snapshots(self) -> None:
        for done in self.doors.snapshots.finished():
            self.counters.add(SNAPSHOTS, 1, "failed" if done.error else "written")
            if done.error:
                log.warning("snapshot not written", partition=done.partition, error=str(done.error))

    def _invalidate(self, what: str, error: Exception | None, *, undecided: bool = False) -> None:
        """Drop all state; the next step rebuilds it from what was committed."""
        log.warning(what, error=str(error) if error else None, partitions=sorted(self.owned))
        self.counters.add(COMMITS, 1, "undecided" if undecided else "aborted")
        self.transaction.invalidate(undecided=undecided)
        self.owned.clear()
        self._held.clear()

    def _recover(self) -> None:
        self.transaction.recover()
        self.owned.clear()
        self.doors.source.rewind()
        self.transaction.resume()

    # -- models ------------------------------------------------------------------------------------

    def _look_for_model(self) -> None:
        """Pick up a newer model, but only between transactions."""
        if self.transaction.is_open:
            return
        newest = self.doors.models.newest()
        if newest is not None and not self.rules.configuration.takes(newest.detector):
            if newest.sha256 != self._unfit:
                self._unfit = newest.sha256
                log.warning(
                    "model passed over: it is of another detector",
                    model=newest.model_id,
                    of=newest.detector.value,
                    detector=self.rules.configuration.detector.value,
                )
            newest = None
        self.model = newest
