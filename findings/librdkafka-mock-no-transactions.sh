#!/usr/bin/env bash
# librdkafka's mock cluster confirms every transactional request, but has no transactions.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), whose mock cluster is
#   `test.mock.num.brokers` and rd_kafka_mock_cluster_new.
#
# Expected: its header lists "Transactional Producer" and consumer groups "with offset commits"
#   under supported functionality, and says that it is for testing existing applications. So
#   exactly-once code that passes on it has been tested, and where it fails the code is wrong.
# Instead: each of these answers "fine" and does nothing. Readers of committed data get aborted
#   records; positions sent with a committed transaction are not there; a fenced producer commits.
#   And a partition keeps 5 MiB: what is older disappears without an error on either side. It is a
#   test of the client's requests, not of an application.
#
# Seen:
#   read_committed reads: aborted-0 aborted-1 aborted-2 kept-0 kept-1 kept-2
#   position sent with the transaction: none; committed without one: 4
#   fenced producer: committed, and the record is read
#   8000 records of 1 KiB acknowledged, reading from the beginning gives 4132, from number 3868 on
#   (how many differs from run to run)
#
# Source: librdkafka, src/rdkafka_mock.h (head of the file), src/rdkafka_mock_handlers.c (EndTxn,
#   TxnOffsetCommit), src/rdkafka_mock.c (`max_size` of a partition, 5 MiB).

source "$(dirname "$0")/lib/setup.sh"

python_packages confluent-kafka==2.16.1
py - <<'PY'
import ctypes, logging, pathlib
import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

SILENT = {"logger": logging.Logger("silent", logging.CRITICAL + 1)}
package = pathlib.Path(confluent_kafka.__file__).parent
(path,) = package.with_name("confluent_kafka.libs").glob("librdkafka*.so*")
library = ctypes.CDLL(str(path))
pointer, text, integer, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
for name, result, arguments in (
    ("rd_kafka_conf_new", pointer, []),
    ("rd_kafka_conf_set", integer, [pointer, text, text, text, size]),
    ("rd_kafka_new", pointer, [integer, pointer, text, size]),
    ("rd_kafka_mock_cluster_new", pointer, [pointer, integer]),
    ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
    ("rd_kafka_mock_topic_create", integer, [pointer, text, integer, integer]),
):
    getattr(library, name).restype, getattr(library, name).argtypes = result, arguments
reason = ctypes.create_string_buffer(256)
conf = library.rd_kafka_conf_new()
library.rd_kafka_conf_set(conf, b"log_level", b"0", reason, len(reason))
cluster = library.rd_kafka_mock_cluster_new(library.rd_kafka_new(0, conf, reason, len(reason)), 1)
kafka = SILENT | {"bootstrap.servers": library.rd_kafka_mock_cluster_bootstraps(cluster).decode()}
for topic in (b"results", b"long"):
    assert library.rd_kafka_mock_topic_create(cluster, topic, 1, 1) == 0


def transactional():
    producer = Producer(kafka | {"transactional.id": "sink"})
    producer.init_transactions(20)
    return producer


def begin(producer, name, records):
    producer.begin_transaction()
    for number in range(records):
        producer.produce("results", f"{name}-{number}")
    assert producer.flush(20) == 0


def read(topic):
    reader = Consumer(kafka | {"group.id": "reader", "isolation.level": "read_committed",
                               "auto.offset.reset": "earliest", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0)])
    values = []
    while (message := reader.poll(20)) and not message.error():
        values.append(message.value().decode())
    assert message, "the end did not come"
    reader.close()
    return values


producer = transactional()
begin(producer, "aborted", 3)
producer.abort_transaction()
begin(producer, "kept", 3)
producer.commit_transaction()
values = read("results")
print("read_committed reads:", *values)
assert "aborted-0" in values, "changed: aborted records are hidden"

member = Consumer(kafka | {"group.id": "member"})
place = TopicPartition("results", 0, 5)
begin(producer, "with-position", 1)
producer.send_offsets_to_transaction([place], member.consumer_group_metadata(), 20)
producer.commit_transaction()
sent = member.committed([TopicPartition("results", 0)], 20)[0].offset
member.commit(offsets=[TopicPartition("results", 0, 4)], asynchronous=False)
plain = member.committed([TopicPartition("results", 0)], 20)[0].offset
print(f"position sent with the transaction: {'none' if sent < 0 else sent};",
      f"committed without one: {plain}")
assert sent < 0 and plain == 4, "changed: transactions commit positions"

newer = transactional()  # fences the older one
try:
    begin(producer, "zombie", 1)
    producer.commit_transaction()
    outcome = "committed"
except KafkaException as error:
    outcome = f"refused ({error.args[0].name()})"
zombie = "zombie-0" in read("results")
print("fenced producer:", outcome + (", and the record is read" if zombie else ""))
assert outcome == "committed" and zombie, "changed: a fenced producer is refused"

plain, outcomes = Producer(kafka), []
for number in range(8000):
    record = f"{number:8}" + "x" * 1016
    plain.produce("long", record, on_delivery=lambda error, _: outcomes.append(error))
assert plain.flush(60) == 0 and outcomes == [None] * 8000
values = read("long")
print(f"8000 records of 1 KiB acknowledged, reading from the beginning gives {len(values)},",
      f"from number {int(values[0][:8])} on")
assert len(values) < 8000, "changed: nothing is dropped"
PY
