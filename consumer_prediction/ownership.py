"""One owned partition: where it stands between its snapshot, the committed position and the end of the
                     log.

Law: rows below the committed position are folded and never sent again; models change at the offsets
     that the log says.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from shared.batch import Batch, Position
from shared.errors import GuardError, HistoryGone, NewerVersion, TopicRecreated
from shared.events import STATE_VERSION, Activation
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.snapshots import SnapshotFolder, SnapshotProgress

METADATA_VERSION = 3
_READABLE = (2, METADATA_VERSION)
"""Version 2 did not know the topic's id and the state version."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the metadata of a committed position says.

    base       : first offset of the history that the state is made of
    activation : what judges at the position, by its settings' id; None before the first
    """

    base: int
    activation: Activation | None


def metadata(state: PartitionState, topic_id: str) -> str:
    """Write the checkpoint that is committed with a position (far below the broker's 4096 bytes)."""
    content = {
        "v": METADATA_VERSION,
        "topic": topic_id,
        "state": STATE_VERSION,
        "base": state.base,
        "activation": asdict(replace(state.activation, settings="")) if state.activation else None,
    }
    return json.dumps(content, separators=(",", ":"))


def checkpoint(position: Position, folder: SnapshotFolder, partition: int) -> Checkpoint:
    """Read a position's metadata; a position without any was set by hand, so history begins there.

    raises : NewerVersion, TopicRecreated; GuardError when the metadata is not ours
    """
    if not position.metadata:
        return Checkpoint(position.offset, None)
    place = f"{folder.topic}[{partition}]: the group's committed offset {position.offset}"
    try:
        content = json.loads(position.metadata)
        if content["v"] > METADATA_VERSION:
            raise NewerVersion(
                f"{place} carries metadata of version {content['v']}, this code knows"
                f" {METADATA_VERSION}{_NEWER}"
            )
        if content["v"] not in _READABLE:
            raise ValueError(f"version {content['v']}")
        topic_id, version = content.get("topic", ""), int(content.get("state", 0))
        if topic_id and folder.topic_id and topic_id != folder.topic_id:
            raise TopicRecreated(
                f"{place} belongs to the topic of id {topic_id}, but now it has"
                f" {folder.topic_id}{_RECREATED}"
            )
        activation = Activation(**content["activation"]) if content["activation"] else None
        version = max(version, activation.state_version if activation else 0)
        if version > STATE_VERSION:
            raise NewerVersion(
                f"{place} was reached with state version {version}, this code has"
                f" {STATE_VERSION}{_NEWER}"
            )
        return Checkpoint(int(content["base"]), activation)
    except (KeyError, TypeError, ValueError) as error:
        raise GuardError(
            f"{place} carries metadata that this version does not understand ({error}); {_ANEW}"
        ) from error


_ANEW = "to begin anew use another predict.group, or reset the group's offsets"
_NEWER = f": a newer version has run before, so run that one; {_ANEW}"
_RECREATED = f": it was deleted and made anew, and what is known is about other records; {_ANEW}"


@dataclass(slots=True)
class Owned:
    """A partition in our hands.

    replay_until : rows below were committed before
    progress     : how far its snapshots are
    ahead        : activations that the replay has yet to reach, by offset
    alarms, entity_days : alarms since the take-over, and the time that they were given in
    dirty        : something was sent since the last commit
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
        """What the partition remembers."""
        return self.scorer.state

    @property
    def replaying(self) -> bool:
        """Whether the committed position has not been reached yet."""
        return self.state.next_offset < self.replay_until

    @property
    def savable(self) -> bool:
        """Whether the state is committed and beyond its snapshots."""
        return not (self.dirty or self.replaying or self.progress.offset == self.state.next_offset)

    def unseen(self, batch: Batch) -> Batch:
        """Cut off rows that have been processed already."""
        return batch.rows(int(np.searchsorted(batch.offsets, self.state.next_offset)), len(batch))

    def segments(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """Cut a batch where the replay ends and where models change; say of each piece whether it
        is only replayed.
        """
        marks = [self.replay_until, *(activation.offset for activation in self.ahead)]
        cuts = np.searchsorted(batch.offsets, np.array(marks, np.int64))
        bounds = sorted({0, len(batch), *cuts.tolist()})
        for start, stop in itertools.pairwise(bounds):
            yield batch.rows(start, stop), bool(batch.offsets[start] < self.replay_until)


History = Callable[[int, int, Activation], Sequence[Activation]]
"""(partition, after offset, newest) -> activations beyond an offset up to the newest one, oldest
first.
"""


def take_over(
    partition: int,
    committed: Position | None,
    log_start: int,
    folder: SnapshotFolder,
    history: History,
    rules: Rules,
) -> tuple[Owned, list[str]]:
    """Rebuild a partition as it was at the committed position: newest snapshot, then a replay up to
    there.

    returns : (partition, why snapshots were passed over); reading begins at its
              ``state.next_offset``
    raises  : HistoryGone when neither a snapshot nor the log reaches back far enough;
              TopicRecreated, NewerVersion
    """
    if committed is None:
        # A broker that deletes a topic deletes the positions in it as well: only the snapshots tell
        # then.
        if earlier := folder.earlier_topic():
            raise TopicRecreated(
                f"{folder.topic}[{partition}]: the group has no position here, but snapshots of a"
                f" topic of the same name with another id than {folder.topic_id} lie in"
                f" {earlier}{_RECREATED}, or remove that folder"
            )
        return Owned(
            Scorer(PartitionState(log_start), rules), log_start, SnapshotProgress(partition)
        ), []
    known = checkpoint(committed, folder, partition)
    if newer := folder.newer(partition, known.base, committed.offset):
        raise NewerVersion(
            f"{folder.topic}[{partition}]: {newer} is of a newer state version than this code's"
            f" {STATE_VERSION}{_NEWER}, or remove that file to have the state rebuilt from the"
            " input"
        )
    if log_start > committed.offset:
        raise HistoryGone(
            f"{folder.topic}[{partition}]: records {committed.offset} to {log_start - 1} were"
            " removed by retention before they were scored; raise topics.input_retention_hours,"
            " and reset the group's offset to go on without them"
        )
    restored = folder.restore(partition, committed.offset, known.base)
    state = restored.state or PartitionState(known.base)
    if log_start > state.next_offset and state.next_offset < committed.offset:
        raise HistoryGone(
            f"{folder.topic}[{partition}]: the state needs records from offset {state.next_offset},"
            f" but retention has removed those before {log_start}; restore state_dir {folder.root},"
            " or use another predict.group to begin anew"
        )
    ahead: Sequence[Activation] = ()
    if known.activation and known.activation != state.activation:
        ahead = history(
            partition, state.activation.offset if state.activation else -1, known.activation
        )
    return (
        Owned(
            Scorer(state, rules),
            committed.offset,
            SnapshotProgress.after(partition, restored),
            list(ahead),
        ),
        restored.refused,
    )
