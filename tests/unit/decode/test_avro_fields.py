"""Which field is what: in schemas that real software writes, and in hostile and awkward ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.decode.avro.plan import compile_plan
from shared.decode.avro.rows import decode
from shared.decode.field_choice import SHOWN_NAMES, UnsupportedSchema
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.records import T0, batch_of, encode

WRITTEN = Path(__file__).parents[2] / "writer_schemas"
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
BY_NAME = "a time by its name: input.include takes it"
NO_DECIMAL = (
    "a decimal without a scale of 0 to 300 beside its logicalType is not read: write a double"
)
NESTED = "a nested record: input.include takes its numbers by dotted names"


def text(**fields: Any) -> str:
    named = [{"name": name, "type": avro} for name, avro in fields.items()]
    return json.dumps({"type": "record", "name": "R", "fields": named})


def read(
    schema: str, **settings: Any
) -> tuple[tuple[str, ...], str, str, tuple[str, ...], dict[str, str]]:
    """Return entity, time, what says its unit, metrics, left out."""
    fields = compile_plan(schema, InputSettings(**settings)).fields
    return fields.entity, fields.time, fields.time_by, fields.metrics, dict(fields.left_out)


# --- schemas that real software writes ------------------------------------------------------------

REAL: list[tuple[str, dict[str, Any], Any]] = [
    ("connect_jdbc_style", {}, (
        ("host",), "recorded_at", "timestamp-millis", ("cpu", "processes", "cost"),
        {"since": "a date", "online": "true or false"})),
    ("connect_optional_struct", {}, (
        ("host",), "at", "timestamp-millis", ("cpu",), {"tags": "a map", "load": NESTED})),
    ("connect_avro", {}, (
        ("host",), "recorded_at", "timestamp-millis", ("cpu", "memory", "processes", "cost"),
        {"since": "a date", "online": "true or false", "tags": "a map", "load": NESTED})),
    ("connect_avro_optional", {}, (("host",), "at", "timestamp-millis", ("cpu",), {})),
    ("debezium_avro_envelope", {},
        ("unwrap it where it is made, by the transform"
         " io.debezium.transforms.ExtractNewRecordState")),
    ("debezium_avro_unwrapped", {}, (
        ("host",), "measured_at", "io.debezium.time.MicroTimestamp", ("cpu", "price"),
        {"seen_at": "a time as text", "__deleted": "text", "__op": "text", "__ts_ms": BY_NAME})),
    ("connect_insert_field", {},
        "timestamp-millis) and timestamp (long): which is the event time? Set input.time_field"),
    ("connect_insert_field", {"time_unit": "s"}, (
        ("host",), "timestamp", "long, s by input.time_unit", ("cpu",),
        {"ingested_at": "a time (timestamp-millis)"})),
    ("connect_insert_field", {"time_field": "ingested_at"}, (
        ("host",), "ingested_at", "timestamp-millis", ("cpu",), {"timestamp": BY_NAME})),
    ("connect_timestamp_converter", {}, (("host",), "timestamp", "timestamp-millis", ("cpu",), {})),
    ("debezium_envelope", {},
        ("unwrap it where it is made, by the transform"
         " io.debezium.transforms.ExtractNewRecordState")),
    ("debezium_unwrapped", {}, (
        ("host",), "measured_at", "io.debezium.time.MicroTimestamp",
        ("id", "temperature", "price", "took"),
        {"seen_at": "a time as text", "day": "a date",
         "__deleted": "text", "__op": "text",
         "__ts_ms": BY_NAME, "__source_ts_ms": BY_NAME})),
    ("debezium_unwrapped", {"time_field": "seen_at"}, "input.time_unit=iso"),
    ("debezium_unwrapped", {"time_field": "seen_at", "time_unit": "iso", "exclude": "id,took"}, (
        ("host",), "seen_at", "string, iso by input.time_unit", ("temperature", "price"),
        {"id": "input.exclude names it", "measured_at": "a time (io.debezium.time.MicroTimestamp)",
            "day": "a date",
         "took": "input.exclude names it", "__deleted": "text", "__op": "text",
         "__ts_ms": BY_NAME,
         "__source_ts_ms": BY_NAME})),
    ("debezium_adaptive", {}, (
        ("host",), "ts", "io.debezium.time.Timestamp", ("load",),
        {"fine": "a time (io.debezium.time.NanoTimestamp)", "clock": "a time of day"})),
    ("flink_sql", {}, (
        ("host",), "ts", "timestamp-millis", ("cpu", "requests", "cost"),
        {"day": "a date", "clock": "a time of day", "tags": "a map",
            "load": NESTED, "parts": "an array"})),
    ("flink_sql_ltz", {}, (
        ("host",), "event_time", "timestamp-millis", ("cpu",),
        {"local_time": "a time (local-timestamp-micros)"})),
    ("flink_sql_local", {}, (("host",), "ts", "local-timestamp-millis", ("cpu",), {})),
    ("flink_sql_confluent", {}, (
        ("host",), "measured", "timestamp-millis", ("cpu", "memory", "requests", "cost"),
        {"online": "true or false", "since": "a date", "clock": "a time of day",
         "tags": "a map", "load": NESTED, "parts": "an array"})),
    ("flink_sql_confluent", {"include": "cpu,load", "entity_fields": "host,tags.zone"}, (
        ("host", "tags.zone"), "measured", "timestamp-millis", ("cpu", "load.one", "load.five"),
        {"memory": "input.include does not name it", "requests": "input.include does not name it",
         "cost": "input.include does not name it", "online": "true or false", "since": "a date",
         "clock": "a time of day", "parts": "an array"})),
    ("flink_sql_numbers", {}, "ts may be the event time: set input.time_unit"),
    ("flink_sql_numbers", {"time_unit": "ms"}, (
        ("host",), "ts", "long, ms by input.time_unit", ("cpu", "n", "s", "t", "big"),
        {"bin": "bytes"})),
    ("flink_upsert", {}, (("host",), "measured", "timestamp-millis", ("cpu",), {})),
    ("flink_debezium", {},
        "'value.format'='avro-confluent' in Flink SQL, instead of debezium-avro-confluent"),
    ("flink_sql_bigint", {"entity_fields": "device"},
     "ts may be the event time: set input.time_unit to its unit (s, ms, us, ns)"),
    ("flink_sql_bigint", {"entity_fields": "device,proc", "time_unit": "ms"}, (
        ("device", "proc"), "ts", "long, ms by input.time_unit", ("value",), {})),
    ("ksqldb_style_bigint", {}, "TS may be the event time: set input.time_unit"),
    ("ksqldb_style_bigint", {"time_unit": "ms"}, (
        ("HOST",), "TS", "long, ms by input.time_unit", ("CPU", "REQUESTS"), {"TAGS": "an array"})),
    ("ksqldb_style_timestamp", {}, (
        ("HOST",), "TIMESTAMP", "timestamp-millis", ("AVG_CPU",),
        {"WINDOWSTART": BY_NAME, "WINDOWEND": BY_NAME})),
    ("python_dataclass", {}, (
        ("host",), "measured", "timestamp-millis", ("cpu", "memory", "price"),
        {"day": "a date"})),
    ("telegraf_style", {"entity_fields": "tag"},
        "timestamp may be the event time: set input.time_unit"),
    ("telegraf_style", {"entity_fields": "tag", "time_unit": "s"}, (
        ("tag",), "timestamp", "long, s by input.time_unit", ("field",), {})),
    ("logical_type_beside", {}, (
        ("host",), "timestamp", "timestamp-millis beside its type", ("cpu",),
        {"ingested_at": "a time (timestamp-millis)"})),
]  # fmt: skip
"""File, settings -> entity, time, what says its unit, metrics, left out; or what the refusal says.
"""


@pytest.mark.parametrize(("name", "settings", "expected"), REAL)
def test_schemas_of_others(name: str, settings: dict[str, Any], expected: Any) -> None:
    schema = (WRITTEN / f"{name}.avsc").read_text("utf-8")
    if isinstance(expected, str):
        with pytest.raises(UnsupportedSchema) as caught:
            read(schema, **settings)
        assert expected in str(caught.value)
    else:
        assert read(schema, **settings) == expected


def test_every_schema_of_others_is_in_the_table() -> None:
    assert {path.stem for path in WRITTEN.glob("*.avsc")} == {name for name, *_ in REAL}


# --- the time -------------------------------------------------------------------------------------

TIMES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"x": MILLIS}, {}, "x"),
    ({"x": MICROS, "y": LOCAL}, {}, "x"),
    ({"x": LOCAL}, {}, "x"),
    ({"x": MILLIS, "timestamp": LOCAL}, {}, "timestamp"),
    ({"ts": MILLIS, "timestamp": LOCAL}, {}, "ts"),
    ({"TIMESTAMP": MILLIS, "x": MILLIS}, {}, "TIMESTAMP"),
    ({"TS": MILLIS, "time": MILLIS}, {}, "time"),
    ({"EVENT_TIME": MILLIS, "TS": MILLIS}, {}, "EVENT_TIME"),
    ({"timestamp": MILLIS, "TIMESTAMP": MILLIS}, {}, "timestamp"),
    ({"ts": MILLIS, "timestamp": "long"}, {}, "ts"),
    ({"x": MILLIS, "created_at": "long"}, {}, "x"),
    ({"x": MILLIS, "timestamp": "long"}, {"time_field": "x"}, "x"),
    ({"x": MILLIS, "y": MILLIS}, {"time_field": "Y"}, "y"),
    ({"x": "long"}, {"time_field": "x", "time_unit": "ns"}, "x"),
    ({"x": "double"}, {"time_field": "x", "time_unit": "s"}, "x"),
    ({"x": "int"}, {"time_field": "x", "time_unit": "s"}, "x"),
    ({"x": "string"}, {"time_field": "x", "time_unit": "iso"}, "x"),
    ({"created_at": "long"}, {"time_unit": "s"}, "created_at"),
    ({"ts": "double", "x": "long"}, {"time_unit": "s"}, "ts"),
    ({"ts": "long", "timestamp": "long"}, {"time_unit": "ms"}, "timestamp"),
    ({"when": "string", "ts": "string"}, {"time_unit": "iso"}, "ts"),
    ({"updated_at": "string", "note": "string"}, {"time_unit": "iso"}, "updated_at"),
    ({"x": MILLIS, "timestamp": {"type": "int", "logicalType": "date"}}, {}, "x"),
    ({"x": MILLIS, "timestamp": ["null", "long", "string"]}, {}, "x"),
    ({"x": MILLIS, "time": {"type": "map", "values": "long"}}, {}, "x"),
    ({"x": {"type": "long", "logicalType": "timestamp-nanos"}}, {}, "x"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "settings", "time"), TIMES)
@pytest.mark.parametrize("nullable", [False, True])
def test_the_time(
    fields: dict[str, Any], settings: dict[str, Any], time: str, nullable: bool
) -> None:
    if nullable:
        fields = {
            name: avro if isinstance(avro, list) else ["null", avro]
            for name, avro in fields.items()
        }
    found = read(text(host=["null", "string"], **fields, load="double"), **settings)
    assert (found[1], found[3][-1]) == (time, "load")
    assert set(found[3]) <= {"load", "x"}, "no time has become a metric"


UNCLEAR: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"x": MILLIS, "timestamp": "long"}, {},
        ("x (timestamp-millis)", "timestamp (long)", "input.time_field", "time_unit")),
    ({"x": MILLIS, "TS": "string"}, {}, ("x (", "TS (string)", "input.time_field", "iso")),
    ({"x": MILLIS, "y": MICROS}, {},
        ("x (timestamp-millis)", "y (timestamp-micros)", "Set input.time_field to its name")),
    ({"x": LOCAL, "y": LOCAL}, {}, ("x (", "y (", "input.time_field")),
    ({"Time": MILLIS, "TIME": MILLIS}, {}, ("Time (", "TIME (", "input.time_field")),
    ({"ts": "long"}, {}, ("no timestamp field", "ts may be", "input.time_unit", "s, ms, us, ns")),
    ({"ts": "long", "created_at": "long"}, {},
        ("ts and created_at may be", "input.time_unit", "input.time_field")),
    ({"ts": "string"}, {}, ("ts may be", "input.time_unit=iso")),
    ({"ts": "string"}, {"time_unit": "ms"}, ("ts may be", "input.time_unit=iso")),
    ({"ts": "long"}, {"time_unit": "iso"}, ("ts may be", "s, ms, us, ns")),
    ({"created_at": "long", "updated_at": "long"}, {"time_unit": "s"},
        ("created_at (long)", "updated_at (", "time_field")),
    ({"x": "long"}, {}, ("input.time_field and input.time_unit make it one of x, load",)),
    ({"x": MILLIS}, {"time_field": "nope"}, ("no field 'nope'", "input.time_field", "x, load")),
    ({"x": MILLIS}, {"time_field": "host"},
        ("no field 'host' beside the entity", "input.time_field")),
    ({"ts": MILLIS, "TS": MILLIS}, {"time_field": "Ts"}, ("ts and TS", "'Ts' of input.time_field")),
    ({"x": "float"}, {"time_field": "x", "time_unit": "s"},
        ("R.x is float", "write a long or a double")),
    ({"x": "long"}, {"time_field": "x"},
        ("R.x is long", "input.time_unit is one of s, ms, us, ns, and is not set")),
    ({"x": "long"}, {"time_field": "x", "time_unit": "iso"}, ("R.x is long", "and is iso")),
    ({"x": "string"}, {"time_field": "x"},
        ("R.x is string", "input.time_unit=iso, which is not set")),
    ({"x": "string"}, {"time_field": "x", "time_unit": "s"}, ("R.x is string", "which is s")),
    ({"x": {"type": "int", "logicalType": "date"}}, {"time_field": "x"},
        ("R.x is int (date)", "input.time_field")),
    ({"x": "boolean"}, {"time_field": "x"}, ("R.x is boolean", "input.time_field")),
    ({"x": ["int", "long"]}, {"time_field": "x", "time_unit": "s"},
        ("R.x is [int, long]", "input.time_field")),
    ({"x": {"type": "array", "items": MILLIS}}, {"time_field": "x"},
        ("R.x is array", "input.time_field")),
    ({"x": "null"}, {"time_field": "x"}, ("R.x is null", "input.time_field")),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "settings", "says"), UNCLEAR)
def test_an_unclear_time_is_a_question_that_a_setting_answers(
    fields: dict[str, Any], settings: dict[str, Any], says: tuple[str, ...]
) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        read(text(host="string", **fields, load="double"), **settings)
    for part in says:
        assert part in str(caught.value)


@pytest.mark.parametrize("setting", ["exclude", "include"])
def test_a_number_whose_use_is_decided_is_no_rival(setting: str) -> None:
    """A plain field that settings exclude or count as a metric is not the time."""
    both = text(host="string", ingested_at=MILLIS, TIMESTAMP="long", load="double")
    given = {setting: "timestamp,load"} if setting == "include" else {setting: "timestamp"}
    expected = ("TIMESTAMP", "load") if setting == "include" else ("load",)
    assert read(both, **given)[1:4] == ("ingested_at", "timestamp-millis", expected)


def test_the_answer_to_each_question_works() -> None:
    both = text(host="string", ingested_at=MILLIS, timestamp="long", load="double")
    assert read(both, time_field="timestamp", time_unit="ms")[1:4] == (
        "timestamp",
        "long, ms by input.time_unit",
        ("load",),
    )
    assert read(both, time_field="ingested_at")[1:4] == (
        "ingested_at",
        "timestamp-millis",
        ("load",),
    )


# --- the entity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "settings", "says"),
    [
        (
            {"instance": "string"},
            {},
            ("no field 'host'", "input.entity_fields", "text that may name the entity: instance"),
        ),
        ({"node": "long"}, {}, ("no field 'host'", "none of them is text")),
        (
            {"Host": "string", "HOST": "string"},
            {},
            ("Host and HOST", "'host' of input.entity_fields"),
        ),
        (
            {"host": "double"},
            {},
            ("R.host is double", "input.entity_fields", "string, int, long or enum"),
        ),
        ({"host": "bytes"}, {}, ("R.host is bytes", "input.entity_fields")),
        ({"host": "null"}, {}, ("R.host is null", "input.entity_fields")),
        ({"host": ["null", "string", "double"]}, {}, ("R.host is [null, string, double]",)),
        ({"host": {"type": "map", "values": "string"}}, {}, ("R.host is map of string",)),
        ({"HOST": "string"}, {"entity_fields": "host,HOST"}, ("'HOST' twice",)),
        ({"host": "string"}, {"entity_fields": "host,region"}, ("no field 'region'", "host")),
    ],
)
def test_an_entity_that_is_not_there_or_does_not_fit(
    fields: dict[str, Any], settings: dict[str, Any], says: tuple[str, ...]
) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        read(text(**fields, ts=MILLIS, load="double"), **settings)
    for part in says:
        assert part in str(caught.value)


def test_entities_of_any_kind_and_case() -> None:
    region = {"type": "enum", "name": "Region", "symbols": ["eu", "us"]}
    schema = text(
        REGION=["null", region],
        Host=["string", "null"],
        rack=["null", "int"],
        ts=MILLIS,
        load="double",
    )
    settings = InputSettings(entity_fields=("host", "region", "rack"))
    assert read(schema, entity_fields="host,region,rack")[0] == ("Host", "REGION", "rack")
    record = {"REGION": "us", "Host": "a", "rack": 7, "ts": T0, "load": 1.0}
    entities = Directory()
    values = [encode(schema, 1, record), encode(schema, 1, record | {"rack": None})]
    columns = decode(batch_of(values), {1: compile_plan(schema, settings)}, settings, entities, [])
    assert (entities.names(), columns.reasons.tolist()) == (["a/us/7"], [Reason.ENTITY_INVALID])


def test_a_name_that_is_written_exactly_so_wins() -> None:
    assert read(text(HOST="string", host="string", ts=MILLIS, load="double"))[0] == ("host",)


def test_a_record_of_hundreds_of_fields_is_named_by_the_first() -> None:
    schema = text(**{f"f{i}": "double" for i in range(500)}, ts=MILLIS)
    with pytest.raises(
        UnsupportedSchema,
        match=rf"f{SHOWN_NAMES - 1} and {501 - SHOWN_NAMES} more; none of them is text",
    ) as caught:
        read(schema)
    assert len(str(caught.value)) < 400


# --- metrics --------------------------------------------------------------------------------------


def test_what_is_left_out_and_why() -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["A"]}
    fields = {
        "note": "string", "ok": "boolean", "raw": "bytes",
        "hash": {"type": "fixed", "name": "F", "size": 3}, "kind": enum,
        "cost": DECIMAL | {"scale": -1},
        "fix": {"type": "fixed", "name": "D", "size": 9, "logicalType": "decimal",
                "scale": 301},
        "list": {"type": "array", "items": "double"}, "tags": {"type": "map", "values": "string"},
        "none": "null",
        "in": {"type": "record", "name": "In", "fields": [{"name": "x", "type": "double"}]},
        "mixed": ["double", "string"], "day": {"type": "int", "logicalType": "date"},
        "clock": {"type": "long", "logicalType": "time-micros"}, "other": LOCAL,
        "times": ["null", MILLIS, "double"], "created_at": "long", "LAST_SEEN": ["null", "double"],
        "event_time": "string", "seconds": {"type": "int", "logicalType": "timestamp-millis"},
        "load": "double",
    }  # fmt: skip
    assert read(text(host="string", ts=MILLIS, **fields)) == (
        ("host",), "ts", "timestamp-millis", ("load",),
        {
            "note": "text", "ok": "true or false", "raw": "bytes", "hash": "bytes",
            "kind": "one of several symbols", "cost": NO_DECIMAL, "fix": NO_DECIMAL,
            "list": "an array", "tags": "a map", "none": "always null", "in": NESTED,
            "mixed": "of several types: double, string", "day": "a date", "clock": "a time of day",
            "other": "a time (local-timestamp-millis)", "times": "a time (timestamp-millis)",
            "created_at": BY_NAME, "LAST_SEEN": BY_NAME, "event_time": "a time as text",
            "seconds": "a time (timestamp-millis)",
        },
    )  # fmt: skip


def test_include_and_exclude() -> None:
    schema = text(
        host="string", ts=MILLIS, CPU="double", load="double", created_at="long", note="string"
    )
    assert read(schema, include="cpu")[3:] == (
        ("CPU",),
        {"load": "input.include does not name it", "created_at": "input.include does not name it",
            "note": "text"}
    )  # fmt: skip
    assert read(schema, include="load,created_at")[3] == ("load", "created_at")
    assert read(schema, exclude="cpu")[4]["CPU"] == "input.exclude names it"
    assert read(schema, include="cpu,load", exclude="LOAD")[3] == ("CPU",)
    with pytest.raises(UnsupportedSchema, match=r"R\.note is string; a metric \(input\.include\)"):
        read(schema, include="note")
    with pytest.raises(
        UnsupportedSchema,
        match=r"R\.x is long \(timestamp-millis\); a metric \(input\.include\).*no time",
    ):
        read(text(host="string", ts=MILLIS, x=MILLIS, load="double"), include="x")


@pytest.mark.parametrize(
    ("fields", "settings", "says"),
    [
        ({}, {}, "no numeric field to use as a metric"),
        ({"note": "string"}, {}, "no numeric field to use as a metric"),
        ({"created_at": "long"}, {}, f"left out: created_at ({BY_NAME})"),
        ({"cost": DECIMAL | {"scale": -1}}, {}, f"left out: cost ({NO_DECIMAL})"),
        ({"a": "double"}, {"include": "b"}, "input.include and input.exclude leave none of a"),
        ({"a": "double"}, {"exclude": "A"}, "input.include and input.exclude leave none of a"),
        (
            {"m": {"type": "record", "name": "M", "fields": [{"name": "a", "type": "double"}]}},
            {},
            "input.include takes numbers of nested records: m.a",
        ),
    ],
)
def test_without_a_metric_it_says_what_was_near(
    fields: dict[str, Any], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnsupportedSchema) as caught:
        read(text(host="string", ts=MILLIS, **fields), **settings)
    assert says in str(caught.value)


def test_a_decimal_that_is_left_out_is_skipped() -> None:
    schema, settings = (
        text(host="string", cost=["null", DECIMAL], ts=MILLIS, load="double"),
        InputSettings(exclude="cost"),
    )
    value = b"\0\0\0\0\1\2a\2\4\x01\x02" + encode('"long"', 1, T0)[5:] + np.float64(2.5).tobytes()
    columns = decode(
        batch_of([value]), {1: compile_plan(schema, settings)}, settings, Directory(), []
    )
    assert columns.values.tolist() == [[2.5]]


def test_metrics_that_differ_in_case_only_stay_apart() -> None:
    assert read(text(host="string", ts=MILLIS, cpu="double", CPU="double"))[3] == ("cpu", "CPU")
    assert read(text(host="string", ts=MILLIS, cpu="double", CPU="double"), exclude="CPU")[3] == (
        "cpu",
    )


def test_a_record_beside_null() -> None:
    """Flink SQL before 1.15 and Kafka Connect's optional struct write a union of record and null.

    A null in place of the record has neither time nor entity.
    """
    record = json.loads(text(host="string", ts=MILLIS, load="double"))
    for written in (["null", record], [record, "null"], [record]):
        schema, settings = json.dumps(written), InputSettings()
        values = [encode(schema, 1, {"host": "a", "ts": T0, "load": 1.0})]
        values += [encode(schema, 1, None)] if "null" in written else []
        columns = decode(
            batch_of(values), {1: compile_plan(schema, settings)}, settings, Directory(), []
        )
        assert (columns.time_ms.tolist(), columns.values.tolist()) == ([T0], [[1.0]])
        assert columns.reasons.tolist() == [Reason.TIME_OUT_OF_RANGE] * (len(values) - 1)
    with pytest.raises(UnsupportedSchema, match="not a record"):
        read(json.dumps(["null", record, "string"]))
