"""The profiles of the compose file: rows of Telegraf become results, and incidents are sent."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.request
from typing import Any

import pytest
from compose_stack import BUILD_TIMEOUT_S, IMAGE, Stack, Stopwatch, docker, wait_until
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

if os.environ.get("COMPOSE_TEST") != "1":
    pytest.skip("the compose stack is tested by `make compose-test`", allow_module_level=True)

SOURCE, INPUT, SCORES = "telegraf.raw", "metrics.hosts.raw", "metrics.hosts.scores"
HOSTS, STEP_S, DAYS = ("web-1", "web-2", "web-3"), 300, 4
TICKS = DAYS * 86_400 // STEP_S
SPIKE = range(TICKS - 36, TICKS - 12)
"""Ticks in which web-1's cpu is far from usual; it is as usual again after them."""

OURS = {"consumer_prediction": 3, "route": 2, "incidents": 1, "notify": 1, "dashboard": 1}
OWN = {
    "COMPOSE_PROFILES": "route,notify",
    "LAPWING_TOPICS__DATASET": "hosts",
    "LAPWING_ROUTE__SOURCE": SOURCE,
    "LAPWING_ROUTE__FORMAT": "telegraf",
    "LAPWING_ROUTE__ENTITY": "{host}",
    "LAPWING_NOTIFY__TARGETS": json.dumps(
        {"chat": {"kind": "webhook", "url": "http://receiver:9000/", "min_severity": "info"}}
    ),
}


@pytest.mark.timeout(3600)
def test_route_and_notify(stack: Stack) -> None:
    watch = Stopwatch()
    with watch("build"):
        stack("build", "topics", timeout_s=BUILD_TIMEOUT_S)
    with watch("broker, registry and topics"):
        stack("up", "--detach", "kafka", "schema-registry")
        stack.admin = stack.new_admin()
        wait_until("the source is there", lambda: created(stack), 120)
    with watch("all services of both profiles healthy"):
        scale = [part for name, n in OURS.items() for part in ("--scale", f"{name}={n}")]
        stack("up", "--detach", "--no-build", *scale, *OURS, "receiver")
        wait_until("every service of ours is healthy", lambda: healthy(stack), 240)
    with watch("rows of Telegraf"):
        write(stack)
    with watch("each row scored"):
        rows = len(HOSTS) * TICKS
        wait_until("as many scores as rows", lambda: counted(stack, SCORES) == rows, 240)
        assert counted(stack, INPUT) == rows
    with watch("the incident sent"):
        wait_until("a notice of web-1", lambda: "web-1" in notices(stack), 120)
    page = f"http://localhost:{stack.page_port}"
    with watch("the page"):
        wait_until("an incident of web-1", lambda: "web-1" in answer(f"{page}/v1/incidents"), 60)
        assert all(host in answer(f"{page}/v1/entities") for host in HOSTS)
    with watch("down"):
        stack("down", "--volumes", "--remove-orphans")
    for kind in ("container", "volume", "network"):
        command = (kind, "ls", "--quiet", "--filter", f"name={stack.project}")
        assert docker(*command).split() == [], kind
    print(f"\n{watch.table()}")


def created(stack: Stack) -> bool:
    (made,) = stack.admin.create_topics([NewTopic(SOURCE, 3, 1)]).values()
    made.result(10)
    return True


def write(stack: Stack) -> None:
    """Write a batch per tick and host, as Telegraf's output does with `use_batch_format`."""
    assert stack.environment["LAPWING_IMAGE"] == IMAGE
    noise = random.Random(7)
    now_s = int(time.time()) // STEP_S * STEP_S
    producer = Producer(
        {"bootstrap.servers": f"localhost:{stack.kafka_port}", "partitioner": "murmur2_random"}
    )
    for tick in range(TICKS):
        for host in HOSTS:
            usage = 40.0 + noise.gauss(0, 2)
            if host == "web-1" and tick in SPIKE:
                usage = 95.0 + noise.gauss(0, 1)
            metric = {
                "name": "cpu",
                "tags": {"host": host},
                "fields": {"usage": round(usage, 3)},
                "timestamp": now_s - (TICKS - tick) * STEP_S,
            }
            producer.produce(SOURCE, json.dumps({"metrics": [metric]}).encode(), key=host)
        producer.poll(0)
    assert producer.flush(60) == 0


def healthy(stack: Stack) -> bool:
    states: list[dict[str, Any]] = []
    for service, count in OURS.items():
        found = [one["State"] for one in stack.containers(service)]
        if len(found) != count:
            return False
        states += found
    return all(one["Running"] and one["Health"]["Status"] == "healthy" for one in states)


def counted(stack: Stack, topic: str) -> int:
    return sum(1 for _ in stack.read(topic))


def notices(stack: Stack) -> str:
    """What the receiver has printed."""
    return stack("logs", "--no-color", "receiver")


def answer(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())
