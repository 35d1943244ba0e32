#!/usr/bin/env bash
# Positions of a transaction that follows another at once take half a second more, records do not.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1.
#
# Expected: a producer that commits, begins again and adds positions waits until the broker has
#   completed the transaction before, which takes some milliseconds. So it does for records: their
#   partitions are refused meanwhile (CONCURRENT_TRANSACTIONS), and asked for again after 20 ms.
# Instead: positions are refused likewise, and sent again only after `retry.backoff.ms`. With 500
#   there, as where a request must not be repeated while the first copy may still be under way, a
#   loop of short transactions stands still for half a second now and then. Safe: `flush()` before
#   the positions. The records are taken once the transaction before is complete; a commit would
#   wait for them anyway.
#
# Seen (100 transactions of 60 records and a position, retry.backoff.ms=500):
#   positions first          slower than 400 ms: 98   longest 641 ms
#   flush, then positions    slower than 400 ms: 0    longest 12 ms
#
# Source: librdkafka's src/rdkafka_txnmgr.c (rd_kafka_txn_handle_AddPartitionsToTxn has the 20 ms,
#   rd_kafka_txn_handle_AddOffsetsToTxn has not).

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/transactions.py" <<'PY'
import sys, time
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

kafka, ROUNDS, LONG_S = sys.argv[1], 100, 0.4
admin = AdminClient({"bootstrap.servers": kafka})
for made in admin.create_topics([NewTopic("input", 1, 1), NewTopic("results", 6, 1)]).values():
    made.result(20)
consumer = Consumer({"bootstrap.servers": kafka, "group.id": "group"})
consumer.subscribe(["input"])
while not consumer.assignment():
    consumer.poll(0.2)


def measure(name, flush_first):
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name, "linger.ms": 5,
                         "retry.backoff.ms": 500})
    producer.init_transactions(30)
    took_s = []
    for number in range(ROUNDS):
        producer.begin_transaction()
        for key in range(60):
            producer.produce("results", b"1", str(key))
        if flush_first:
            producer.flush()
        began_s = time.monotonic()
        producer.send_offsets_to_transaction(
            [TopicPartition("input", 0, number)], consumer.consumer_group_metadata(), 30)
        took_s.append(time.monotonic() - began_s)
        producer.commit_transaction(30)
    slow = sum(s > LONG_S for s in took_s)
    print(f"{name:<24} slower than 400 ms: {slow:<4} longest {1000 * max(took_s):.0f} ms", flush=True)
    return slow


first, after = measure("positions first", False), measure("flush, then positions", True)
consumer.close()
assert first > after, "changed: positions no longer wait for the backoff"
PY

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
py "$WORK/transactions.py" "127.0.0.1:$KAFKA_PORT"
