#!/usr/bin/env bash
# The metadata of a position that the Python client commits is one byte longer than what was given.
#
# Software: confluent-kafka 2.16.1 (librdkafka 2.16.1), Apache Kafka 4.3.1 (broker and Java client).
#
# Expected: the metadata that is committed with a position is text, and each client of the group
#   reads what another one has committed. So a group may change its client.
# Instead: the Python client counts the NUL that ends a string in C among the bytes of the metadata.
#   Read with the Python client, it is not seen; every other client gets a text that ends with
#   U+0000: it is not equal to the one committed, and JSON parsers refuse it.
#   Works: strip one NUL at the end, and end with one what the Python client may read.
#
# Seen:
#   committed by the Python client: {"base": 7}, 11 characters
#   read by the Python client: 11 characters
#   read by the Java client: 12 characters, the last is U+0000
#
# Source: confluent_kafka's C extension, py_to_c_parts and c_parts_to_py.

source "$(dirname "$0")/lib/setup.sh"

cat >"$WORK/commit.py" <<'PY'
import logging, sys
from confluent_kafka import Consumer, TopicPartition

silent = logging.Logger("silent", logging.CRITICAL + 1)
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "group", "logger": silent})
metadata = '{"base": 7}'
position = TopicPartition("topic", 0, 0, metadata=metadata)
consumer.commit(offsets=[position], asynchronous=False)
print(f"committed by the Python client: {metadata}, {len(metadata)} characters", flush=True)
[read] = consumer.committed([TopicPartition("topic", 0)], timeout=30)
print(f"read by the Python client: {len(read.metadata)} characters", flush=True)
assert read.metadata == metadata
PY

cat >"$WORK/Read.java" <<'JAVA'
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;

public class Read {
    public static void main(String[] arguments) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            var positions = admin.listConsumerGroupOffsets("group").partitionsToOffsetAndMetadata();
            String read = positions.get().values().iterator().next().metadata();
            int last = read.charAt(read.length() - 1);
            System.out.printf("read by the Java client: %d characters, the last is U+%04X%n",
                              read.length(), last);
            if (last != 0) {
                throw new AssertionError("changed: there is no NUL at the end");
            }
        }
    }
}
JAVA

cat >"$WORK/Create.java" <<'JAVA'
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

public class Create {
    public static void main(String[] arguments) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            admin.createTopics(List.of(new NewTopic("topic", 1, (short) 1))).all().get();
        }
    }
}
JAVA

python_packages confluent-kafka==2.16.1
prepare_kafka
run_kafka
run_java kafka "$WORK/Create.java" "127.0.0.1:$KAFKA_PORT"
py "$WORK/commit.py" "127.0.0.1:$KAFKA_PORT"
run_java kafka "$WORK/Read.java" "127.0.0.1:$KAFKA_PORT"
