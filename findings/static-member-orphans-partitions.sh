#!/usr/bin/env bash
# A static member that dies while it gives partitions up leaves them without an owner for good.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1, classic group
#   protocol.
#
# Expected: static membership (`group.instance.id`, KIP-345) spares a rebalance when a member
#   comes back in time, and cooperative-sticky (KIP-429) moves partitions in two steps: their
#   owner gives them up, joins again, and that second rebalance hands them to the new member. Both
#   together are what a stateful consumer wants. Whatever dies in between, the group notices: a
#   stable group with live members has an owner for each partition.
# Instead: the owner dies between the two steps. Its successor has the same id and subscription,
#   so the broker lets it in without a rebalance and repeats the last assignment, which lacks the
#   partitions that were given up. The second rebalance never comes. The group is "Stable", all
#   members are healthy, and these partitions are read by nobody until somebody joins or leaves.
#   Cure: compare the group's assignment with the topic's partitions once the group has settled,
#   and have a member stay away for longer than its session where one is missing.
#
# Seen (four partitions, session.timeout.ms 6000, looked at for 20 s):
#   first takes 0 1 2 3
#   second joins; first gives up 0 1 and is killed
#   first is back after 0.3 s, owns 2 3; second owns nothing
#   20 s later: group Stable, 2 members, nobody owns 0 1
#
# Source: KIP-345 (a returning static member gets the current assignment) and KIP-429 (revoked
#   partitions are assigned by the rebalance after). Met in Lapwing's fault table, docs/faults.md.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/member.py" <<'PY'
"""A static member that says what it owns; with "die" it is gone when it gives partitions up."""

import os, signal, sys
from confluent_kafka import Consumer

kafka, name, then = sys.argv[1:]
owned = set()


def tell(*words):
    print(*words, flush=True)


def on_assign(consumer, partitions):
    consumer.incremental_assign(partitions)
    owned.update(partition.partition for partition in partitions)
    tell("owns", *sorted(owned))


def on_revoke(consumer, partitions):
    consumer.incremental_unassign(partitions)
    tell("gives up", *sorted(partition.partition for partition in partitions))
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    owned.difference_update(partition.partition for partition in partitions)


member = Consumer({"bootstrap.servers": kafka, "group.id": "group", "group.instance.id": name,
                   "partition.assignment.strategy": "cooperative-sticky", "log_level": 0,
                   "session.timeout.ms": 6000, "heartbeat.interval.ms": 500})
member.subscribe(["metrics"], on_assign=on_assign, on_revoke=on_revoke)
while True:
    member.poll(0.1)
PY

cat >"$WORK/group.py" <<'PY'
import subprocess, sys, time
from confluent_kafka.admin import AdminClient, NewTopic

kafka, program = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": kafka})
admin.create_topics([NewTopic("metrics", 4, 1)])["metrics"].result(20)
started = []


def start(name, then="live"):
    command = [sys.executable, program, kafka, name, then]
    started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return started[-1]


def line(member):
    return member.stdout.readline().strip()


try:
    first = start("first", "die")
    said = line(first)
    assert said == "owns 0 1 2 3", said
    print("first takes 0 1 2 3")
    second = start("second")
    while not (said := line(first)).startswith("gives up"):
        assert said, "first ended by itself"
    given_up = {int(number) for number in said.split()[2:]}
    print(f"second joins; first {said} and is killed", flush=True)
    first.wait()
    began = time.monotonic()
    back = line(start("first"))
    print(f"first is back after {time.monotonic() - began:.1f} s, {back};",
          f"second {line(second)} nothing", flush=True)
    time.sleep(20)
    group = admin.describe_consumer_groups(["group"])["group"].result(20)
    places = [place for member in group.members for place in member.assignment.topic_partitions]
    unowned = {0, 1, 2, 3} - {place.partition for place in places}
    print(f"20 s later: group {group.state.name.capitalize()}, {len(group.members)} members,",
          "nobody owns", *sorted(unowned))
    assert all(process.poll() is None for process in started[1:]), "a member has ended"
    stable = group.state.name == "STABLE"
    assert unowned == given_up and stable, "changed: every partition has an owner"
finally:
    for process in started:
        process.kill()
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
py "$WORK/group.py" "127.0.0.1:$KAFKA_PORT" "$WORK/member.py"
