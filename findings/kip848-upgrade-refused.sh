#!/usr/bin/env bash
# A rolling change to the new group protocol fails for groups with cooperative-sticky members.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: `group.protocol=consumer` (KIP-848) can be rolled out member by member: the broker
#   converts a classic group when the first new member joins (`group.consumer.migration.policy` is
#   bidirectional by default). The assignors that come with the client are fine, only custom ones
#   would be a problem. A trial with one member per assignor confirms it.
# Instead: from its second rebalance on a cooperative-sticky member of librdkafka sends its
#   previous assignment as "user data", as a custom assignor would. The broker then refuses to
#   convert the group and says so in its own log only. The new member is told that the group id
#   does not exist, and that is fatal. The group has to be stopped as a whole, or go to an eager
#   assignor first.
#
# Seen:
#   range               1 member : joined
#   range               2 members: joined
#   cooperative-sticky  1 member : joined
#   cooperative-sticky  2 members: Fatal error: Broker: The group id does not exist: ...
#   broker's log: userData from a custom assignor would be lost
#
# Source: apache/kafka pull request 15662 (online upgrade) and ConsumerGroup.fromClassicGroup
#   (what it refuses); librdkafka, src/rdkafka_sticky_assignor.c,
#   rd_kafka_sticky_assignor_get_metadata.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/roll.py" <<'PY'
import logging, sys, time
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

kafka = {"bootstrap.servers": sys.argv[1], "logger": logging.Logger("silent", logging.CRITICAL + 1)}
admin = AdminClient(kafka)
admin.create_topics([NewTopic("metrics", 4, 1)])["metrics"].result(20)


def poll(members, newcomer):
    """Poll all in turn until the newcomer has partitions; return what it is told instead."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not newcomer.assignment():
        for member in (*members, newcomer):
            message = member.poll(0.1)
            if message is not None and message.error():
                return message.error().str()
    return "joined" if newcomer.assignment() else "no answer"


def join(group, **settings):
    member = Consumer(kafka | {"group.id": group, **settings})
    member.subscribe(["metrics"])
    return member


for assignor in ("range", "cooperative-sticky"):
    for count in (1, 2):
        group = f"{assignor}-{count}"
        members = []
        for _ in range(count):
            newcomer = join(group, **{"partition.assignment.strategy": assignor})
            assert poll(members, newcomer) == "joined"
            members.append(newcomer)
        new = join(group, **{"group.protocol": "consumer"})
        outcome = poll(members, new)
        print(f"{assignor:19} {count} member{'s' if count > 1 else ' '}: {outcome}", flush=True)
        for member in (*members, new):
            member.close()
        refused = assignor == "cooperative-sticky" and count == 2
        assert ("group id does not exist" in outcome) == refused, "changed"
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
py "$WORK/roll.py" "127.0.0.1:$KAFKA_PORT"
echo "broker's log: $(grep -om 1 'userData from a custom assignor would be lost' "$WORK/kafka.log")"
