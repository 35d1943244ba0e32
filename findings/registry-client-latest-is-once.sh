#!/usr/bin/env bash
# The registry client fetches the latest version once, and never again.
#
# Software: confluent-kafka 2.16.1 (its schema registry client), Apicurio Registry 2.6.13.Final.
#
# Expected: `get_latest_version` asks the registry, since "latest" is what can change; schemas by
#   id never do, so those are cached. A producer with `use.latest.version` writes by the new
#   version within some time after it was registered, without a restart.
# Instead: the answer is kept for the life of the client unless `cache.latest.ttl.sec` is set (it
#   is None by default, and None means for ever). The producer goes on with the version that it
#   met first, and silently drops the fields that came with the new one: fastavro ignores what the
#   schema does not name. `get_versions` of the same client shows both versions meanwhile.
#
# Seen:
#   versions [1, 2]; latest by the client that asked before: 1, by a new client: 2
#   running producer writes id 1, read back: {'celsius': 20.5}
#   with cache.latest.ttl.sec=1 it writes id 2, read back: {'celsius': 20.5, 'humidity': 40.0}
#
# Source: confluent_kafka/schema_registry/_sync/schema_registry_client.py (`cache_latest_ttl_sec`,
#   the class's table of settings says "TTL", not what there is without one).

source "$(dirname "$0")/lib/setup.sh"

python_packages 'confluent-kafka[avro,schemaregistry]==2.16.1'
start_apicurio
py - "$REGISTRY_URL/apis/ccompat/v7" <<'PY'
import json, sys, time
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

url, subject = sys.argv[1], "readings-value"
context = SerializationContext("readings", MessageField.VALUE)
reading = {"celsius": 20.5, "humidity": 40.0}


def schema(*names):
    fields = [{"name": name, "type": "double", "default": 0} for name in names]
    return Schema(json.dumps({"type": "record", "name": "Reading", "fields": fields}), "AVRO")


def producer(**settings):
    client = SchemaRegistryClient({"url": url, **settings})
    conf = {"auto.register.schemas": False, "use.latest.version": True}
    write = AvroSerializer(client, conf=conf)
    return client, lambda: write(reading, context)


def shown(record):
    values = AvroDeserializer(SchemaRegistryClient({"url": url}))(record, context)
    return f"id {int.from_bytes(record[1:5], 'big')}, read back: {values}"


deploy = SchemaRegistryClient({"url": url})
first = deploy.register_schema(subject, schema("celsius"))
client, write = producer()
_, write_with_ttl = producer(**{"cache.latest.ttl.sec": 1})
for before in (write(), write_with_ttl()):
    assert int.from_bytes(before[1:5], "big") == first
deploy.register_schema(subject, schema("celsius", "humidity"))
time.sleep(2)

old = client.get_latest_version(subject).version
new = SchemaRegistryClient({"url": url}).get_latest_version(subject).version
print(f"versions {client.get_versions(subject)}; latest by the client that asked before: {old},",
      f"by a new client: {new}")
print("running producer writes", shown(write()))
print("with cache.latest.ttl.sec=1 it writes", shown(write_with_ttl()))
assert (old, new) == (1, 2), "changed: the latest version is asked for again"
assert write()[:5] == before[:5] != write_with_ttl()[:5], "changed: the producer follows"
PY
