"""Rows about guards: a cause of silently wrong results stops the predictor at every start.

Invariant: after such a stop nothing more is committed, no transaction is left open, and the earlier
           results are correct.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any
from zlib import crc32

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # not in its stubs

import schemas
from shared.decode.avro.fingerprints import fingerprint_of
from shared.events import STATE_VERSION
from shared.kafka import Admin, topic_specs
from tests.faults.content import HOSTS, START_MS, Mix, evolved_schemas
from tests.faults.predictor import Slot
from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import PARTITIONS, Testbed
from tests.support.services.broker import SILENT
from tests.support.services.records import murmur2

STARTS = 2
"""This many consecutive starts must end in the guard."""

WAIT_S = 90.0


def _stopped(
    run: Run, tally: Tally, slot: Slot, guard: str, *words: str, others: Iterable[str] = ()
) -> None:
    """Wait until a guard has stopped a predictor at each start, then stop restarting it.

    words  : texts that its message contains
    others : further guards that may have stopped it before
    """
    run.wait(lambda: len(_matching(slot, guard, words)) >= STARTS, WAIT_S, f"a stop by {guard}")
    slot.wanted = False
    run.wait(lambda: slot.process is None, WAIT_S, "the end of the process")
    tally.require(
        set(slot.exits) <= {0, 1, -9}, f"{run.name}: exit codes {dict(slot.exits)}\n{run.logs()}"
    )
    found = {entry["guard"] for entry in _guards(slot)}
    tally.require(
        found <= {guard, *others}, f"{run.name}: {found}, and {guard} was expected\n{run.logs()}"
    )
    tally.require(
        slot.exits[1] >= STARTS, f"{run.name}: exit codes {dict(slot.exits)}\n{run.logs()}"
    )


def _guards(slot: Slot) -> list[dict[str, str]]:
    """Return the log entries about stops by guards."""
    lines = slot.log.read_text("utf-8", "replace").splitlines() if slot.log.exists() else []
    return [
        json.loads(line)
        for line in lines
        if line.startswith("{") and '"stopped by a guard"' in line
    ]


def _matching(slot: Slot, guard: str, words: Iterable[str]) -> list[dict[str, str]]:
    return [
        entry
        for entry in _guards(slot)
        if entry["guard"] == guard and all(word in entry["because"] for word in words)
    ]


def _running(run: Run, slot: Slot) -> Slot:
    """Start a predictor; return when it has scored some records and saved its state."""
    slot.start()
    run.pacer.send(600)
    counts = {p: n for p, n in run.pacer.counts.items() if n}

    def is_saved() -> bool:
        run.pacer.send(6)
        return {
            int(path.parent.name) for path in (run.folder / "state").rglob("*.snapshot")
        } == set(counts)

    run.wait(is_saved, 60, "the snapshots")
    counts |= run.pacer.counts
    run.wait(
        lambda: all(_seen(run, p, n - 1) for p, n in counts.items() if n),
        60,
        "scoring the beginning",
    )
    return slot


def _seen(run: Run, partition: int, offset: int) -> bool:
    return run.auditor.account.reached_s(partition, offset) is not None


def _ask(run: Run, call: Callable[[AdminClient], Mapping[Any, Future[Any]]]) -> None:
    """Have the broker do something, and wait until it has."""
    client = AdminClient({"bootstrap.servers": run.settings.bootstrap})
    for future in call(client).values():
        future.result(15)


def _producer(run: Run) -> Producer:
    return Producer({"bootstrap.servers": run.settings.bootstrap, "logger": SILENT})


@row("guard: partitions added while it runs", full=2)
def partitions_added(testbed: Testbed, tally: Tally) -> None:
    """Nothing is sent after that: a key's records would lie elsewhere than the stream says."""
    with Run(testbed) as run:
        slot = _running(run, run.slot("a"))
        grown = NewPartitions(run.settings.topics.input, PARTITIONS + 2)
        _ask(run, lambda client: client.create_partitions([grown]))
        _stopped(run, tally, slot, "TopicMismatch", f"{PARTITIONS + 2} partitions")
        first = _guards(slot)[0]["because"]
        tally.require(
            "when this predictor started" in first,
            f"{run.name}: it was not noticed under way: {first}",
        )
        tally.close(run, stopped=True)


