#!/usr/bin/env bash
# A topic is deleted and recreated; a consumer continues at its old offset and skips records.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: topics have ids since Kafka 2.8 (KIP-516), metadata and fetch requests carry them, and
#   the group's positions are deleted with the topic. So a consumer of the recreated topic
#   detects it: an error, or a start by auto.offset.reset.
# Instead: the consumer keeps its own position. If the new topic is longer by the time of the next
#   fetch (here the partition is paused; a consumer that was frozen or cut off is alike), it reads
#   on there, without an error, and everything before is never read. The position that it commits
#   makes the loss last. Both group protocols do so. (A client that refreshes its metadata while
#   there is no such topic reports UNKNOWN_TOPIC_OR_PART once, and skips all the same.) Only where
#   the new topic is still shorter, the offset is out of range and auto.offset.reset acts.
#
# Seen:
#   classic   read 100 of the old topic, then 50 of 150 of the new one, from new-100; errors: none
#   consumer  read 100 of the old topic, then 50 of 150 of the new one, from new-100; errors: none
#
# Source: confluentinc/librdkafka issue 3255 (a consumer has no means of telling, 2021) and
#   confluentinc/confluent-kafka-javascript issue 274 (topic ids will be used one day); KIP-516.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/consume.py" <<'PY'
import sys, time
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

kafka = {"bootstrap.servers": sys.argv[1], "log_level": 0}
admin = AdminClient(kafka)


def create(topic, name, records):
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    producer = Producer(kafka)
    for number in range(records):
        producer.produce(topic, f"{name}-{number}")
    assert producer.flush(20) == 0


def read(consumer, least, errors):
    """Return what arrives, until nothing has for two seconds after the least number of records."""
    values = []
    deadline, quiet = time.monotonic() + 30, time.monotonic() + 2
    while time.monotonic() < (deadline if len(values) < least else quiet):
        message = consumer.poll(0.2)
        if message is None:
            continue
        quiet = time.monotonic() + 2
        if message.error():
            errors.append(message.error().name())
        else:
            values.append(message.value().decode())
    return values


for protocol in ("classic", "consumer"):
    topic, errors = f"metrics-{protocol}", []
    create(topic, "old", 100)
    consumer = Consumer(kafka | {
        "group.id": topic, "group.protocol": protocol, "auto.offset.reset": "earliest",
    })
    consumer.subscribe([topic])
    before = read(consumer, 100, errors)
    consumer.commit(offsets=consumer.position([TopicPartition(topic, 0)]), asynchronous=False)
    consumer.pause([TopicPartition(topic, 0)])
    admin.delete_topics([topic])[topic].result(20)
    time.sleep(0.5)
    create(topic, "new", 150)
    time.sleep(0.5)
    read(consumer, 0, errors)
    consumer.resume([TopicPartition(topic, 0)])
    after = read(consumer, 1, errors)
    consumer.close()
    print(f"{protocol:9} read {len(before)} of the old topic, then {len(after)} of 150 of the new",
          f"one, from {after[0]}; errors:", *errors or ["none"])
    changed = "changed: the consumer takes notice of the new topic"
    assert after == [f"new-{number}" for number in range(100, 150)], changed
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
py "$WORK/consume.py" "127.0.0.1:$KAFKA_PORT"
