#!/usr/bin/env bash
# Flink declares a field as timestamp-micros and writes milliseconds into it.
#
# Software: Apache Flink 2.3.0 (flink-avro; format `avro`), fastavro 1.13.1.
#
# Expected: with 'avro.timestamp_mapping.legacy' = 'false' (needed for TIMESTAMP_LTZ, which the
#   default mapping refuses) a TIMESTAMP_LTZ(6) column becomes a long with logicalType
#   timestamp-micros, and the long counts microseconds since 1970. Flink's schema, Avro's
#   specification and a job that reads back what it wrote all say so.
# Instead: only the schema does. The value is in milliseconds for every precision, so any other
#   reader puts the event into January 1970. Flink does not notice: its reader takes the long of a
#   timestamp-micros for milliseconds as well, and so reads anybody else's records as of the year
#   55840. The digits below the millisecond are lost.
#
# Seen: TIMESTAMP_LTZ of 2023-11-14 22:13:20.123456 in UTC
#   precision 3: {"type":"long","logicalType":"timestamp-millis"}, value 1700000000123
#     fastavro reads 2023-11-14T22:13:20.123000+00:00, Flink 2023-11-14T22:13:20.123
#   precision 6: {"type":"long","logicalType":"timestamp-micros"}, value 1700000000123
#     fastavro reads 1970-01-20T16:13:20.000123+00:00, Flink 2023-11-14T22:13:20.123
#   1700000000123456 in a timestamp-micros, as others write it: Flink reads
#     +55840-11-08T22:15:23.456
#
# Source: apache/flink pull request 28071 (FLINK-39036, not merged there);
#   org.apache.flink.formats.avro.RowDataToAvroConverters and AvroToRowDataConverters.

source "$(dirname "$0")/lib/setup.sh"

python_packages fastavro==1.13.1
maven_files flink org.apache.flink:flink-avro:2.3.0 org.apache.flink:flink-core:2.3.0 \
    org.apache.flink:flink-table-common:2.3.0 org.slf4j:slf4j-simple:1.7.36

cat >"$WORK/Flink.java" <<'JAVA'
import java.time.LocalDateTime;
import java.util.*;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.flink.formats.avro.*;
import org.apache.flink.formats.avro.typeutils.AvroSchemaConverter;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.*;
import org.apache.flink.table.types.logical.RowType;

/** What the SQL formats do with one column, by the converters that they use. */
public class Flink {
    static final boolean LEGACY = false;

    public static void main(String[] arguments) {
        LocalDateTime time = LocalDateTime.parse("2023-11-14T22:13:20.123456");
        for (int precision : new int[] {3, 6}) {
            RowType type = (RowType) DataTypes.ROW(
                DataTypes.FIELD("at", DataTypes.TIMESTAMP_LTZ(precision).notNull()))
                .notNull().getLogicalType();
            Schema schema = AvroSchemaConverter.convertToSchema(type, LEGACY);
            RowData row = GenericRowData.of(TimestampData.fromLocalDateTime(time));
            Object record = RowDataToAvroConverters.createConverter(type, LEGACY)
                .convert(schema, row);
            long written = (Long) ((GenericRecord) record).get("at");
            System.out.printf("%d\t%s\t%d\t%s\t%s%n", precision, schema.getField("at").schema(),
                written, read(type, schema, written), read(type, schema, 1700000000123456L));
        }
    }

    static LocalDateTime read(RowType type, Schema schema, long value) {
        GenericRecord record = new GenericData.Record(schema);
        record.put("at", value);
        Object row = AvroToRowDataConverters.createRowConverter(type, LEGACY).convert(record);
        return ((RowData) row).getTimestamp(0, 6).toLocalDateTime();
    }
}
JAVA

run_java flink "$WORK/Flink.java" >"$WORK/flink.tsv"
py - "$WORK/flink.tsv" <<'PY'
import io, json, sys
import fastavro

seen = {}
for line in open(sys.argv[1]):
    precision, schema, value, flink, foreign = line.rstrip("\n").split("\t")
    raw = io.BytesIO()
    fastavro.schemaless_writer(raw, "long", int(value))
    raw.seek(0)
    read = fastavro.schemaless_reader(raw, json.loads(schema)).isoformat()
    print(f"precision {precision}: {schema}, value {value}\n  fastavro reads {read}, Flink {flink}")
    seen[precision] = (json.loads(schema)["logicalType"], value, read[:10], flink[:10])
print("1700000000123456 in a timestamp-micros, as others write it: Flink reads", foreign)
assert seen["3"] == ("timestamp-millis", "1700000000123", "2023-11-14", "2023-11-14")
assert seen["6"] == ("timestamp-micros", "1700000000123", "1970-01-20", "2023-11-14"), "changed"
assert foreign.startswith("+55840"), "changed: Flink reads microseconds"
PY
