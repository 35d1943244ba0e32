"""`docker-compose up` as a user runs it: build, first anomaly, scaling, crash, restart."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from compose_stack import (
    ANOMALIES,
    BUILD_TIMEOUT_S,
    DEAD_LETTERS,
    INPUT,
    SCORES,
    Stack,
    Stopwatch,
    docker,
    repeated,
    wait_until,
)

import schemas

if os.environ.get("COMPOSE_TEST") != "1":
    pytest.skip("the compose stack is tested by `make compose-test`", allow_module_level=True)

FIRST_ANOMALY_S = 180
PREDICTORS = 3
OURS = (
    "producer",
    "consumer_training",
    "consumer_prediction",
    "incidents",
    "dashboard",
)
WIRE_PREFIX = 5
"""Magic byte and schema id in front of the Avro body."""


@pytest.fixture
def stopwatch() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    yield watch
    print(f"\n{watch.table()}")


@pytest.mark.timeout(3600)
def test_from_build_to_restart(stack: Stack, stopwatch: Stopwatch) -> None:
    with stopwatch("build"):
        stack("build", timeout_s=BUILD_TIMEOUT_S)
    with stopwatch("up to the first anomaly"):
        up_to_the_first_anomaly(stack)
    with stopwatch("all services healthy"):
        wait_until("every service of ours is healthy", lambda: healthy(stack), 60)
    nobody_is_root(stack)
    with stopwatch(f"scaled to {PREDICTORS}, six partitions 2/2/2"):
        stack.up(PREDICTORS)
        wait_until("the partitions are spread", lambda: stack.spread() == [2, 2, 2], 90)
    with stopwatch("one predictor killed, replaced, all partitions served"):
        crash_one(stack)
    before = stack.committed()
    with stopwatch("down"):
        stack("down")
    with stopwatch("up again to new commits in every partition"):
        stack.up(PREDICTORS)
        goes_on(stack, before)
    with stopwatch("producer stopped to the end of the input reached"):
        stack("stop", "producer")
        wait_until("all input is committed", lambda: stack.committed() == stack.ends(INPUT), 120)
    with stopwatch("all topics read and compared"):
        nothing_is_lost_or_doubled(stack)


def up_to_the_first_anomaly(stack: Stack) -> None:
    began_s = time.monotonic()
    stack.up(1)
    wait_until(
        "an anomaly",
        lambda: next(stack.read(ANOMALIES), None) is not None,
        FIRST_ANOMALY_S - (time.monotonic() - began_s),
    )


def healthy(stack: Stack) -> bool:
    states = [one["State"] for service in OURS for one in stack.containers(service)]
    return len(states) == len(OURS) and all(
        one["Running"] and one["Health"]["Status"] == "healthy" for one in states
    )


def nobody_is_root(stack: Stack) -> None:
    for service in OURS:
        (container,) = stack.containers(service)
        assert docker("exec", container["Id"], "id", "-u").strip() == "10001"
        written = docker(
            "exec", container["Id"], "sh", "-c", "touch /opt/lapwing/here 2>&1 || echo refused"
        )
        assert "Read-only file system" in written
        assert "refused" in written


def crash_one(stack: Stack) -> None:
    victim = stack.containers("consumer_prediction")[0]
    stack.crash(victim)
    before = stack.committed()
    assert len(before) == 6

    def replaced() -> bool:
        (now,) = [
            one for one in stack.containers("consumer_prediction") if one["Id"] == victim["Id"]
        ]
        return now["State"]["Running"] and now["State"]["StartedAt"] != victim["State"]["StartedAt"]

    wait_until("the killed predictor runs again", replaced, 60)
    wait_until("the partitions are spread again", lambda: stack.spread() == [2, 2, 2], 90)
    wait_until("every partition is served", lambda: advanced(stack, before), 60)


def advanced(stack: Stack, before: dict[int, int]) -> bool:
    now = stack.committed()
    return all(now.get(partition, -1) > offset for partition, offset in before.items())


def goes_on(stack: Stack, before: dict[int, int]) -> None:
    wait_until("the group's coordinator answers", stack.committed, 60)
    now = stack.committed()
    assert set(now) == set(before)
    assert all(now[partition] >= before[partition] > 0 for partition in before), (
        f"committed {before} before, {now} after"
    )
    wait_until("every partition goes on", lambda: advanced(stack, before), 120)


def nothing_is_lost_or_doubled(stack: Stack) -> None:
    """Check that a read_committed reader sees exactly one score or dead letter per input record."""
    sent = Counter((message.partition(), message.offset()) for message in stack.read(INPUT))
    dead = Counter(
        coordinates(dict(message.headers() or ())) for message in stack.read(DEAD_LETTERS)
    )
    scored: Counter[tuple[int, int]] = Counter()
    for record in decoded(stack, SCORES, "score_event"):
        scored[record["source_partition"], record["source_offset"]] += 1
    anomalies = sum(record["is_anomaly"] for record in decoded(stack, ANOMALIES, "anomaly_event"))
    print(
        f"{len(sent)} records in, {len(scored)} scored, {len(dead)} dead letters, {anomalies}"
        " anomalies"
    )
    assert len(sent) > 50_000
    assert not repeated(scored + dead)
    assert set(scored) | set(dead) == set(sent)
    assert not dead
    assert anomalies


def decoded(stack: Stack, topic: str, name: str) -> Iterator[dict[str, Any]]:
    schema = fastavro.schema.load_schema(f"{schemas.__path__[0]}/{name}.avsc")
    for message in stack.read(topic):
        yield fastavro.schemaless_reader(io.BytesIO(message.value()[WIRE_PREFIX:]), schema, None)


def coordinates(headers: dict[str, bytes]) -> tuple[int, int]:
    return int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"])
