#!/usr/bin/env bash
# Flink's avro-confluent refuses a point in time, and writes a wall clock as if it were UTC.
#
# Software: Apache Flink 2.2.0 (formats `avro-confluent` and `avro`), its Kafka connector 5.0.0-2.2,
#   Kafka 4.3.1, Apicurio Registry 2.6.13, confluent-kafka 2.16.1. Flink 1.20.0, 2.0.0, 2.1.0 and
#   2.3.0 do the same.
#
# Expected: a column TIMESTAMP_LTZ(3), Flink's type of a point in time, becomes a long with
#   logicalType timestamp-millis, Avro's type of a point in time. The format `avro` does so with
#   'avro.timestamp_mapping.legacy' = 'false', and avro-confluent is the same format with a registry.
# Instead: avro-confluent does not know that option, and refuses TIMESTAMP_LTZ. It writes TIMESTAMP
#   alone: the digits of a clock on the wall, declared as timestamp-millis, which is UTC by Avro's
#   specification. The cast that the refusal leads to takes the digits of table.local-time-zone, which
#   is by default the zone of the machine: the same instant is written as another one, by hours. Set
#   table.local-time-zone to UTC in jobs that write such a column.
#
# Seen: the instant 1700000000123
#   avro-confluent, TIMESTAMP_LTZ(3): Unsupported to derive Schema for type: TIMESTAMP_LTZ(3)
#   avro-confluent, its timestamp_mapping.legacy: Unsupported options found for 'kafka'
#   avro, TIMESTAMP_LTZ(3), timestamp_mapping.legacy false: 1700000000123
#   avro-confluent, cast to TIMESTAMP(3), zone UTC: timestamp-millis, 1700000000123
#   avro-confluent, cast to TIMESTAMP(3), zone Asia/Tokyo: timestamp-millis, 1700032400123
#
# Source: apache/flink pull request 23511 (FLINK-33198), which added the option to `avro`;
#   org.apache.flink.formats.avro.registry.confluent.RegistryAvroFormatFactory, which has none.

source "$(dirname "$0")/lib/setup.sh"

FLINK=2.2.0
INSTANT=1700000000123
python_packages confluent-kafka==2.16.1
maven_files flink "org.apache.flink:flink-clients:$FLINK" \
    "org.apache.flink:flink-table-planner-loader:$FLINK" \
    "org.apache.flink:flink-table-runtime:$FLINK" \
    "org.apache.flink:flink-table-api-java-bridge:$FLINK" \
    "org.apache.flink:flink-connector-base:$FLINK" \
    "org.apache.flink:flink-sql-avro-confluent-registry:$FLINK" \
    org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2 org.slf4j:slf4j-simple:1.7.36
prepare_kafka
run_kafka
start_apicurio

cat >"$WORK/Flink.java" <<'JAVA'
import org.apache.flink.table.api.*;

/** Writes one instant into a topic for each format, type and zone. */
public class Flink {
    static String kafka, registry;
    static long instant;

    public static void main(String[] arguments) {
        kafka = arguments[0];
        registry = arguments[1];
        instant = Long.parseLong(arguments[2]);
        String confluent = "'format' = 'avro-confluent', 'avro-confluent.url' = '" + registry + "'";
        String legacy = "timestamp_mapping.legacy' = 'false'";
        write("ltz", "TIMESTAMP_LTZ(3)", confluent, "UTC");
        write("option", "TIMESTAMP_LTZ(3)", confluent + ", 'avro-confluent." + legacy, "UTC");
        write("avro", "TIMESTAMP_LTZ(3)", "'format' = 'avro', 'avro." + legacy, "UTC");
        write("utc", "TIMESTAMP(3)", confluent, "UTC");
        write("tokyo", "TIMESTAMP(3)", confluent, "Asia/Tokyo");
        System.exit(0);
    }

    static void write(String topic, String type, String format, String zone) {
        TableEnvironment flink = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        flink.getConfig().set("table.local-time-zone", zone);
        flink.getConfig().set("parallelism.default", "1");
        flink.executeSql("CREATE TABLE t (happened " + type + " NOT NULL) WITH ('connector' = 'kafka', "
            + "'topic' = '" + topic + "', 'properties.bootstrap.servers' = '" + kafka + "', "
            + format + ")");
        try {
            flink.executeSql("INSERT INTO t SELECT CAST(TO_TIMESTAMP_LTZ(" + instant + ", 3) AS "
                + type + ")").await();
        } catch (Exception refused) {
            Throwable cause = refused;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            System.out.println(topic + "\t" + cause.getMessage().lines().findFirst().get());
        }
    }
}
JAVA

JAVA_FLAGS=(-Xmx768m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=off)
for package in java.lang java.lang.reflect java.time java.util; do
    JAVA_FLAGS+=(--add-opens "java.base/$package=ALL-UNNAMED")
done
CCOMPAT=$REGISTRY_URL/apis/ccompat/v7
run_java flink "$WORK/Flink.java" "127.0.0.1:$KAFKA_PORT" "$CCOMPAT" "$INSTANT" >"$WORK/refused.tsv"

py - "127.0.0.1:$KAFKA_PORT" "$CCOMPAT" "$INSTANT" "$WORK/refused.tsv" <<'PY'
import json, sys, urllib.request
from confluent_kafka import Consumer, TopicPartition

kafka, url, instant, refused = sys.argv[1:]
instant = int(instant)
refusals = dict(line.rstrip("\n").split("\t") for line in open(refused))
consumer = Consumer({"bootstrap.servers": kafka, "group.id": "g", "auto.offset.reset": "earliest"})


def zigzag(raw):
    number = sum((byte & 127) << 7 * place for place, byte in enumerate(raw))
    return (number >> 1) ^ -(number & 1)


def read(topic):
    consumer.assign([TopicPartition(topic, 0, 0)])
    record = consumer.poll(10)
    assert record is not None and record.error() is None, topic
    value = record.value()
    if topic == "avro":
        return zigzag(value), None
    path = f"{url}/schemas/ids/{int.from_bytes(value[1:5], 'big')}"
    answer = json.load(urllib.request.urlopen(path))
    [field] = json.loads(answer["schema"])["fields"]
    return zigzag(value[5:]), field["type"]["logicalType"]


found = {topic: read(topic) for topic in ("avro", "utc", "tokyo")}
print("the instant", instant)
print("avro-confluent, TIMESTAMP_LTZ(3):", refusals["ltz"])
print("avro-confluent, its timestamp_mapping.legacy:", refusals["option"])
print("avro, TIMESTAMP_LTZ(3), timestamp_mapping.legacy false:", found["avro"][0])
for topic, zone in (("utc", "UTC"), ("tokyo", "Asia/Tokyo")):
    value, logical = found[topic]
    print(f"avro-confluent, cast to TIMESTAMP(3), zone {zone}: {logical}, {value}")
assert "TIMESTAMP_LTZ(3)" in refusals["ltz"], "changed: it writes TIMESTAMP_LTZ"
assert "Unsupported options" in refusals["option"], "changed: it knows the option"
assert found["avro"] == (instant, None)
assert found["utc"] == (instant, "timestamp-millis")
assert found["tokyo"] == (instant + 9 * 3_600_000, "timestamp-millis"), "changed"
PY
