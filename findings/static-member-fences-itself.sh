#!/usr/bin/env bash
# A lone static member that is busy while its broker restarts is fenced "by other consumer".
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: FENCED_INSTANCE_ID means that a second process uses the same `group.instance.id`, so a
#   service that gets it may end and say so. A member that works on a batch during an outage of its
#   broker loses its session at worst, and joins again when it polls: its next call to poll is far
#   within `max.poll.interval.ms`, 5 minutes by default.
# Instead: when the session is over, librdkafka forgets its member id, and waits for the next poll
#   before it gives its partitions up and joins again. Until then it goes on with heartbeats,
#   without an id. A broker that has come back still has the member, because its sessions begin
#   anew at a restart, and takes the heartbeat for one of another process. For librdkafka the answer
#   is fatal: the client reports it once and can only be closed. A member that is polled meanwhile
#   joins again.
#   The two kinds can be told apart: a member that has fenced itself has no id any more in
#   `consumer_group_metadata`; one that a second process has fenced keeps its id.
#
# Seen (session.timeout.ms=6000; the broker is killed, and starts again after 7 s):
#   polled  no fatal error, owns 2 partitions, has a member id
#   busy    _FATAL, Fatal error: Broker: Static consumer fenced by other consumer with same
#           group.instance.id: ..., owns 0 partitions, has no member id
#   twin    _FATAL, (the same text), owns 0 partitions, has a member id
#
# Source: confluentinc/librdkafka issue 3437, open since 2021 (the symptom); KIP-345.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/members.py" <<'PY'
"""Three static members, each alone in its group: one polled, one busy, one with a real twin."""

import sys, time
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

kafka = sys.argv[1]
admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
admin.create_topics([NewTopic("metrics", 2, 1)])["metrics"].result(20)
errors = {"polled": [], "busy": [], "twin": []}


def member(group):
    made = Consumer({"bootstrap.servers": kafka, "group.id": group, "group.instance.id": "the-one",
                     "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "log_level": 0})
    made.subscribe(["metrics"])
    return made


def poll(group, seconds, until=lambda: False):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not until():
        message = members[group].poll(0.1)
        if message is not None and message.error():
            errors[group].append(message.error())


def has_id(consumer):
    """The metadata begin with "CGMDv2:", the generation in four bytes, the group, NUL, the id."""
    metadata = consumer.consumer_group_metadata()
    return metadata is not None and len(metadata[11:].split(b"\0")[1]) > 0


members = {group: member(group) for group in errors}
for group, consumer in members.items():
    poll(group, 30, consumer.assignment)
    assert consumer.assignment(), group
print("joined", flush=True)
sys.stdin.readline()  # the broker has been killed
poll("polled", 7)
print("the sessions are over", flush=True)
sys.stdin.readline()  # the broker is back
poll("polled", 10)
poll("busy", 5)
members["twin"].close()
members["twin"] = member("twin")
poll("twin", 30, members["twin"].assignment)
second = member("twin")
ends = time.monotonic() + 20
while not errors["twin"] and time.monotonic() < ends:
    second.poll(0.1)
    poll("twin", 0.1)
fatal = {group: [one for one in found if one.fatal() or one.name() == "_FATAL"]
         for group, found in errors.items()}
for group, consumer in members.items():
    said = fatal[group][0] if fatal[group] else None
    print(group.ljust(7), f"{said.name()}, {said.str()}," if said else "no fatal error,",
          f"owns {len(consumer.assignment())} partitions,",
          "has a member id" if has_id(consumer) else "has no member id", flush=True)
assert not fatal["polled"] and members["polled"].assignment(), "the polled member did not return"
assert fatal["busy"] and "fenced by other consumer" in fatal["busy"][0].str(), "changed"
assert not has_id(members["busy"]), "changed: it keeps its id"
assert fatal["twin"] and has_id(members["twin"]), "changed: a fenced member has no id"
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
coproc MEMBERS { py "$WORK/members.py" "127.0.0.1:$KAFKA_PORT"; }
MEMBERS_JOB=$MEMBERS_PID
started "$MEMBERS_JOB"
exec {answers}<&"${MEMBERS[0]}" {orders}>&"${MEMBERS[1]}"
read -r line <&"$answers"
[[ $line == joined ]]
kill -9 "$KAFKA_PID"
gone "$KAFKA_PID"
echo killed >&"$orders"
read -r line <&"$answers"
run_kafka
echo back >&"$orders"
cat <&"$answers" | tee "$WORK/said"
[[ $(grep -c "member id" "$WORK/said") == 3 ]]
