"""Rows on three brokers with every record on all three, of which any one may fail.

A predictor may end with an error and is started again: where the group's coordinator dies before it
has answered a member with a slot that joins, its successor takes that member for a twin and fences
it.
"""

from __future__ import annotations

import time
from typing import Any

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed

MEMORY_GIB = 4.0
"""What three more brokers, their controller, a registry and the predictors may take at most."""

RETURN_S = 60.0
TRANSACTIONS, GROUPS = "__transaction_state", "__consumer_offsets"


def _three(testbed: Testbed, tally: Tally) -> Testbed | None:
    """Return a testbed of three brokers, or None with the reason if memory is too small."""
    free_gib = psutil.virtual_memory().available / (1 << 30)
    if testbed.cluster is None and free_gib < MEMORY_GIB:
        tally.skipped = (
            f"three brokers need {MEMORY_GIB:g} GiB of memory, {free_gib:.1f} GiB are available"
        )
        return None
    return testbed.three_brokers()


@row("three brokers: kill -9 of one at random, return", quick=0, full=2)
def one_of_three(testbed: Testbed, tally: Tally) -> None:
    """Recovery counts from the kill, while the broker is still dead."""
    three = _three(testbed, tally)
    if three is None:
        return
    with Run(three) as run:
        run.begin_all("ab")
        for _ in range(int(tally.pick(1, 2, 6))):
            time.sleep(tally.dice.uniform(0.0, 1.5))
            _kill(run, tally, tally.dice.choice(list(three.kafka.brokers)))
        tally.close(run)


@row("three brokers: kill -9 of a coordinator, of a leader", quick=0, full=2)
def those_that_decide(testbed: Testbed, tally: Tally) -> None:
    """The transaction coordinator, group coordinator and an input leader fail, in any order."""
    three = _three(testbed, tally)
    if three is None:
        return
    with Run(three) as run:
        run.begin_all("ab")
        group, slot = run.settings.predict.group, run.slots[0].name
        places: list[tuple[str, str | int]] = [
            (TRANSACTIONS, f"{group}-{slot}"),
            (GROUPS, group),
            (run.settings.topics.input, tally.dice.randrange(run.settings.topics.partitions)),
        ]
        for topic, what in tally.dice.sample(places, len(places)):
            time.sleep(tally.dice.uniform(0.0, 1.5))
            _kill(run, tally, _leader(three, topic, what))
        tally.close(run)


def _kill(run: Run, tally: Tally, node: int) -> None:
    """Kill a broker, wait until results come again without it, and restart it."""
    kafka = run.testbed.kafka
    mark = run.mark()
    kafka.kill_broker(node)
    tally.kills += 1
    run.recovered(mark)
    time.sleep(tally.dice.uniform(0.0, 3.0))
    kafka.start()
    run.wait(
        lambda: _whole(run.testbed), RETURN_S, f"the return of broker {node} to every partition"
    )
    run.settled()


def _leader(testbed: Testbed, topic: str, what: str | int) -> int:
    """Return the leader of a topic partition, or of the partition that a name hashes to."""
    partitions = _topics(testbed)[topic].partitions
    number = what if isinstance(what, int) else _java_hash(what) % len(partitions)
    return int(partitions[number].leader)


def _whole(testbed: Testbed) -> bool:
    """Return whether every partition is on all brokers again."""
    try:
        topics = _topics(testbed).values()
    except KafkaException:
        return False
    return all(
        len(p.isrs) == len(p.replicas) == testbed.brokers
        for topic in topics
        for p in topic.partitions.values()
    )


def _topics(testbed: Testbed) -> dict[str, Any]:
    return dict(
        AdminClient({"bootstrap.servers": testbed.kafka.address}).list_topics(timeout=10).topics
    )


def _java_hash(text: str) -> int:
    """Return Java's String.hashCode as coordinators use it to assign names to partitions."""
    value = 0
    for letter in text.encode("ascii"):
        value = (31 * value + letter) & 0xFFFFFFFF
    return abs(value - (1 << 32) if value >> 31 else value)
