"""The page on a real Kafka: partitions that are added to a topic are read without a restart."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.intake import Intake
from dashboard.server import history_file
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.records import encode_records
from shared.kafka import Publisher
from tests.support.page_records import SCHEMAS, score

pytestmark = pytest.mark.integration


def test_partitions_that_are_added_are_read(registry_settings):
    settings = registry_settings
    ids = ensure(settings).checked().schemas
    topic = settings.topics.scores
    store = Store(history_file(settings), Retention(30, 10**9))
    intake = Intake(settings, store, Hub(5))
    (scores,) = [one for one in intake.followers if one.stream == "scores"]

    def write(entity, partition):
        values = encode_records(SCHEMAS[1], ids[f"{topic}-value"], [score(1, entity=entity)])
        key = Blob.join([entity.encode()])
        with closing(Publisher(settings)) as publisher:
            publisher.send(Outgoing(topic, values, key, partitions={0: partition}))
            assert publisher.flush(10.0) == 0

    def wait_for(partition, offset):
        until_s = time.monotonic() + 60
        while scores.positions.get(partition) != offset:
            assert time.monotonic() < until_s, (partition, scores.positions, scores.problem)
            time.sleep(0.05)

    intake.start()
    try:
        write("web-1", 0)
        wait_for(0, 1)
        before = scores.partitions
        admin = AdminClient({"bootstrap.servers": settings.bootstrap})
        (added,) = admin.create_partitions([NewPartitions(topic, before + 2)]).values()
        added.result(30)
        write("web-2", before + 1)
        wait_for(before + 1, 1)
        assert scores.positions[0] == 1, "the others go on where they were"
        assert scores.partitions == before + 2
    finally:
        intake.close()