def _recreate(run: Run) -> None:
    """Recreate the input with records of the stream, which must not be scored."""
    admin, topic = Admin(run.settings), run.settings.topics.input
    before = admin.topic_id(topic)
    _ask(run, lambda client: client.delete_topics([topic], operation_timeout=10))
    time.sleep(2.0)
    admin.ensure_topics(topic_specs(run.settings))
    assert admin.topic_id(topic) != before
    producer = _producer(run)
    for key, value in run.content.records[:300]:
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0


@row("guard: topic recreated while it runs", full=2)
def topic_recreated(testbed: Testbed, tally: Tally) -> None:
    """A missing topic stops the predictor; after its recreation, the new id does."""
    with Run(testbed) as run:
        slot = _running(run, run.slot("a"))
        _recreate(run)
        _stopped(
            run,
            tally,
            slot,
            "TopicRecreated",
            run.settings.topics.input,
            "predict.group",
            others=("TopicMismatch",),
        )
        tally.close(run, stopped=True)


@row("guard: topic recreated while it is down", full=2)
def topic_recreated_while_down(testbed: Testbed, tally: Tally) -> None:
    """It was killed or shut down; snapshots show it, in every other run only activations do."""
    with Run(testbed) as run:
        slot = _running(run, run.slot("a"))
        guard = "PositionGone" if tally.runs % 2 else "TopicRecreated"
        slot.kill(again=False) if tally.dice.random() < 0.5 else slot.stop()
        run.wait(lambda: slot.process is None, 5, "the end of the process")
        if guard == "PositionGone":
            shutil.rmtree(run.folder / "state")
        _recreate(run)
        slot.start()
        _stopped(run, tally, slot, guard, run.settings.topics.input, "predict.group")
        tally.close(run, stopped=True)


@row("guard: foreign partitioner", ci=1, full=2)
def foreign_partitioner(testbed: Testbed, tally: Tally) -> None:
    """The stream is partitioned by murmur2; one record by librdkafka's default."""
    with Run(testbed) as run:
        slot = _running(run, run.slot("a", LAPWING_INPUT__PARTITIONER="murmur2"))
        run.pacer.start()
        run.settled()
        keys = [f"host-{number}".encode() for number in range(HOSTS)]
        key = next(key for key in keys if crc32(key) % PARTITIONS != murmur2(key) % PARTITIONS)
        landed: list[Message[bytes, bytes]] = []
        producer = _producer(run)
        value = next(value for own, value in run.content.records if own == key)
        producer.produce(
            run.settings.topics.input, value, key, on_delivery=lambda _, sent: landed.append(sent)
        )
        assert producer.flush(30) == 0
        partition, offset = landed[0].partition() or 0, landed[0].offset() or 0
        assert partition == crc32(key) % PARTITIONS
        place = f"{run.settings.topics.input}[{partition}]@{offset}"
        expected = f"belongs in partition {murmur2(key) % PARTITIONS} of {PARTITIONS}"
        _stopped(
            run,
            tally,
            slot,
            "PartitionerMismatch",
            place,
            repr(key),
            expected,
            "crc32 would put it here",
        )
        tally.close(run, stopped=True)
        tally.require(
            not _seen(run, partition, offset),
            f"{run.name}: the record of the foreign producer was scored",
        )


