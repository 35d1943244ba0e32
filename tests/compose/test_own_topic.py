"""The compose stack on a topic whose owner has registered its schema, which stays unchanged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from compose_stack import BUILD_TIMEOUT_S, IMAGE, Stack, Stopwatch, wait_until
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

if os.environ.get("COMPOSE_TEST") != "1":
    pytest.skip("the compose stack is tested by `make compose-test`", allow_module_level=True)

TOPIC, GROUP, ROWS = "plant.readings", "lapwing-prediction", 120
SUBJECT, LEVEL = f"{TOPIC}-value", "FULL_TRANSITIVE"
FLINK = (Path(__file__).parents[1] / "writer_schemas" / "flink_sql_bigint.avsc").read_text("utf-8")
OWN = {
    "LAPWING_TOPICS__INPUT": TOPIC,
    "LAPWING_TOPICS__PARTITIONS": "3",
    "LAPWING_INPUT__ENTITY_FIELDS": "device",
    "LAPWING_INPUT__TIME_UNIT": "ms",
}


@pytest.mark.timeout(3600)
def test_an_own_topic_with_a_schema_of_its_owner(stack: Stack) -> None:
    watch = Stopwatch()
    with watch("build"):
        stack("build", "topics", timeout_s=BUILD_TIMEOUT_S)
    with watch("broker and registry"):
        stack("up", "--detach", "kafka", "schema-registry")
        registry = SchemaRegistryClient({"url": f"http://localhost:{stack.registry_port}"})
        wait_until("the registry answers", lambda: registry.get_subjects() == [], 120)
    with watch("the owner's topic, schema and records"):
        write(stack, registry)
    before = registry.get_versions(SUBJECT), registry.get_compatibility(SUBJECT)
    assert before == ([1], LEVEL)
    with watch("topics ensure, inspect, doctor"):
        ensured = lapwing(stack, "topics", "ensure")
        assert (
            f"left      {SUBJECT}: it belongs to the producer of the input; it has 1 version at"
            f" level {LEVEL}" in ensured
        )
        assert ensured.count(" has id ") == 5
        seen = json.loads(lapwing(stack, "inspect", "--json"))
        (reading,) = seen["readings"]
        assert (seen["rows"], seen["dead_letters"], reading["metrics"]) == (ROWS, 0, ["value"])
    with watch("predictors"):
        stack("up", "--detach", "--no-deps", "consumer_prediction")
        wait_until("all records are judged", lambda: committed(stack) == ROWS, 120)
    examined = lapwing(stack, "doctor", service="consumer_prediction")
    assert "✓ input" in examined
    assert (
        "entity=device, time=ts (long, ms by input.time_unit), metrics=value, left out=proc (text)"
        in examined
    )
    assert before == (registry.get_versions(SUBJECT), registry.get_compatibility(SUBJECT))
    print(f"\n{watch.table()}\n{ensured}\n{examined}")


def write(stack: Stack, registry: SchemaRegistryClient) -> None:
    """Create the owner's topic, schema and records before Lapwing is installed."""
    registry.register_schema(SUBJECT, Schema(FLINK, "AVRO"))
    registry.set_compatibility(SUBJECT, LEVEL)
    stack.admin = stack.new_admin()
    (made,) = stack.admin.create_topics([NewTopic(TOPIC, 3, 1)]).values()
    made.result(30)
    serializer = AvroSerializer(registry, FLINK)
    producer = Producer(
        {"bootstrap.servers": f"localhost:{stack.kafka_port}", "partitioner": "murmur2_random"}
    )
    for i in range(ROWS):
        record = {
            "device": f"d{i % 4}",
            "ts": 1_700_000_000_000 + 60_000 * (i // 4),
            "proc": None,
            "value": float(i % 7),
        }
        producer.produce(
            TOPIC,
            serializer(record, SerializationContext(TOPIC, MessageField.VALUE)),
            key=record["device"],
        )
    assert producer.flush(30) == 0


def lapwing(stack: Stack, *words: str, service: str = "topics") -> str:
    """Run a command in a container of a service, with its folders; it must end well."""
    assert stack.environment["LAPWING_IMAGE"] == IMAGE
    return stack("run", "--rm", "-T", "--no-deps", service, "lapwing", *words)


def committed(stack: Stack) -> int:
    asked = ConsumerGroupTopicPartitions(GROUP)
    found = (
        stack.admin.list_consumer_group_offsets([asked], request_timeout=10)[GROUP]
        .result()
        .topic_partitions
    )
    return sum(one.offset for one in found or () if one.topic == TOPIC and one.offset > 0)
