"""Where a recomputation begins: the activations, and the newest state before a record.

Invariant: what retention or another version has made impossible is a named error, never a verdict
computed from less than the predictors had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consumer_prediction.ownership import checkpoint
from consumer_prediction.service import ActivationLog
from lapwing.explain.source_records import Source
from shared.artifacts import load as load_artifact
from shared.artifacts import trust
from shared.errors import ArtifactMissing, ArtifactRefused, HistoryGone, NotComparable
from shared.events import STATE_VERSION, Activation
from shared.kafka import Admin
from shared.models.model import Model
from shared.scoring.state import PartitionState
from shared.settings import Settings
from shared.snapshots import SnapshotFolder


@dataclass(frozen=True, slots=True)
class HistoryStart:
    """What a recomputation starts from.

    activations : of this state version, oldest first
    in_force    : the one that the verdict was computed under
    state       : empty, or of a snapshot
    snapshot    : whether it is of a snapshot
    refused     : why newer snapshots were skipped
    """

    activations: list[Activation]
    in_force: Activation
    state: PartitionState
    snapshot: bool
    refused: list[str]


def history_start(settings: Settings, source: Source, *, whole: bool = False) -> HistoryStart:
    """Return the activations of a partition and the newest state before a record.

    whole  : begin with the first record if the topic still has it, rather than with a snapshot
    raises : HistoryGone, NotComparable, NewerVersion, TopicRecreated, TransportError
    """
    admin, topic = Admin(settings), settings.topics.input
    partition = source.partition
    name = f"{topic}[{partition}]@{source.offset}"
    group = settings.predict.group
    folder = SnapshotFolder(
        settings.state_dir, admin.cluster_id(), topic, admin.topic_id(topic), group
    )
    position = admin.committed(group, topic).get(partition)
    if position is None or position.offset <= source.offset:
        at = "none" if position is None else f"at offset {position.offset}"
        raise NotComparable(
            f"{name} has not been scored by group {group} (predict.group): its position in"
            f" partition {partition} is {at}"
        )
    known = checkpoint(position, folder, partition)
    if known.activation is None or source.offset < known.base:
        raise NotComparable(
            f"{name}: group {group} scores this partition from offset {known.base} on"
        )
    every = ActivationLog(settings)(partition, -1, known.activation)
    in_force = _in_force(every, source, name)
    usable = [one for one in every if one.state_version == STATE_VERSION]
    log_start = admin.start_offsets(topic)[partition]
    if whole and log_start <= known.base:
        return HistoryStart(usable, in_force, PartitionState(known.base), False, [])
    restored = folder.restore(partition, source.offset, known.base)
    state = restored.state or PartitionState(known.base)
    if log_start > state.next_offset:
        raise HistoryGone(
            f"{name}: the state before it needs records from offset {state.next_offset}, but the"
            f" input's retention has removed those before {log_start}, and state_dir"
            f" {settings.state_dir} has no snapshot between {log_start} and {source.offset}"
        )
    return HistoryStart(usable, in_force, state, restored.state is not None, restored.refused)


def _in_force(activations: Sequence[Activation], source: Source, name: str) -> Activation:
    """Return the activation that a record was scored under."""
    before = [one for one in activations if one.offset <= source.offset]
    if not before:
        raise NotComparable(f"{name}: no activation at or before this offset is recorded")
    found = before[-1]
    if found.state_version != STATE_VERSION:
        raise NotComparable(
            f"{name} was scored with state version {found.state_version}; this version of Lapwing"
            f" has {STATE_VERSION} and cannot repeat its verdicts; explain it with the version that"
            " scored it"
        )
    return found


def model_loader(settings: Settings) -> Callable[[str], Model]:
    """Return a function that loads the model of an activation, each once.

    raises : ArtifactMissing, ArtifactRefused that name the model and the folder
    """
    trusted = trust(settings.models)
    loaded: dict[str, Model] = {}

    def load(sha256: str) -> Model:
        try:
            if sha256 not in loaded:
                loaded[sha256] = load_artifact(settings.models_dir, sha256, trusted)
            return loaded[sha256]
        except (ArtifactMissing, ArtifactRefused) as error:
            raise type(error)(
                f"the model {sha256[:16]} that an activation names cannot be used from models_dir"
                f" {settings.models_dir}, so the verdict cannot be computed again: {error}"
            ) from error

    return load
