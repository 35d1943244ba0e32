"""One owned partition: its state, its snapshots, and how far its replay has come.

Invariant: records below the committed position are processed but never sent again; models change
           at the offsets that the activation records give.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

import numpy as np

from shared.batch import Batch, Position
from shared.errors import GuardError, HistoryGone, NewerVersion, TopicRecreated
from shared.events import STATE_VERSION, Activation
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.snapshots import SnapshotFolder, SnapshotProgress

METADATA_VERSION = 3
_READABLE = (2, METADATA_VERSION)
"""Version 2 lacks the topic's id and the state version."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The metadata of a committed position.

    base       : first offset of the records that the state depends on
    activation : model and settings at the position (settings by id); None before the first
    """

    base: int
    activation: Activation | None


def metadata(state: PartitionState, topic_id: str) -> str:
    """Encode the metadata committed with a position, far below the broker's limit of 4096 bytes."""
    return _metadata(state.base, state.activation, topic_id)


@lru_cache(1024)
def _metadata(base: int, activation: Activation | None, topic_id: str) -> str:
    content = {
        "v": METADATA_VERSION,
        "topic": topic_id,
        "state": STATE_VERSION,
        "base": base,
        "activation": asdict(replace(activation, settings="")) if activation else None,
    }
    return json.dumps(content, separators=(",", ":"))


def checkpoint(position: Position, folder: SnapshotFolder, partition: int) -> Checkpoint:
    """Decode a position's metadata; without any, the position was set by hand: state begins there.

    raises : NewerVersion, TopicRecreated; GuardError when the metadata is not Lapwing's
    """
    if not position.metadata:
        return Checkpoint(position.offset, None)
    committed = f"{folder.topic}[{partition}]: the group's committed offset {position.offset}"
    try:
        content = json.loads(position.metadata)
        if content["v"] > METADATA_VERSION:
            raise NewerVersion(
                f"{committed} has metadata of version {content['v']}, this code supports up to"
                f" {METADATA_VERSION}{_NEWER}"
            )
        if content["v"] not in _READABLE:
            raise ValueError(f"version {content['v']}")
        topic_id, version = content.get("topic", ""), int(content.get("state", 0))
        if topic_id and folder.topic_id and topic_id != folder.topic_id:
            raise TopicRecreated(
                f"{committed} belongs to the topic with id {topic_id}, but the topic now has id"
                f" {folder.topic_id}{_RECREATED}"
            )
        activation = Activation(**content["activation"]) if content["activation"] else None
        version = max(version, activation.state_version if activation else 0)
        if version > STATE_VERSION:
            raise NewerVersion(
                f"{committed} was written with state version {version}, this code has"
                f" {STATE_VERSION}{_NEWER}"
            )
        return Checkpoint(int(content["base"]), activation)
    except (KeyError, TypeError, ValueError) as error:
        raise GuardError(
            f"{committed} has metadata that this version cannot read ({error}); {_START_OVER}"
        ) from error


_START_OVER = "to start over, use another predict.group or reset the group's offsets"
_NEWER = f": a newer version ran before; run that version again; {_START_OVER}"
_RECREATED = (
    ": it was deleted and recreated, so the saved state and offsets are about other records;"
    f" {_START_OVER}"
)


