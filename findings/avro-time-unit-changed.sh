#!/usr/bin/env bash
# A registry lets a timestamp's unit change, and two readers then disagree about the same bytes.
#
# Software: Apache Avro (Java) 1.12.0, fastavro 1.13.1, Apicurio Registry 2.6.13.Final.
#
# Expected: a subject at level BACKWARD refuses timestamp-millis -> timestamp-micros and decimal
#   scale 2 -> 4, since a reader of the new schema would misread what is in the topic. For
#   decimals the specification says so: schema resolution wants equal scale and precision. Or
#   else, a reader that is given both schemas converts, as it does for int -> double.
# Instead: the registry accepts both (it compares `long` with `long`, `bytes` with `bytes`). The
#   Java library then applies the *reader's* logical type to the writer's number, so that 2023
#   becomes 1970 and 123.45 becomes 1.2345; fastavro applies the *writer's* and is right. Neither
#   raises an error.
#
# Seen:
#   registry, level BACKWARD: millis -> micros accepted, scale 2 -> 4 accepted
#   java      {"at": "1970-01-20T16:13:20Z", "price": 1.2345}
#   fastavro  {'at': '2023-11-14T22:13:20+00:00', 'price': '123.45'}
#
# Source: AVRO-2078 (decimals; the specification says nothing about timestamps);
#   org.apache.avro.SchemaCompatibility never asks for a logical type, GenericDatumReader.read
#   takes it from the reader's schema; fastavro/_read_py.py, read_data, from the writer's.

source "$(dirname "$0")/lib/setup.sh"

python_packages fastavro==1.13.1
maven_files avro org.apache.avro:avro:1.12.0 org.slf4j:slf4j-simple:1.7.36
start_apicurio

cat >"$WORK/old.avsc" <<'JSON'
{"type": "record", "name": "Trade", "fields": [
  {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}
]}
JSON
sed -e 's/timestamp-millis/timestamp-micros/' -e 's/"scale": 2/"scale": 4/' \
    "$WORK/old.avsc" >"$WORK/new.avsc"

cat >"$WORK/Read.java" <<'JAVA'
import java.nio.file.*;
import org.apache.avro.*;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.*;
import org.apache.avro.io.*;

public class Read {
    public static void main(String[] files) throws Exception {
        GenericData data = new GenericData();
        data.addLogicalTypeConversion(new TimeConversions.TimestampMillisConversion());
        data.addLogicalTypeConversion(new TimeConversions.TimestampMicrosConversion());
        data.addLogicalTypeConversion(new Conversions.DecimalConversion());
        Schema writer = new Schema.Parser().parse(Path.of(files[0]).toFile());
        Schema reader = new Schema.Parser().parse(Path.of(files[1]).toFile());
        byte[] record = Files.readAllBytes(Path.of(files[2]));
        Decoder decoder = DecoderFactory.get().binaryDecoder(record, null);
        Object read = new GenericDatumReader<>(writer, reader, data).read(null, decoder);
        System.out.println(read);
    }
}
JAVA

py - "$WORK" "$REGISTRY_URL/apis/ccompat/v7" <<'PY'
import datetime, decimal, io, json, pathlib, sys, urllib.request
import fastavro

work, registry = pathlib.Path(sys.argv[1]), sys.argv[2]
old, new = (json.loads((work / name).read_text()) for name in ("old.avsc", "new.avsc"))


def call(method, path, body):
    kind = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    data = json.dumps(body).encode()
    request = urllib.request.Request(registry + path, data, kind, method=method)
    with urllib.request.urlopen(request) as answer:  # raises where the schema is refused
        return json.load(answer)


call("POST", "/subjects/trades-value/versions", {"schema": json.dumps(old)})
level = call("PUT", "/config/trades-value", {"compatibility": "BACKWARD"})
call("POST", "/subjects/trades-value/versions", {"schema": json.dumps(new)})
level = level["compatibility"]
print(f"registry, level {level}: millis -> micros accepted, scale 2 -> 4 accepted")
refused = json.loads(json.dumps(new).replace('"long"', '"string"'))
try:
    call("POST", "/subjects/trades-value/versions", {"schema": json.dumps(refused)})
    sys.exit("this registry refuses nothing, so it proves nothing")
except urllib.error.HTTPError as error:
    assert error.code == 409, error

written = {"at": datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)}
written["price"] = decimal.Decimal("123.45")
record = io.BytesIO()
fastavro.schemaless_writer(record, old, written)
(work / "record").write_bytes(record.getvalue())
record.seek(0)
read = fastavro.schemaless_reader(record, old, new)
print("fastavro ", {"at": read["at"].isoformat(), "price": str(read["price"])})
assert read == written, "changed: fastavro no longer gives what was written"
PY

java_read=$(run_java avro "$WORK/Read.java" "$WORK/old.avsc" "$WORK/new.avsc" "$WORK/record")
echo "java      $java_read"
[[ $java_read == '{"at": "1970-01-20T16:13:20Z", "price": 1.2345}' ]] ||
    { echo "changed: Java no longer reads by the reader's unit" >&2; exit 1; }
