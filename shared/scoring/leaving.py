"""What the end of an entity, or of its memory, means for its episodes and verdicts.

Invariant: an entity that has left is called by its own name and closed in its own records, although
           another one may have its place already.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.anomalies import Origin, Subject, event_of
from shared.batch import Batch
from shared.columns import Columns
from shared.ensemble.fold import Interruption
from shared.ensemble.kernels.outputs import RESTARTED, SILENT
from shared.events import Anomaly, Kind, State
from shared.features.kernels.places import EVICTED, MAX_METRICS
from shared.quality.checks import KINDS, Signals
from shared.scoring.state import Folded, PartitionState
from shared.scoring.verdicts import Verdicts
from shared.wording import minute

Indices = npt.NDArray[np.int32]
_STOPPED = KINDS.index(Kind.STOPPED)


def restarts(state: PartitionState, metrics: int) -> list[Interruption]:
    """End the episodes of all entities that have one, because other settings judge from now on.

    metrics : columns of the rows that follow
    """
    ensemble, owners = state.ensemble, state.owners()
    places, used = len(owners), len(ensemble.metrics)
    of_slot = np.asarray((ensemble.metrics["episodes"]["state"] > 0).any(axis=1))
    table = state.places.slots[:places, :metrics]
    table = np.where(table < used, table, -1)
    open_ = np.zeros(places, np.bool_)
    if used:
        open_[:] = (of_slot[table] & (table >= 0)).any(axis=1)
    known = ensemble.entities[:places]
    open_[: len(known)] |= (known["joint"]["state"] > 0) | (known["trained"]["state"] > 0)
    return [
        Interruption(0, place, table[place].copy(), int(owners[place]), RESTARTED)
        for place in np.flatnonzero(open_ & (owners >= 0)).tolist()
    ]


def interruptions_of(
    state: PartitionState,
    columns: Columns,
    folded: Folded,
    signals: Signals,
    offsets: npt.NDArray[np.int64],
    restarted: list[Interruption],
) -> list[Interruption]:
    """List whose episodes end for other reasons than their values, in the order of the rows.

    Whatever changes the state of an entity is noted in its ``moves``.

    offsets : int64 (n,)  of the rows
    """
    interruptions = list(restarted)
    for row, place in zip(*_stopped(signals), strict=True):
        owner, slots = _at(state, folded, place, row, int(offsets[row]))
        interruptions.append(Interruption(row, place, slots, owner, SILENT))
    dropped = folded.releases
    for k in range(len(dropped.row)):
        row, place, owner = int(dropped.row[k]), int(dropped.place[k]), int(dropped.owner[k])
        interruptions.append(Interruption(row, place, dropped.slots[k], owner, SILENT, forget=True))
    moves = state.places.moves
    for interruption in interruptions:
        moves[interruption.entity] = max(
            moves[interruption.entity], int(offsets[interruption.row]) + 1
        )
    return sorted(interruptions, key=lambda interruption: interruption.row)


def with_names(
    signals: Signals, state: PartitionState, columns: Columns, folded: Folded
) -> Signals:
    """Return the signals with the number of the name instead of the place."""
    names = columns.entity[signals.row].astype(np.int32)
    for k in np.flatnonzero(signals.kind == _STOPPED).tolist():
        names[k] = _at(state, folded, int(signals.entity[k]), int(signals.row[k]))[0]
    return replace(signals, entity=names)


def limit_verdicts(
    batch: Batch,
    columns: Columns,
    folded: Folded,
    state: PartitionState,
    detector_id: str,
    verdicts: Verdicts,
    max_entities: int,
) -> list[Anomaly]:
    """Report entities that had to give way, and entities with too many metrics."""
    found = []
    dropped = folded.releases
    for k in np.flatnonzero(dropped.reason == EVICTED).tolist():
        row, entity = int(dropped.row[k]), state.entities.name(int(dropped.owner[k]))
        since_ms = int(dropped.newest_ms[k])
        reason = (
            f"{entity} was dropped for a new entity: {max_entities} (predict.max_entities) are"
            f" remembered, and its last record, of {minute(since_ms)}, is the oldest; it starts"
            " over if it returns"
        )
        origin = Origin(batch, columns, row, detector_id)
        event = event_of(origin, Subject(Kind.EVICTED, entity), State.STALE, reason)
        found.append(replace(event, is_anomaly=False, since=since_ms, traceparent=None))
    for row in np.flatnonzero(folded.surplus_metric >= 0).tolist():
        metric = state.metrics[int(folded.surplus_metric[row])]
        reason = (
            f"{MAX_METRICS} metrics of an entity are scored, the first ones; {metric} and all"
            " further ones are not"
        )
        entity = state.entities.name(int(columns.entity[row]))
        subject = Subject(Kind.TOO_MANY_METRICS, entity, metric)
        origin = Origin(batch, columns, row, detector_id)
        event = event_of(origin, subject, State(int(verdicts.state[row])), reason)
        found.append(replace(event, is_anomaly=False))
    return found


def _stopped(signals: Signals) -> tuple[list[int], list[int]]:
    stopped = signals.kind == _STOPPED
    return signals.row[stopped].tolist(), signals.entity[stopped].tolist()


def _at(
    state: PartitionState, folded: Folded, place: int, row: int, offset: int | None = None
) -> tuple[int, Indices]:
    """Return who had a place when a row had been folded, and its slots then.

    offset : of the row; None = the slots do not matter
    """
    dropped, width = folded.releases, folded.slots.shape[1]
    later = np.flatnonzero((dropped.place == place) & (dropped.row > row))
    if len(later):
        k = int(later[0])
        owner, slots, moved = int(dropped.owner[k]), dropped.slots[k], dropped.slot_moves[k]
    else:
        owner, slots = int(state.places.owner[place]), state.places.slots[place, :width]
        moved = np.where(slots >= 0, state.places.slot_moves[np.maximum(slots, 0)], 0)
    if offset is None:
        return owner, slots
    return owner, np.where(moved <= offset + 1, slots, -1).astype(np.int32)