@dataclass(slots=True)
class Owned:
    """A partition that this predictor owns.

    replay_until : records below this offset were committed before
    progress     : progress of its snapshots
    ahead        : activations of this state version that the replay has not reached yet, by offset;
                   the first one applies to all records before it as well
    alarms, entity_days : alarms since the take-over, and the entity-days they occurred in
    dirty        : records were sent since the last commit
    """

    scorer: Scorer
    replay_until: int
    progress: SnapshotProgress
    ahead: list[Activation] = field(default_factory=list)
    dirty: bool = False
    alarms: int = 0
    entity_days: float = 0.0

    @property
    def state(self) -> PartitionState:
        """State of the partition."""
        return self.scorer.state

    @property
    def replaying(self) -> bool:
        """Whether the committed position has not been reached yet."""
        return self.state.next_offset < self.replay_until

    @property
    def savable(self) -> bool:
        """Whether the state is committed and newer than its snapshots."""
        return not (self.dirty or self.replaying or self.progress.offset == self.state.next_offset)

    def unseen(self, batch: Batch) -> Batch:
        """Drop records that have been processed already."""
        if len(batch) and batch.offsets[0] >= self.state.next_offset:
            return batch
        return batch.rows(int(np.searchsorted(batch.offsets, self.state.next_offset)), len(batch))

    def segments(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """Split a batch where the replay ends and where models change.

        yields : (piece, whether it is only replayed)
        """
        if not self.ahead and batch.offsets[0] >= self.replay_until:
            yield batch, False
            return
        boundaries = [self.replay_until, *(activation.offset for activation in self.ahead)]
        cuts = np.searchsorted(batch.offsets, np.array(boundaries, np.int64))
        bounds = sorted({0, len(batch), *cuts.tolist()})
        for start, stop in itertools.pairwise(bounds):
            yield batch.rows(start, stop), bool(batch.offsets[start] < self.replay_until)


History = Callable[[int, int, Activation], Sequence[Activation]]
"""(partition, after offset, newest) -> activations after the offset up to newest, oldest first."""


def take_over(
    partition: int,
    committed: Position | None,
    log_start: int,
    folder: SnapshotFolder,
    history: History,
    rules: Rules,
) -> tuple[Owned, list[str]]:
    """Restore a partition from its newest snapshot; a replay leads to the committed position.

    returns : (partition, why snapshots were skipped); reading begins at its ``state.next_offset``
    raises  : HistoryGone when neither a snapshot nor the log reaches back far enough;
              TopicRecreated, NewerVersion
    """
    if committed is None:
        # A broker that deletes a topic deletes its committed positions too; only snapshots remain.
        if earlier := folder.earlier_topic():
            raise TopicRecreated(
                f"{folder.topic}[{partition}]: the group has no committed position, but {earlier}"
                " holds snapshots of a topic with the same name and an id other than"
                f" {folder.topic_id}{_RECREATED}, or remove that folder"
            )
        return Owned(
            Scorer(PartitionState(log_start), rules), log_start, SnapshotProgress(partition)
        ), []
    known = checkpoint(committed, folder, partition)
    if newer := folder.newer(partition, known.base, committed.offset):
        raise NewerVersion(
            f"{folder.topic}[{partition}]: {newer} has a newer state version than this code's"
            f" {STATE_VERSION}{_NEWER}, or remove that file to rebuild the state from the input"
        )
    if log_start > committed.offset:
        raise HistoryGone(
            f"{folder.topic}[{partition}]: retention removed records {committed.offset} to"
            f" {log_start - 1} before they were scored; raise topics.input_retention_hours, and"
            " reset the group's offsets to continue without them"
        )
    restored = folder.restore(partition, committed.offset, known.base)
    state = restored.state or PartitionState(known.base)
    if log_start > state.next_offset and state.next_offset < committed.offset:
        raise HistoryGone(
            f"{folder.topic}[{partition}]: the state needs records from offset {state.next_offset},"
            f" but retention has removed those before {log_start}; restore state_dir {folder.root},"
            " or use another predict.group to start over"
        )
    ahead: Sequence[Activation] = ()
    if (
        known.activation
        and known.activation.state_version == STATE_VERSION
        and known.activation != state.activation
    ):
        after = state.activation.offset if state.activation else -1
        ahead = [
            activation
            for activation in history(partition, after, known.activation)
            if activation.state_version == STATE_VERSION
        ]
    progress = SnapshotProgress.after(partition, restored)
    owned = Owned(Scorer(state, rules), committed.offset, progress, list(ahead))
    return owned, restored.refused
