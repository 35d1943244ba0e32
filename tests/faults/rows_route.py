"""Rows about the route service: each row of its source once, and in order per entity."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka.admin import AdminClient, NewTopic

from lapwing.route.row_records import wide_schema
from shared.batch import Blob, Outgoing
from shared.encode.records import encode_records
from shared.kafka import Admin, Publisher, Reader
from shared.registry import Registry
from shared.settings import Settings
from tests.faults.predictor import KILLED, Slot
from tests.faults.run import Counts, RowFailed
from tests.faults.table import Tally, row
from tests.faults.testbed import DATASET, Testbed
from tests.support.services.transactions import open_transactions

POINTS = (
    "in_takeover",
    "after_poll",
    "after_process",
    "after_produce",
    "before_offsets",
    "after_offsets",
    "after_commit",
    "in_revoke",
)
ROWS_PER_RECORD, GROUPS, SOURCE_PARTITIONS = 100, 8, 4
CHUNK, PAUSE_S = 10, 0.1
WAIT_S = 90.0
BAD_EVERY = 10
START_S = 1_700_000_000
FIELDS = ("cpu_idle", "cpu_n")


@dataclass
class Stream:
    """Batches of Telegraf's metrics, and what they must become.

    events  : entity -> (time_ms, idle, n) of its rows, in order
    letters : the records with a bad row
    """

    dice: random.Random
    rows: int = 0
    records: int = 0
    events: dict[str, list[tuple[int, float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    letters: list[bytes] = field(default_factory=list)

    def next(self) -> tuple[bytes, bytes]:
        """Return the next record's key and value; every tenth has a row without its host."""
        group = self.dice.randrange(GROUPS)
        bad = self.dice.randrange(ROWS_PER_RECORD) if self.records % BAD_EVERY == 0 else -1
        metrics = []
        for number in range(ROWS_PER_RECORD):
            host = f"host-{group}-{self.dice.randrange(3)}"
            second, idle = START_S + self.records, round(self.dice.random() * 100, 2)
            fields = {"idle": idle, "n": self.rows, "state": "up"}
            tags = {} if number == bad else {"host": host}
            metrics.append({"name": "cpu", "tags": tags, "fields": fields, "timestamp": second})
            if number != bad:
                self.events[host].append((second * 1000, idle, float(self.rows)))
            self.rows += 1
        value = json.dumps({"metrics": metrics}).encode()
        if bad >= 0:
            self.letters.append(value)
        self.records += 1
        return f"group-{group}".encode(), value


