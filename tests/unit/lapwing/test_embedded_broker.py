"""The embedded broker with the Kafka adapter on it; exactly-once is tested on a real Kafka."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from lapwing.embedded import broker as embedded_broker
from lapwing.embedded.broker import RETENTION_BYTES, EmbeddedBroker, find_library
from shared.batch import Batch, Blob, Outgoing, Position
from shared.errors import ConfigError, TopicMismatch
from shared.kafka import (
    Admin,
    AtLeastOnceSink,
    GroupSource,
    Publisher,
    Reader,
    TopicSpec,
    topic_specs,
)
from shared.kafka.engine.confluent.producer import split
from shared.settings import Settings

PARTITIONS = 3


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    topics = {
        f"metrics.{dataset}.{data}": PARTITIONS
        for dataset in "abcde"
        for data in ("raw", "scores", "raw.dlq")
    }
    others = {
        f"{data}": 1
        for dataset in "abcde"
        for data in (
            f"anomalies.{dataset}.events",
            f"anomalies.{dataset}.incidents",
            f"anomalies.{dataset}.feedback",
            f"anomalies.{dataset}.unsent",
            f"models.{dataset}.activations",
        )
    }
    with EmbeddedBroker(topics | others | {"one": 1}) as broker:
        yield broker


def settings(broker: EmbeddedBroker, dataset: str) -> Settings:
    return Settings.model_validate(
        {
            "kafka": broker.client_settings,
            "topics": {"dataset": dataset, "partitions": PARTITIONS},
            "predict": {"group": f"g-{dataset}"},
        }
    )


def numbered(stop: int) -> list[bytes]:
    return [b"%06d" % i for i in range(stop)]


def publish(settings: Settings, topic: str, values: Sequence[bytes]) -> None:
    publisher = Publisher(settings)
    publisher.send(
        Outgoing(
            topic, Blob.join(values), Blob.join([b"host-%d" % (i % 40) for i in range(len(values))])
        )
    )
    assert publisher.flush(10) == 0
    assert (publisher.acknowledged, publisher.failed, publisher.waiting) == (len(values), 0, 0)
    publisher.close()


def values(batches: Sequence[Batch]) -> list[bytes]:
    return [value for batch in batches for value in split(batch.values)]


class Listener:
    def __init__(self) -> None:
        self.committed: dict[int, Position | None] = {}

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        self.committed |= committed
        return {p: position.offset if position else start[p] for p, position in committed.items()}

    def revoked(self, partitions: Sequence[int]) -> None: ...

    def lost(self, partitions: Sequence[int]) -> None: ...


def drain(source: GroupSource, count: int) -> list[Batch]:
    batches: list[Batch] = []
    deadline = time.monotonic() + 20
    while sum(map(len, batches)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, batches))} of {count}"
        batches += source.poll(5000, 0.1)
    return batches


def test_records_go_round_and_are_counted(broker: EmbeddedBroker) -> None:
    given = settings(broker, "a")
    publish(given, given.topics.input, numbered(20_000))
    source, listener = GroupSource(given), Listener()
    source.subscribe(listener)
    batches = drain(source, 20_000)
    assert sorted(values(batches)) == numbered(20_000)
    sink = AtLeastOnceSink(given, source)
    sink.send(Outgoing(given.topics.scores, Blob.join(numbered(500)), Blob.join([b"k"] * 500)))
    ends = {batch.partition: int(batch.offsets[-1]) + 1 for batch in batches}
    sink.commit({p: Position(end - 10, f"model={p}") for p, end in ends.items()})
    assert Admin(given).committed(given.predict.group, given.topics.input)[1] == Position(
        ends[1] - 10, "model=1"
    )
    assert Admin(given).lag(given.predict.group, given.topics.input) == dict.fromkeys(
        range(PARTITIONS), 10
    )
    source.rewind()
    assert {p: position and position.metadata for p, position in listener.committed.items()} == {
        p: f"model={p}" for p in range(PARTITIONS)
    }
    assert len(values(drain(source, 10 * PARTITIONS))) == 10 * PARTITIONS
    sink.close()
    source.close()


def test_a_read_of_several_partitions_loses_nothing_at_their_ends(broker: EmbeddedBroker) -> None:
    given = settings(broker, "b")
    topic = given.topics.input
    publish(given, topic, numbered(30_000))
    for max_records in (30_000, 997):
        assert sorted(values(list(Reader(given, max_records=max_records).read(topic)))) == numbered(
            30_000
        )
    assert list(Reader(given).read(given.topics.scores)) == []


def test_what_the_broker_cannot_do_is_said_at_once(broker: EmbeddedBroker) -> None:
    given = settings(broker, "c")
    admin, began = Admin(given), time.monotonic()
    report = admin.ensure_topics(topic_specs(given))
    assert (report.created, len(report.existing), report.compared) == ((), 8, False)
    assert admin.topic_id(given.topics.input) == ""
    assert admin.cluster_id().startswith("mockCluster")
    with pytest.raises(TopicMismatch, match="the embedded broker has no topic new"):
        admin.ensure_topics([TopicSpec("new", 1, 1)])
    with pytest.raises(
        TopicMismatch,
        match=r"has 3 partitions, topics.partitions says 4:"
        r" set .*LAPWING_TOPICS__PARTITIONS\) to 3",
    ):
        admin.ensure_topics([TopicSpec(given.topics.input, 4, 1)])
    for _ in range(2):
        with pytest.raises(TopicMismatch, match="there is no topic nowhere"):
            admin.partitions("nowhere")
    with pytest.raises(TopicMismatch, match="`lapwing topics ensure` creates it"):
        Admin(given.model_copy(update={"topics": type(given.topics)(dataset="gone")})).partitions(
            "metrics.gone.raw"
        )
    with pytest.raises(TopicMismatch, match=rf"; did you mean {given.topics.input}\?$"):
        admin.partitions(given.topics.input + "x")
    assert time.monotonic() - began < 5


def test_the_oldest_records_vanish_beyond_the_limit(broker: EmbeddedBroker) -> None:
    """What the documentation of the module and the pacing of the demo rest on."""
    given = settings(broker, "d")
    publish(given, "one", [b"x" * 100_000] * 80)
    (start,), (end,) = (
        Admin(given).start_offsets("one").values(),
        Admin(given).end_offsets("one").values(),
    )
    assert end == 80
    assert RETENTION_BYTES * 0.8 < (end - start) * 100_000 <= RETENTION_BYTES * 1.05


def test_another_process_reaches_it(broker: EmbeddedBroker) -> None:
    code = """
import sys
from confluent_kafka.admin import AdminClient
print(len(AdminClient({'bootstrap.servers': sys.argv[1]}).list_topics(timeout=5).brokers))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, broker.bootstrap],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stdout.strip() == "1"


def test_closing_twice_is_no_harm_and_a_wrong_topic_is_named() -> None:
    broker = EmbeddedBroker({"t": 1})
    broker.close()
    broker.close()
    with pytest.raises(ConfigError, match=r"refused topic 't' with 0 partitions"):
        EmbeddedBroker({"t": 0})


def test_the_library_is_the_one_of_the_wheel_and_its_absence_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_library().name.startswith("librdkafka")
    elsewhere = ModuleSpec(
        "confluent_kafka", None, origin=str(tmp_path / "confluent_kafka" / "__init__.py")
    )
    monkeypatch.setattr(embedded_broker, "find_spec", lambda name: elsewhere)
    with pytest.raises(
        ConfigError, match=r"wheels, and .* has none: install confluent-kafka from a wheel"
    ):
        EmbeddedBroker({"t": 1})
    monkeypatch.setattr(embedded_broker, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        find_library()
