#!/usr/bin/env bash
# Apicurio's serializer and its Confluent-compatible API number schemas differently; a record can be
# read with the schema of another topic.
#
# Software: Apicurio Registry and its Avro serializer 2.6.13.Final, confluent-kafka 2.16.1.
#
# Expected: a producer whose serializer writes Confluent's frame (`headers.enabled=false`,
#   `Legacy4ByteIdHandler`: byte 0, then a 4-byte id) can be read by any client of the same
#   registry's /apis/ccompat/v7. It does work: on a fresh registry, with the first topic.
# Instead: the serializer writes the *global id* (one per version of an artifact), ccompat
#   resolves the *content id* (one per distinct text). Both count from 1 and agree until the
#   producer is restarted: registering a schema that is already there (`auto-register`) uses up a
#   content id and no global id. From then on the id of one schema is the id of another. The
#   reader gets no error where the two schemas have the same types: here pressure is read as
#   humidity. With `apicurio.registry.use-id=contentId` both sides mean the same.
#
# Seen (the second line after a restart of the producer; without the end of the error):
#   temperature                id 1: {'celsius': 20.5}
#   temperature                id 1: {'celsius': 20.5}
#   humidity                   id 2: No content with id/hash 'contentId-2' was found.
#   pressure                   id 3: {'percent': 20.5}
#   pressure, use-id=contentId id 4: {'hectopascal': 20.5}
#
# Source: Apicurio/apicurio-registry issues 796 and 2151 (two kinds of ids, 404 from ccompat);
#   io.apicurio.registry.serde.SerdeConfig (USE_ID, default globalId). The used-up content ids are
#   what this script shows; no document mentions them.

source "$(dirname "$0")/lib/setup.sh"

python_packages 'confluent-kafka[avro,schemaregistry]==2.16.1'
maven_files serde "io.apicurio:apicurio-registry-serdes-avro-serde:$APICURIO_VERSION" \
    org.slf4j:slf4j-simple:2.0.13
start_apicurio

cat >"$WORK/Write.java" <<'JAVA'
import io.apicurio.registry.serde.Legacy4ByteIdHandler;
import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import java.util.*;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;

/** Write one record per TOPIC:FIELD:USE_ID, each by a producer that has just been started. */
public class Write {
    public static void main(String[] arguments) {
        for (String producer : List.of(arguments).subList(1, arguments.length)) {
            String[] parts = producer.split(":");
            byte[] record = write(arguments[0], parts[0], parts[1], parts[2]);
            System.out.println(producer + ":" + HexFormat.of().formatHex(record));
        }
    }

    static byte[] write(String registry, String topic, String field, String useId) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("apicurio.registry.url", registry);
        settings.put("apicurio.registry.auto-register", true);
        settings.put("apicurio.registry.headers.enabled", false);
        settings.put("apicurio.registry.id-handler", Legacy4ByteIdHandler.class.getName());
        settings.put("apicurio.registry.use-id", useId);
        Schema schema = new Schema.Parser().parse("{'type': 'record', 'name': 'Reading', 'fields': "
            .concat("[{'name': '" + field + "', 'type': 'double'}]}").replace('\'', '"'));
        GenericRecord record = new GenericData.Record(schema);
        record.put(field, 20.5);
        try (AvroKafkaSerializer<GenericRecord> serializer = new AvroKafkaSerializer<>()) {
            serializer.configure(settings, false);
            return serializer.serialize(topic, record);
        }
    }
}
JAVA

# The second producer of the temperature topic is the first one, restarted.
run_java serde "$WORK/Write.java" "$REGISTRY_URL/apis/registry/v2" temperature:celsius:globalId \
    temperature:celsius:globalId humidity:percent:globalId pressure:hectopascal:globalId \
    pressure:hectopascal:contentId >"$WORK/records"

py - "$REGISTRY_URL/apis/ccompat/v7" "$WORK/records" <<'PY'
import sys
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

read = AvroDeserializer(SchemaRegistryClient({"url": sys.argv[1]}))
seen = []
for line in open(sys.argv[2]):
    topic, _, use_id, record = line.strip().split(":")
    record = bytes.fromhex(record)
    try:
        values = str(read(record, SerializationContext(topic, MessageField.VALUE)))
    except Exception as error:
        values = str(error).partition(" (HTTP")[0]
    name = topic if use_id == "globalId" else f"{topic}, use-id={use_id}"
    print(f"{name:26} id {int.from_bytes(record[1:5], 'big')}: {values}")
    seen.append(values)
assert seen[0] == seen[1] == "{'celsius': 20.5}", "changed"
assert seen[2] == "No content with id/hash 'contentId-2' was found.", "changed: the ids agree"
assert seen[3] == "{'percent': 20.5}", "changed: the ids agree"
assert seen[4] == "{'hectopascal': 20.5}", "changed"
PY
