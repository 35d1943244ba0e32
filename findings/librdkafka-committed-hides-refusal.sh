#!/usr/bin/env bash
# A consumer that may not see its group waits until its time is up, and is told of a timeout.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1 with StandardAuthorizer.
#
# Expected: `Consumer.committed()` of a principal without Describe of the group ends at once with
#   GROUP_AUTHORIZATION_FAILED, as describing the group does.
# Instead: the broker refuses the search for the group's coordinator with that code, at once. The
#   call does not end then: the client goes on searching until the call's time is up, and says
#   _TIMED_OUT, which looks like a broker that is overloaded or gone. Safe: describe the group after
#   a first short wait.
#
# Seen (a wait of 5 s):
#   describing the group   GROUP_AUTHORIZATION_FAILED   0.0 s
#   committed()            _TIMED_OUT                   5.0 s
#
# Source: librdkafka's src/rdkafka.c (rd_kafka_committed waits for the coordinator) and
#   src/rdkafka_cgrp.c (rd_kafka_cgrp_handle_FindCoordinator tells the consumer's queue alone).

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/refused.py" <<'PY'
import sys, time
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType, AdminClient,
                                   NewTopic, ResourcePatternType, ResourceType)

kafka, WAIT_S = sys.argv[1], 5.0
admin = AdminClient({"bootstrap.servers": kafka})
admin.create_topics([NewTopic("input", 1, 1)])["input"].result(20)
for made in admin.create_acls([AclBinding(
        ResourceType.GROUP, "group", ResourcePatternType.LITERAL, "User:somebody-else", "*",
        AclOperation.DESCRIBE, AclPermissionType.ALLOW)]).values():
    made.result(20)
time.sleep(2)


def ask(name, call):
    began_s = time.monotonic()
    try:
        call()
        code = "no error"
    except KafkaException as error:
        code = error.args[0].name()
    took_s = time.monotonic() - began_s
    print(f"{name:<22} {code:<28} {took_s:.1f} s", flush=True)
    return code, took_s


def describe():
    admin.describe_consumer_groups(["group"], request_timeout=WAIT_S)["group"].result(20)


consumer = Consumer({"bootstrap.servers": kafka, "group.id": "group"})
described, _ = ask("describing the group", describe)
read, took_s = ask("committed()", lambda: consumer.committed([TopicPartition("input", 0)], WAIT_S))
consumer.close()
assert described == "GROUP_AUTHORIZATION_FAILED", "the principal may see the group"
assert read == "_TIMED_OUT" and took_s >= WAIT_S - 0.5, "changed: committed() names the refusal"
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
cat >>"$WORK/kafka.properties" <<'PROPERTIES'
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
PROPERTIES
run_kafka
py "$WORK/refused.py" "127.0.0.1:$KAFKA_PORT"