@row("route: kill -9 at random", ci=1, full=1)
def route_killed(testbed: Testbed, tally: Tally) -> None:
    """Two instances killed at random, and at the points of a transaction, while rows arrive."""
    name = testbed.new_name()
    source = f"telegraf.{name}"
    environ = testbed.environ(
        LAPWING_ROUTE__SOURCE=source, LAPWING_ROUTE__GROUP=f"{DATASET}-{name}"
    )
    settings = testbed.settings(**environ)
    testbed.fresh_topics(settings)
    _create(settings, source)
    slots = [
        Slot(
            one,
            testbed.folder / f"{name}-{one}.log",
            environ | {"LAPWING_SLOT": one},
            testbed.tree,
            module="lapwing.route",
        )
        for one in "ab"
    ]
    stream = Stream(tally.dice)
    publisher, admin = Publisher(settings), Admin(settings)
    wait_s = min(WAIT_S, testbed.patience_s)
    try:
        for slot in slots:
            slot.start()
        for slot in slots:
            _await(slots, lambda slot=slot: _taken(slot) > 0, wait_s, "the start")
        records = int(tally.pick(160, 1_000, 10_000))
        kills = int(tally.pick(4, 12, 80))
        for kill in range(kills):
            slot = slots[kill % 2]
            if kill % 3 == 1:
                slot.arm(f"{tally.dice.choice(POINTS)}:{tally.dice.randint(1, 3)}")
            _send(slots, publisher, settings, stream, records // (kills + 1))
            began_s, taken = time.monotonic(), _taken(slot)
            slot.kill()
            if kill % 4 == 3:  # both at once
                slots[1 - kill % 2].kill()
            _await(slots, lambda slot=slot, n=taken: _taken(slot) > n, wait_s, "the takeover")
            tally.recoveries.append(time.monotonic() - began_s)
        _send(slots, publisher, settings, stream, records - stream.records)
        ends = admin.end_offsets(source)

        def is_done() -> bool:
            at = admin.committed(settings.route.group, source)
            return all(p in at and at[p].offset >= end for p, end in ends.items() if end)

        _await(slots, is_done, wait_s, "the end")
        codes = [slot.stop() for slot in slots]
        tally.require(set(codes) <= {0, KILLED}, f"{name}: ended with {codes} after SIGTERM")
        counts = compared(settings, stream)
        counts.problems += open_transactions(
            settings.bootstrap, [settings.topics.input, settings.route.dead_letters]
        )
    finally:
        publisher.close()
        admin.close()
        for slot in slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.kill()
    tally.counts.add(counts)
    tally.runs += 1
    tally.kills += sum(slot.exits[KILLED] for slot in slots)
    tally.events += stream.rows
    for slot in slots:
        for code, times in slot.exits.items():
            tally.exits[str(code)] = tally.exits.get(str(code), 0) + times


def compared(settings: Settings, stream: Stream) -> Counts:
    """Count the events and dead letters that are lost, duplicate, wrong or out of order."""
    text = wide_schema("host", FIELDS)
    schema_id = Registry(settings.registry).lookup(f"{settings.topics.input}-value", text)
    found = _read(settings, settings.topics.input)
    counts = Counts()
    for entity in stream.events.keys() | found.keys():
        events = [
            {"host": entity, "timestamp": time_ms, "cpu_idle": idle, "cpu_n": n}
            for time_ms, idle, n in stream.events.get(entity, ())
        ]
        wanted = list(encode_records(text, schema_id, events)) if events else []
        _add(counts, wanted, found.get(entity, []), is_ordered=True)
    letters = [
        value
        for values in _read(settings, settings.route.dead_letters).values()
        for value in values
    ]
    _add(counts, stream.letters, letters, is_ordered=False)
    return counts


def _add(counts: Counts, wanted: list[bytes], found: list[bytes], *, is_ordered: bool) -> None:
    expected, seen = Counter(wanted), Counter(found)
    counts.lost += (expected - seen).total()
    counts.wrong += sum(n for one, n in seen.items() if one not in expected)
    counts.duplicates += sum(
        max(0, n - expected[one]) for one, n in seen.items() if one in expected
    )
    counts.disorder += int(is_ordered and expected == seen and found != wanted)


def _read(settings: Settings, topic: str) -> dict[str, list[bytes]]:
    """Key -> committed values, in order."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for batch in Reader(settings).read(topic):
        for number in range(len(batch)):
            found[batch.keys[number].decode()].append(batch.values[number])
    return found


def _taken(slot: Slot) -> int:
    return slot.log_count("partition taken over")


def _create(settings: Settings, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    for future in admin.create_topics([NewTopic(topic, SOURCE_PARTITIONS, 1)]).values():
        future.result(15)


def _await(slots: list[Slot], done: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        for slot in slots:
            slot.restart_if_ended()
        if time.monotonic() > deadline:
            logs = "\n".join(
                slot.log.read_text("utf-8", "replace")[-2500:]
                for slot in slots
                if slot.log.exists()
            )
            raise RowFailed(f"route: {what} did not happen within {timeout_s:g} s\n{logs}")
        time.sleep(0.02)


def _send(
    slots: list[Slot], publisher: Publisher, settings: Settings, stream: Stream, count: int
) -> None:
    for start in range(0, count, CHUNK):
        made = [stream.next() for _ in range(min(CHUNK, count - start))]
        keys, values = zip(*made, strict=True)
        publisher.send(Outgoing(settings.route.source, Blob.join(values), Blob.join(keys)))
        for slot in slots:
            slot.restart_if_ended()
        time.sleep(stream.dice.uniform(0.0, PAUSE_S))
    if publisher.flush(30):
        raise RowFailed("route: the source's records were not acknowledged within 30 s")
