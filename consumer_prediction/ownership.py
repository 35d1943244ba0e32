"""One owned partition: where it stands between its snapshot, the committed position and the end of the log.

Law: rows below the committed position are folded and never sent again; models change at the offsets that the log says.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from shared.batch import Batch, Position
from shared.errors import HistoryGone, LapwingError
from shared.events import STATE_VERSION, Activation
from shared.scoring import Rules, Scorer
from shared.snapshots import SnapshotFolder, Trail
from shared.state import PartitionState

METADATA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the metadata of a committed position says.

    base       : first offset of the history that the state is made of
    activation : what judges at the position, by its settings' id; None before the first
    """

    base: int
    activation: Activation | None


def metadata(state: PartitionState) -> str:
    """Write the checkpoint that is committed with a position (far below the broker's 4096 bytes)."""
    activation = asdict(replace(state.activation, settings="")) if state.activation else None
    return json.dumps({"v": METADATA_VERSION, "base": state.base, "activation": activation}, separators=(",", ":"))


def checkpoint(position: Position, topic: str, partition: int) -> Checkpoint:
    """Read a position's metadata; a position without any was set by hand, so history begins there.

    raises : LapwingError when the metadata is not ours
    """
    if not position.metadata:
        return Checkpoint(position.offset, None)
    try:
        content = json.loads(position.metadata)
        if content["v"] != METADATA_VERSION:
            raise ValueError(f"version {content['v']}")
        activation = Activation(**content["activation"]) if content["activation"] else None
        return Checkpoint(int(content["base"]), activation)
    except (KeyError, TypeError, ValueError) as error:
        raise LapwingError(
            f"{topic}[{partition}]: the group's committed offset {position.offset} carries metadata that this version does not "
            f"understand ({error}); use another predict.group or reset the group's offsets"
        ) from error


@dataclass(slots=True)
class Owned:
    """A partition in our hands.

    replay_until : rows below were committed before
    trail        : its snapshots
    ahead        : activations that the replay has yet to reach, by offset
    alarms, entity_days : alarms since the take-over, and the time that they were given in
    dirty        : something was sent since the last commit
    """

    scorer: Scorer
    replay_until: int
    trail: Trail
    ahead: list[Activation] = field(default_factory=list)
    dirty: bool = False
    alarms: int = 0
    entity_days: float = 0.0

    @property
    def state(self) -> PartitionState:
        """What the partition remembers."""
        return self.scorer.state

    @property
    def replaying(self) -> bool:
        """Whether the committed position has not been reached yet."""
        return self.state.next_offset < self.replay_until

    @property
    def savable(self) -> bool:
        """Whether the state is committed and beyond its snapshots."""
        return not (self.dirty or self.replaying or self.trail.offset == self.state.next_offset)

    def unseen(self, batch: Batch) -> Batch:
        """Cut off rows that have been processed already."""
        return batch.rows(int(np.searchsorted(batch.offsets, self.state.next_offset)), len(batch))

    def segments(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """Cut a batch where the replay ends and where models change; say of each piece whether it is only replayed."""
        marks = [self.replay_until, *(activation.offset for activation in self.ahead)]
        cuts = np.searchsorted(batch.offsets, np.array(marks, np.int64))
        bounds = sorted({0, len(batch), *cuts.tolist()})
        for start, stop in itertools.pairwise(bounds):
            yield batch.rows(start, stop), bool(batch.offsets[start] < self.replay_until)


History = Callable[[int, int, Activation], Sequence[Activation]]
"""(partition, after offset, newest) -> activations beyond an offset up to the newest one, oldest first."""


def take_over(
    partition: int,
    committed: Position | None,
    log_start: int,
    folder: SnapshotFolder,
    history: History,
    rules: Rules,
) -> tuple[Owned, list[str]]:
    """Rebuild a partition as it was at the committed position: newest snapshot, then a replay up to there.

    returns : (partition, why snapshots were passed over); reading begins at its ``state.next_offset``
    raises  : HistoryGone when neither a snapshot nor the log reaches back far enough
    """
    if committed is None:
        return Owned(Scorer(PartitionState(log_start), rules), log_start, Trail(partition)), []
    known = checkpoint(committed, folder.topic, partition)
    if log_start > committed.offset:
        raise HistoryGone(
            f"{folder.topic}[{partition}]: records {committed.offset} to {log_start - 1} were removed by retention before they "
            f"were scored; raise topics.input_retention_hours, and reset the group's offset to go on without them"
        )
    restored = folder.restore(partition, committed.offset, known.base)
    state = restored.state or PartitionState(known.base)
    if log_start > state.next_offset and state.next_offset < committed.offset:
        raise HistoryGone(
            f"{folder.topic}[{partition}]: the state needs records from offset {state.next_offset}, but retention has removed "
            f"those before {log_start}; restore state_dir {folder.root}, or use another predict.group to begin anew"
        )
    ahead: Sequence[Activation] = ()
    if known.activation and known.activation != state.activation:
        ahead = history(partition, state.activation.offset if state.activation else -1, known.activation)
    return Owned(Scorer(state, rules), committed.offset, Trail.after(partition, restored), list(ahead)), restored.refused


def state_version_note(activation: Activation | None) -> str | None:
    """Say when a committed activation was written by code with another fold."""
    if activation is None or activation.state_version == STATE_VERSION:
        return None
    return f"scores before were computed with state version {activation.state_version}, now {STATE_VERSION}"
