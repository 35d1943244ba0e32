"""Reports of ``lapwing inspect``: roles of fields, future dead letters, likely misreadings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from lapwing.inspect import warnings
from lapwing.inspect.reading import Example, Inspection, Reading, shown_time
from lapwing.inspect.records import Record, Sample, inspect_sample
from lapwing.inspect.render import IN_FULL, MISSING_SHOWN, lines
from shared.decode.avro.misplaced import id_in_headers
from shared.schema_ids import IdKind, SchemaRef
from shared.settings import InputSettings
from tests.reference.records import T0, World, encode, event, worlds

NOW = T0 + 5_000
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


REJECTED = """
empty not_avro unknown_schema schema_unfit truncated trailing_bytes not_finite
time_out_of_range entity_invalid
""".split()  # noqa: SIM905 - as a reader sees them


def text(**fields: Any) -> str:
    named = [{"name": name, "type": avro} for name, avro in fields.items()]
    return json.dumps({"type": "record", "name": "R", "fields": named})


PLAIN = text(host="string", ts="long", cpu="double")
LONG = text(host="string", ts=MILLIS, metric="string", unit="string", value="double")


def records(values: list[bytes], **more: Any) -> list[Record]:
    """Records of one partition, a second apart, the last one the newest."""
    given = {"partition": 0, "key": b"k"} | more
    return [
        Record(offset=i, broker_ms=NOW + 1000 * i, value=value, **given)
        for i, value in enumerate(values)
    ]


def seen(
    found: list[Record],
    texts: dict[int, str | None] | None = None,
    *,
    latest: str | None = None,
    **given: Any,
) -> Inspection:
    known = {1: schemas.text(schemas.METRIC_EVENT)} | (texts or {})
    return inspect_sample(
        Sample("t: the newest", "t", found, known, latest), InputSettings(**given)
    )


def plain(ts: list[float], schema: str = PLAIN, **record: Any) -> list[bytes]:
    return [encode(schema, 2, {"host": "a", "ts": one, "cpu": 1.0} | record) for one in ts]


def test_good_records() -> None:
    found = seen(records([event("a", T0, cpu=1.5), event("b", T0 + 1, disk_write=2.0)]))
    (reading,) = found.readings
    assert (found.rows, found.read, found.dead, found.warnings, reading.warnings) == (
        2,
        2,
        (),
        (),
        (),
    )
    assert (reading.source, reading.entity, reading.time) == (
        "schema 1, lapwing.MetricEvent",
        ("host",),
        "timestamp",
    )
    assert reading.metrics == ("cpu", "network_in", "disk_write")
    nothing = {"cpu": None, "network_in": None, "disk_write": None}
    assert reading.examples == (
        Example("b", "2014-04-08T23:33:20.001Z", nothing | {"disk_write": 2.0}),
        Example("a", "2014-04-08T23:33:20Z", nothing | {"cpu": 1.5}),
    )
    assert found.settings["input.entity_fields"] == "host"
    assert "; " not in reading.line
    assert reading.line.endswith(
        "entity=host, time=timestamp (timestamp-millis), metrics=cpu, network_in, disk_write, left"
        " out=nothing"
    )


def test_dead_letters_are_counted_by_reason() -> None:
    good = event("a")
    bad = [
        b"",
        b"{}",
        b"\0\0\0\0\7x",
        b"\0\0\0\0\2x",
        good[:-1],
        good + b"x",
        event("a", cpu=np.nan),
        event("a", 0),
        event(""),
    ]
    found = seen(records([*bad, good]), {2: text(note="string"), 7: None})
    assert (found.rows, found.read) == (10, 1)
    assert {one.reason: one.count for one in found.dead} == dict.fromkeys(REJECTED, 1)
    by_reason = {one.reason: one for one in found.dead}
    assert "schema id 7" in by_reason["unknown_schema"].why
    assert "no field 'host'" in by_reason["schema_unfit"].why
    assert by_reason["truncated"].place == "t[0]@4"
    assert [reading.source for reading in found.readings] == [
        "schema 1, lapwing.MetricEvent",
        "schema 2",
    ]
    assert "no field 'host'" in found.readings[1].unfit


@pytest.mark.parametrize(
    ("header", "helps"),
    [
        ("__value_schema_id", "and not 1 and the 16 bytes of a GUID"),
        ("__key_schema_id", "have the producer's value serializer write"),
        ("apicurio.value.globalId", "and not an id of 8 bytes"),
        ("apicurio.value.contentId", "and not an id of 8 bytes"),
    ],
)
@pytest.mark.parametrize("value", [b"\2a", b"\0\2abcdef"])
def test_a_schema_id_in_a_header_that_cannot_be_read_is_named(
    header: str, helps: str, value: bytes
) -> None:
    """The report names the header and the remedy.

    A body that begins with a null optional field looks like a schema id, though an unknown one.
    """
    found = seen(records([value] * 3, headers=(("x", b""), (header, b"\1"))))
    (dead,) = found.dead
    is_unknown = value[0] == 0 and header == "__key_schema_id"
    assert (dead.reason, dead.count, dead.header) == (
        "unknown_schema" if is_unknown else "not_avro",
        3,
        header,
    )
    assert helps in dead.why
    assert header in dead.why


def test_the_values_header_goes_before_the_keys() -> None:
    found = id_in_headers((("__key_schema_id", b""), ("apicurio.value.globalId", b"")))
    assert found is not None
    assert found.header == "apicurio.value.globalId"
    assert id_in_headers((("traceparent", b""),)) is None


def test_eight_bytes_of_apicurio_and_ids_in_headers_are_read() -> None:
    body = event("a")[5:]
    by_header = (("apicurio.value.globalId", (5).to_bytes(8, "big")),)
    key = SchemaRef(IdKind.GLOBAL_ID, 5)
    found = seen(
        [
            *records([b"\0" + (5).to_bytes(8, "big") + body]),
            *records([body] * 2, headers=by_header),
        ],
        {key: schemas.text(schemas.METRIC_EVENT)},
    )
    (reading,) = found.readings
    assert (reading.source, reading.rows, reading.read) == (
        "schema by Apicurio's global id 5, lapwing.MetricEvent",
        3,
        3,
    )
    (dead,) = seen(records([body], headers=by_header)).dead
    assert dead.why.startswith(
        "the registry does not know the record's schema id: Apicurio's global id 5: it is looked"
    )


def test_several_writer_schemas_the_newest_first() -> None:
    other = text(HOST="string", ts=MILLIS, load="float")
    values = [event("a"), encode(other, 2, {"HOST": "b", "ts": T0, "load": 1.0}), event("c")]
    found = seen(records(values), {2: other})
    assert [(one.source, one.rows) for one in found.readings] == [
        ("schema 1, lapwing.MetricEvent", 2),
        ("schema 2, R", 1),
    ]
    assert found.readings[1].metrics == ("load",)


def test_a_topic_without_records_shows_its_subjects_newest_schema() -> None:
    found = seen([], latest=PLAIN, time_unit="s")
    (reading,) = found.readings
    assert (found.rows, reading.rows, reading.time, reading.metrics) == (0, 0, "ts", ("cpu",))
    assert seen([]).readings == ()


def test_long_form_is_seen() -> None:
    rows = [
        {
            "host": f"h{i % 2}",
            "ts": T0 + i,
            "metric": ["cpu", "mem", "disk"][i % 3],
            "unit": "u",
            "value": 1.0,
        }
        for i in range(12)
    ]
    (reading,) = seen(records([encode(LONG, 2, row) for row in rows]), {2: LONG}).readings
    (message,) = reading.warnings
    assert "metric has 3 values for the entity" in message
    assert "input.metric_field=metric with input.value_field=value separates them" in message
    apart = seen(
        records([encode(LONG, 2, row) for row in rows]), {2: LONG}, entity_fields="host,metric"
    )
    assert apart.readings[0].warnings == ()


def test_long_form_is_read_with_its_settings() -> None:
    rows = [
        {"host": "a", "ts": T0 + i, "metric": f"m{i % 2}", "unit": "s", "value": float(i)}
        for i in range(4)
    ]
    found = seen(
        records([encode(LONG, 2, row) for row in rows]),
        {2: LONG},
        metric_field="metric",
        value_field="value",
    )
    (reading,) = found.readings
    assert (found.read, reading.metrics, reading.warnings) == (4, ("m1", "m0"), ())
    assert reading.left_out == (
        ("metric", "the metric's name by input.metric_field"),
        ("unit", "long form: one metric per record"),
    )
    assert reading.examples[0].values == {"m1": 3.0, "m0": None}
    assert found.settings["input.value_field"] == "value"


def test_text_that_stays_the_same_within_an_entity_is_no_long_form() -> None:
    rows = [
        {"host": f"h{i % 2}", "ts": T0 + i, "metric": f"m{i % 2}", "unit": "u", "value": 1.0}
        for i in range(12)
    ]
    (reading,) = seen(records([encode(LONG, 2, row) for row in rows]), {2: LONG}).readings
    assert reading.warnings == ()


def test_an_entity_in_two_partitions() -> None:
    found = seen([*records([event("a"), event("b")]), *records([event("a")], partition=3)])
    (message,) = found.warnings
    assert (
        "1 of 2 entities are in several partitions, e.g. 'a' in 0, 3: their keys are not the entity"
        in message
    )
    (message,) = seen(
        [*records([event("a")], key=b""), *records([event("a")], partition=3, key=b"")]
    ).warnings
    assert message.startswith(
        "none of the newest 2 records has a key, and 1 of 1 entities are in several partitions,"
        " e.g. 'a' in 0, 3: "
    )


def test_records_without_a_key_are_said_before_an_entity_is_spread() -> None:
    (message,) = seen(records([event("a"), event("b")], key=b"")).warnings
    assert message.startswith("none of the newest 2 records has a key: Kafka spreads such records")
    (message,) = seen([*records([event("a")]), *records([event("b")], key=b"")]).warnings
    assert message.startswith("only 1 of the newest 2 records has a key: ")
    assert seen(records([event("a")])).warnings == ()


def test_numbers_that_cannot_be_read_are_a_warning() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": -2}
    schema = text(
        host="string",
        ts=MILLIS,
        cpu="double",
        price=decimal,
        mixed=["int", "string"],
        state=["boolean", "string"],
    )
    (message,) = seen([], {2: schema}, latest=schema).readings[0].warnings
    assert message == (
        "2 numeric fields are left out: price (a decimal without a scale of 0 to 300 beside its"
        " logicalType is not read: write a double), mixed (of several types: int, string); if this"
        " is intended, set input.exclude=price,mixed"
    )
    excluded = seen([], {2: schema}, latest=schema, exclude="PRICE,mixed")
    assert excluded.readings[0].warnings == ()


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_wrong_unit_is_seen_though_every_record_is_a_dead_letter(unit: str) -> None:
    raw = {"s": T0 // 1000, "us": T0 * 1000, "ns": T0 * 10**6}[unit]
    found = seen(records(plain([raw, raw])), {2: PLAIN}, time_unit="ms")
    (reading,) = found.readings
    assert (reading.read, [one.reason for one in found.dead]) == (0, ["time_out_of_range"])
    (message,) = reading.warnings
    assert f"input.time_unit={unit} reads them so" in message
    assert "2014-04-08T23:33:20" in message


@pytest.mark.parametrize(
    ("logical", "raw", "shown", "likely", "declare"),
    [
        ("timestamp-millis", T0 // 1000, "1970-01-17T04:03:20Z", "seconds", "input.time_unit=s"),
        ("timestamp-millis", T0 * 1000, " ms by", "microseconds", "declare timestamp-micros"),
        (
            "timestamp-micros",
            T0,
            "1970-01-17T04:03:20Z",
            "milliseconds",
            "declare timestamp-millis",
        ),
    ],
)
def test_a_wrong_unit_in_a_typed_field_is_the_producers(
    logical: str, raw: int, shown: str, likely: str, declare: str
) -> None:
    typed = text(host="string", ts={"type": "long", "logicalType": logical}, cpu="double")
    (reading,) = seen(records(plain([raw], typed)), {2: typed}).readings
    (message,) = reading.warnings
    assert shown in message
    assert f"by {logical}" in message
    assert f"look like {likely} (2014-04-08T" in message
    assert declare in message


def test_old_data_and_fractions_are_no_wrong_unit() -> None:
    old = text(host="string", ts="double", cpu="double")
    (reading,) = seen(records(plain([946_684_800.25], old)), {2: old}, time_unit="s").readings
    assert (reading.read, reading.warnings) == (1, ())


def test_entities_that_are_all_one_or_all_different() -> None:
    one = (
        seen(records([event("a", T0 + i) for i in range(warnings.FEWEST_ROWS)]))
        .readings[0]
        .warnings
    )
    assert "all 20 rows are of one entity, 'a'" in one[0]
    many = seen(records([event(f"a{i}") for i in range(warnings.FEWEST_ROWS)])).readings[0].warnings
    assert "each of the 20 rows has a different entity: host (input.entity_fields)" in many[0]
    assert seen(records([event(f"a{i}") for i in range(5)])).readings[0].warnings == ()
    assert seen(records([event(f"a{i % 7}", T0 + i) for i in range(40)])).readings[0].warnings == ()


def test_numbers_that_are_no_metrics() -> None:
    schema = text(host="string", ts=MILLIS, device_id="long", stamp="long", load="double")
    rows = [
        {"host": "a", "ts": T0 + i, "device_id": 7, "stamp": T0 // 1000 + i, "load": 1.6e9}
        for i in range(3)
    ]
    (reading,) = seen(records([encode(schema, 2, row) for row in rows]), {2: schema}).readings
    assert [message.split(" ")[0] for message in reading.warnings] == ["device_id", "stamp"]
    assert "input.exclude=stamp leaves it out" in reading.warnings[1]
    assert "as seconds" in reading.warnings[1]


def test_names_that_no_row_has() -> None:
    found = seen(records([event("a")]), include="CPU,gpu", exclude="tpu")
    assert [message.split(",")[0] for message in found.warnings] == [
        "input.include names 'gpu'", "input.exclude names 'tpu'"
    ]  # fmt: skip


def test_an_entity_that_is_only_in_the_key() -> None:
    schema = text(ts=MILLIS, cpu="double")
    value = encode(schema, 2, {"ts": T0, "cpu": 1.0})
    (reading,) = seen(records([value], key=b"web-1"), {2: schema}).readings
    assert "no field 'host'" in reading.unfit
    assert "'web-1'" in reading.warnings[0]
    assert "AS_VALUE" in reading.warnings[0]
    assert seen(records([value], key=b""), {2: schema}).readings[0].warnings == ()


def test_the_key_is_no_remedy_for_a_change_event() -> None:
    tests = Path(__file__).parents[2]
    schema = (tests / "writer_schemas" / "debezium_avro_envelope.avsc").read_text("utf-8")
    value = (tests / "writer_avro" / "debezium_avro_envelope.bin").read_bytes()
    assert seen(records([value], key=b"web-1"), {3: schema}).readings[0].warnings == ()


def test_an_unclear_time_is_a_question() -> None:
    schema = text(host="string", timestamp="long", ingested_at=MILLIS, cpu="double")
    value = encode(schema, 2, {"host": "a", "timestamp": T0, "ingested_at": T0, "cpu": 1.0})
    found = seen(records([value]), {2: schema})
    assert (found.read, found.dead[0].reason) == (0, "schema_unfit")
    assert "Set input.time_field" in found.readings[0].unfit


@settings(max_examples=60)
@given(worlds(), st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_whatever_lies_in_the_topic_is_counted(
    world: World, junk: list[bytes], data: st.DataObject
) -> None:
    """Damaged records, unsuitable settings and unknown ids: no error, every record is counted."""
    schema, input_, rows = world
    if data.draw(st.booleans()):
        input_ = InputSettings(entity_fields=input_.entity_fields)
    values = [encode(schema, 1, row) for row in rows]
    values += [
        value[: data.draw(st.integers(0, len(value)))] + data.draw(st.binary(max_size=3))
        for value in values
    ]
    found = inspect_sample(Sample("t", "t", records([*values, *junk]), {1: schema}), input_)
    assert found.rows == len(values) + len(junk)
    assert found.rows - found.read == sum(one.count for one in found.dead)
    assert list(lines(found))
    json.dumps(found.document)


# --- for a person ---------------------------------------------------------------------------------


def test_all_of_it_for_a_person() -> None:
    schema = text(
        host="string",
        ts=MILLIS,
        status="string",
        tags={"type": "map", "values": "string"},
        cpu=["null", "double"],
    )
    row = {"host": "a", "ts": T0, "status": "up", "tags": {}, "cpu": None}
    values = [encode(schema, 2, row), encode(schema, 2, row | {"cpu": 1234.5}), b"{}"]
    assert list(lines(seen(records(values), {2: schema}, exclude="x"))) == [
        "t: the newest",
        "",
        "schema 2, R: 2 records",
        "  entity    host",
        "  time      ts (timestamp-millis)",
        "  metrics   cpu",
        "  left out  status  text",
        "            tags    a map",
        "  newest    2014-04-08T23:33:20Z  a  cpu=1234.5",
        "            2014-04-08T23:33:20Z  a  cpu=-",
        "",
        "dead letters: 1 of 3",
        (
            "  not_avro       1  the record does not start with the magic byte 0 and a 4-byte"
            " schema id: the value begins like JSON; input.format=json reads JSON, one object per"
            " record (t[0]@2)"
        ),
        "",
        "! input.exclude names 'x', which is in none of the rows",
        "",
        "settings that change it",
        "  input.format         avro",
        "  input.schema_ids     auto",
        "  input.entity_fields  host",
        "  input.time_field     not set: found by type and name",
        "  input.time_unit      not set: taken from the logicalType",
        "  input.metric_field   not set: each number is a metric",
        "  input.value_field    not set",
        "  input.include        not set: every number that is not a time",
        "  input.exclude        x",
    ]


@pytest.mark.parametrize(
    ("n_metrics", "shown"),
    [(2, "m0=1.5 m1=-"), (MISSING_SHOWN + 1, "m0=1.5")],
)
def test_missing_values_are_shown_while_metrics_are_few(n_metrics: int, shown: str) -> None:
    values = {f"m{i}": 1.5 if i == 0 else None for i in range(n_metrics)}
    example = Example("web-1", "2024-01-10T20:40:00Z", values)
    reading = Reading("f", 1, 1, ("host",), "t", "b", tuple(values), examples=(example,))
    text = list(lines(Inspection("folder", "row", 1, (reading,))))
    assert f"  newest    2024-01-10T20:40:00Z  web-1  {shown}" in text


def test_many_readings_are_a_line_each() -> None:
    readings = tuple(
        Reading(f"f{i}", 3, 2, ("host",), "t", "b", ("cpu",), warnings=("odd",))
        for i in range(IN_FULL + 1)
    )
    shown = list(lines(Inspection("folder", "row", 18, readings)))
    assert (
        shown[2]
        == "f0: entity=host, time=t (b), metrics=cpu, left out=nothing (3 rows, 2 of them can be"
        " read)"
    )
    assert "! f5: odd" in shown


def test_what_cannot_be_read_says_why() -> None:
    found = seen(records([b"\0\0\0\0\2x"]), {2: text(note="string")})
    assert any(line.startswith("  cannot be read: R has no field 'host'") for line in lines(found))
    document = json.loads(json.dumps(found.document))
    assert (document["rows"], document["read"], document["dead_letters"]) == (1, 0, 1)


def test_times_that_no_calendar_has() -> None:
    assert shown_time(2**60) == f"{2**60} ms"
    assert shown_time(-1) == "1969-12-31T23:59:59.999Z"