@row("guard: writer schema not allowed", ci=1, full=2)
def schema_not_allowed(testbed: Testbed, tally: Tally) -> None:
    """The stream has one schema; one record has another, which could be read."""
    allowed = fingerprint_of(schemas.text(schemas.METRIC_EVENT)).sha256
    with Run(testbed, mix=Mix(poison=0.0, evolve_at=1_000_000)) as run:
        slot = _running(run, run.slot("a", LAPWING_INPUT__SCHEMA_FINGERPRINTS=allowed))
        run.pacer.start()
        run.settled()
        event = {
            "host": "host-1",
            "timestamp": START_MS,
            "cpu": 1.0,
            "network_in": None,
            "disk_write": 2.0,
        }
        producer = _producer(run)
        producer.produce(
            run.settings.topics.input,
            run.content.encode("v2", event),
            b"host-1",
            murmur2(b"host-1") % PARTITIONS,
        )
        assert producer.flush(30) == 0
        other = fingerprint_of(evolved_schemas()["v2"])
        _stopped(
            run,
            tally,
            slot,
            "SchemaNotAllowed",
            "input.schema_fingerprints",
            other.sha256,
            other.crc64,
        )
        tally.close(run, stopped=True)


@row("guard: retention past the committed offset", full=2)
def retention(testbed: Testbed, tally: Tally) -> None:
    """First the records that the state needs and its snapshots are lost, then unscored records."""
    with Run(testbed) as run:
        slot = _running(run, run.slot("a"))
        slot.stop()
        admin, topic = Admin(run.settings), run.settings.topics.input
        committed = admin.committed(run.settings.predict.group, topic)
        shutil.rmtree(run.folder / "state")
        _delete_records(run, {p: position.offset // 2 for p, position in committed.items()})
        slot.start()
        _stopped(run, tally, slot, "HistoryGone", topic, "the state needs records from offset 0")
        _append(run, 30)
        _delete_records(run, {p: position.offset + 1 for p, position in committed.items()})
        slot.start()
        _stopped(
            run,
            tally,
            slot,
            "HistoryGone",
            topic,
            "before they were scored",
        )
        tally.close(run, stopped=True)


def _append(run: Run, count: int) -> None:
    """Put some records at the end of every partition."""
    producer = _producer(run)
    for partition in range(PARTITIONS):
        for key, value in run.content.records[:count]:
            producer.produce(run.settings.topics.input, value, key, partition)
    assert producer.flush(30) == 0


def _delete_records(run: Run, before: dict[int, int]) -> None:
    places = [
        TopicPartition(run.settings.topics.input, partition, offset)
        for partition, offset in before.items()
    ]
    _ask(run, lambda client: client.delete_records(places))


@row("guard: position or snapshot of a newer version", full=2)
def newer_version(testbed: Testbed, tally: Tally) -> None:
    """A downgrade leaves first a snapshot of the newer release, then a committed position."""
    with Run(testbed) as run:
        slot = _running(run, run.nameless("a"))
        slot.stop()
        run.wait(lambda: slot.process is None, 5, "the end of the process")
        written = sorted((run.folder / "state").rglob("*.snapshot"))
        newer = written[0].with_name(
            written[0].name.replace(f"v{STATE_VERSION}-", f"v{STATE_VERSION + 1}-", 1)
        )
        shutil.copy(written[0], newer)
        slot.start()
        _stopped(run, tally, slot, "NewerVersion", newer.name, "a newer version ran before")
        newer.unlink()
        _rewrite_metadata(run)
        slot.start()
        _stopped(
            run,
            tally,
            slot,
            "NewerVersion",
            "has metadata of version",
            "a newer version ran before",
        )
        tally.close(run, stopped=True)


def _rewrite_metadata(run: Run) -> None:
    """Commit the group's positions again, as a newer version would have."""
    group, topic = run.settings.predict.group, run.settings.topics.input
    places = []
    for partition, position in Admin(run.settings).committed(group, topic).items():
        content = json.loads(position.metadata)
        content["v"] += 1
        places.append(TopicPartition(topic, partition, position.offset, json.dumps(content)))
    consumer = Consumer(
        {"bootstrap.servers": run.settings.bootstrap, "group.id": group, "logger": SILENT}
    )
    try:
        consumer.commit(offsets=places, asynchronous=False)
    finally:
        consumer.close()
