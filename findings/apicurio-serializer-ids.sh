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
# Seen (the error without its end):
#   temperature  id 1: {'celsius': 20.5}
#   humidity     id 2: No content with id/hash 'contentId-2' was found.
#   pressure     id 3: {'percent': 20.5}
#   pressure, use-id=contentId  id 4: {'hectopascal': 20.5}
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

/** Write one record as a producer of a topic that has just been started; print it in hex. */
public class Write {
    public static void main(String[] arguments) {
        String topic = arguments[1], field = arguments[2];
        Map<String, Object> settings = new HashMap<>();
        settings.put("apicurio.registry.url", arguments[0]);
        settings.put("apicurio.registry.auto-register", true);
        settings.put("apicurio.registry.headers.enabled", false);
        settings.put("apicurio.registry.id-handler", Legacy4ByteIdHandler.class.getName());
        settings.put("apicurio.registry.use-id", arguments[3]);
        AvroKafkaSerializer<GenericRecord> serializer = new AvroKafkaSerializer<>();
        serializer.configure(settings, false);
        Schema schema = new Schema.Parser().parse("{'type': 'record', 'name': 'Reading', 'fields': "
            .concat("[{'name': '" + field + "', 'type': 'double'}]}").replace('\'', '"'));
        GenericRecord record = new GenericData.Record(schema);
        record.put(field, 20.5);
        System.out.println(HexFormat.of().formatHex(serializer.serialize(topic, record)));
    }
}
JAVA

cat >"$WORK/read.py" <<'PY'
import sys
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

registry, topic, record = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
read = AvroDeserializer(SchemaRegistryClient({"url": registry}))
try:
    print(read(record, SerializationContext(topic, MessageField.VALUE)))
except Exception as error:
    print(error)
PY

# send TOPIC FIELD [USE_ID]: start a producer, send one record, read it as a Confluent client.
send() {
    local record
    record=$(run_java serde "$WORK/Write.java" "$REGISTRY_URL/apis/registry/v2" \
        "$1" "$2" "${3:-globalId}")
    read_back=$(py "$WORK/read.py" "$REGISTRY_URL/apis/ccompat/v7" "$1" "$record")
    printf '%-12s id %d: %s\n' "$1${3:+, use-id=$3 }" "0x${record:2:8}" "$read_back"
}

expect() {
    [[ $read_back == $1 ]] || { echo "changed: expected $1" >&2; exit 1; }
}

send temperature celsius
expect "{'celsius': 20.5}"
send temperature celsius >/dev/null # the producer is restarted
send humidity percent
expect "No content with id/hash 'contentId-2' was found."*
send pressure hectopascal
expect "{'percent': 20.5}"
send pressure hectopascal contentId
expect "{'hectopascal': 20.5}"
