"""A new state version folds all earlier records under its own first activation, and only once.

Invariant: whatever older activations said, a replay gives the state of a fold under the first
           activation of this version; what was committed before stays as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

import schemas
from shared.encode.records import decode_records, encode_records
from shared.events import STATE_VERSION, Activation, Detector
from shared.snapshots import SnapshotFolder
from tests.support.loop_world import (
    FOREST,
    GROUP,
    TOPICS,
    A,
    B,
    World,
    begun,
    configured,
)

OLD = STATE_VERSION - 1
SVM = configured(Detector.ONE_CLASS_SVM, threshold=0.5)
ENSEMBLE = configured(Detector.ENSEMBLE, threshold=0.4)


def upgrade(world: World) -> dict[int, int]:
    """Let all that is committed be of the version before, without snapshots; return the offsets."""
    text = schemas.text(schemas.MODEL_ACTIVATION)
    for records in world.log.topics[TOPICS.activations]:
        for place, record in enumerate(records):
            if record.value:
                [fields] = decode_records([record.value], [text])
                fields["state_version"] = OLD
                [value] = encode_records(text, 3, [fields])
                records[place] = replace(record, value=value)
    for key, position in world.log.committed.items():
        content = json.loads(position.metadata)
        content["state"] = OLD
        if content["activation"]:
            content["activation"]["state_version"] = OLD
        world.log.committed[key] = replace(position, metadata=json.dumps(content))
    folder = world.snapshots.root / "new"
    world.snapshots = SnapshotFolder(folder, "cluster", TOPICS.input, "id", GROUP)
    return {key[2]: position.offset for key, position in world.log.committed.items()}


def first_of_this_version(world: World) -> dict[tuple[int, int], Activation]:
    """Return the activations of this version, each partition's first one from offset 0 on."""
    switches, begun_in = {}, set()
    for partition, activation in world.activations():
        if activation.state_version == STATE_VERSION:
            first = partition not in begun_in
            begun_in.add(partition)
            switches[partition, 0 if first else activation.offset] = activation
    assert begun_in == {0, 1}
    return switches


@pytest.mark.parametrize("configuration", [SVM, ENSEMBLE], ids=["svm", "ensemble"])
@pytest.mark.parametrize("kills", [(), (3,), (9,), (2, 12)], ids=str)
def test_earlier_records_are_folded_under_the_first_new_activation(
    tmp_path, configuration, kills
) -> None:
    world = World(tmp_path, configuration=FOREST)
    world.models.current = A
    world.step(begun(world), 20)
    since, before = upgrade(world), {t: world.results(t) for t in (TOPICS.scores, TOPICS.anomalies)}
    assert since[0] > 100
    world.configuration = configuration
    for steps in kills:
        world.step(begun(world), steps)
        if steps > 2:
            world.models.current = B
    world.finish(begun(world))
    expected = world.oracle(first_of_this_version(world), since)
    for topic, kept in before.items():
        assert Counter(world.results(topic)) == Counter(kept) + Counter(expected[topic])


def test_an_older_activation_would_have_given_other_results(tmp_path) -> None:
    """Else the test above could not tell which activation earlier records were folded under."""
    world = World(tmp_path, configuration=FOREST)
    world.models.current = A
    world.step(begun(world), 20)
    since = upgrade(world)
    world.configuration = ENSEMBLE
    world.finish(begun(world))
    here = world.oracle(first_of_this_version(world), since)
    as_written = {(p, a.offset): a for p, a in world.activations()}
    assert world.oracle(as_written, since)[TOPICS.scores] != here[TOPICS.scores]
