"""JSON input: what is read of an object, and the sentence with which anything else is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consumer_prediction.outgoing import Encoder, SchemaIds
from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.field_choice import MetSchema, ignore
from shared.decode.formats import open_decoder
from shared.decode.json.choice import MOST_METRICS
from shared.decode.json.decoder import MOST_REPORTED, JsonDecoder
from shared.decode.json.document import DEEPEST
from shared.decode.one_by_one import MOST_NAMES
from shared.directory import Directory
from shared.encode.avro_columns import flat_schema
from shared.encode.dead_letters import PREFIX, REASON
from shared.encode.records import encode_records
from shared.events import Detector, Reason
from shared.ports import Decoder
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, InputSettings, QualitySettings, TopicSettings
from tests.reference.avro import Rejected, read_iso

T0 = 1_400_000_000_000
TEXT = "2014-05-13T16:53:20Z"


def settings_of(**given: Any) -> InputSettings:
    return InputSettings(**({"format": "json", "time_field": "ts", "time_unit": "ms"} | given))


def batch_of(values: list[bytes]) -> Batch:
    n = len(values)
    keys = Blob.join([b"key"] * n)
    return Batch("in", 0, Blob.join(values), keys, np.arange(n), np.zeros(n, np.int64))


def decoded(values: list[bytes], **given: Any) -> tuple[Columns, list[str], list[str]]:
    entities, metrics = Directory(), list[str]()
    decoder = JsonDecoder(settings_of(**given), ignore)
    columns = decoder.decode(batch_of(values), entities, metrics)
    assert sorted([*columns.accepted, *columns.rejected]) == list(range(len(values)))
    return columns, entities.names(), metrics


def row_of(record: dict[str, Any], **given: Any) -> tuple[str, int, dict[str, float]]:
    columns, names, metrics = decoded([json.dumps(record).encode()], **given)
    assert columns.reasons.tolist() == []
    values = dict(zip(metrics, columns.values[0].tolist(), strict=True))
    return names[0], int(columns.time_ms[0]), values


def refusal_of(value: bytes | dict[str, Any], **given: Any) -> tuple[Reason, str]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    columns, names, metrics = decoded([data], **given)
    assert (names, metrics) == ([], [])
    reason = Reason(int(columns.reasons[0]))
    return reason, JsonDecoder(settings_of(**given), ignore).detail(data, (), reason)


# -- what is read ----------------------------------------------------------------------------------


def test_numbers_are_metrics_and_nested_ones_have_dotted_names() -> None:
    record = {
        "host": "web-1",
        "ts": T0,
        "cpu": 1,
        "load": {"one": 0.5, "five": {"max": 2}},
        "up": True,
        "zone": "eu",
        "net": None,
        "created_at": 5,
        "tags": {},
    }
    expected = {"cpu": 1.0, "load.one": 0.5, "load.five.max": 2.0}
    assert row_of(record) == ("web-1", T0, expected)


def test_entity_and_time_may_be_nested_and_of_several_fields() -> None:
    record = {"tags": {"Host": "a", "disk": 7}, "at": {"ts": T0 // 1000}, "used": 1.5}
    given = {"entity_fields": "tags.host,tags.disk", "time_field": "at.ts", "time_unit": "s"}
    assert row_of(record, **given) == ("a/7", T0, {"used": 1.5})


@pytest.mark.parametrize(
    ("unit", "value", "time_ms"),
    [
        ("s", 1_400_000_000, T0),
        ("s", 1_400_000_000.0015, T0 + 2),
        ("ms", T0, T0),
        ("ms", T0 + 0.5, T0 + 1),
        ("us", T0 * 1000 + 999, T0),
        ("ns", T0 * 1_000_000 + 999_999, T0),
        ("iso", TEXT, T0),
        ("iso", "2014-05-13 18:53:20.25+02:00", T0 + 250),
    ],
)
def test_times(unit: str, value: float | str, time_ms: int) -> None:
    assert row_of({"host": "a", "ts": value, "cpu": 1}, time_unit=unit)[1] == time_ms


@given(st.one_of(st.text(max_size=70), st.from_regex(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z?\Z")))
def test_text_times_are_read_as_in_avro(text: str) -> None:
    columns, _, _ = decoded(
        [json.dumps({"host": "a", "ts": text, "cpu": 1}).encode()], time_unit="iso"
    )
    try:
        expected = read_iso(text.encode())
    except (Rejected, UnicodeEncodeError):
        assert columns.reasons.tolist() == [Reason.TIME_INVALID]
    else:
        in_range = settings_of().min_time_ms <= expected <= settings_of().max_time_ms
        assert columns.time_ms.tolist() == ([expected] if in_range else [])


def test_include_and_exclude_name_fields_or_whole_objects() -> None:
    record = {"host": "a", "ts": T0, "m": {"x": 1, "y": 2}, "n": {"x": 3}, "took_at": 4}
    assert row_of(record, include="m")[2] == {"m.x": 1.0, "m.y": 2.0}
    assert row_of(record, exclude="M.y,n")[2] == {"m.x": 1.0}
    assert row_of(record, include="took_at,n.x")[2] == {"n.x": 3.0, "took_at": 4.0}


def test_null_and_absent_are_missing_values() -> None:
    rows = [
        b'{"host":"a","ts":1400000000000,"cpu":1,"net":2}',
        b'{"host":"a","ts":1400000001000,"cpu":null}',
        b'{"net":5,"host":"a","ts":1400000002000,"cpu":null}',
    ]
    columns, _, metrics = decoded(rows)
    assert metrics == ["cpu", "net"]
    nan = math.nan
    np.testing.assert_array_equal(columns.values, [[1, 2], [nan, nan], [nan, 5]])


def test_a_schema_id_before_the_object_is_skipped() -> None:
    columns, names, _ = decoded([b'\0\0\0\0\7{"host":"a","ts":1400000000000,"cpu":1}'])
    assert (columns.accepted.tolist(), names) == ([0], ["a"])


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"", Reason.EMPTY, ""),
        (b"host=a", Reason.NOT_JSON, "Expecting value at character 0"),
        (b'{"host":"a"} {}', Reason.NOT_JSON, "Extra data at character 13"),
        (b'{"host":"\xff"}', Reason.NOT_JSON, "byte 9 is not UTF-8"),
        (b"[{}]", Reason.NOT_JSON, "it is an array, not one object"),
        (b"17", Reason.NOT_JSON, "it is the number 17"),
        (b'{"a":1,"b":{"c":1,"c":2}}', Reason.NOT_JSON, 'the name "c" occurs twice in one object'),
        (b'{"a.b":1,"a":{"b":2}}', Reason.NOT_JSON, '"a.b" occurs twice, once with nested'),
        (b"[" * 60_000, Reason.NOT_JSON, "it is nested too deeply"),
        (b'{"a":' * 20 + b"1" + b"}" * 20, Reason.NOT_JSON, f"more than {DEEPEST} levels deep"),
        (b'{"a":' + b"9" * 5_000 + b"}", Reason.NOT_JSON, "digit"),
        (b'{"x":1}', Reason.RECORD_UNFIT, "it has no 'host', the entity by input.entity_fields"),
        (b'{"host":"a"}', Reason.RECORD_UNFIT, "no 'ts', the event time by input.time_field"),
        (
            b'{"HOST":1,"Host":2,"ts":1}',
            Reason.RECORD_UNFIT,
            "it has HOST, Host: which is 'host', the entity by input.entity_fields? Write it",
        ),
        (
            b'{"host":"a","ts":1,"cpu":"1.5","up":true,"end_time":4}',
            Reason.RECORD_UNFIT,
            'left out: cpu (the text "1.5"), up (true or false), end_time (a time by its name',
        ),
        (
            b'{"host":"a","ts":1,"cpu":1,"cores":[1,2]}',
            Reason.RECORD_UNFIT,
            "cores is an array: a record is one row; input.exclude=cores leaves it out",
        ),
        (
            b'{"schema":{"name":"r"},"payload":{"host":"a"}}',
            Reason.RECORD_UNFIT,
            "unless value.converter.schemas.enable=false",
        ),
        (b'{"host":"a","ts":1,"c\\u0007":1}', Reason.RECORD_UNFIT, "unprintable characters"),
        (b'{"host":"a","ts":1400000000000,"x":NaN}', Reason.NOT_FINITE, "x is the number nan"),
        (b'{"host":"a","ts":1400000000000,"x":1e999}', Reason.NOT_FINITE, "x is the number inf"),
        (
            b'{"host":"a","ts":1400000000000,"x":1' + b"0" * 400 + b"}",
            Reason.NOT_FINITE,
            "with more than 70 digits",
        ),
        (b'{"host":"a","ts":"now","x":1}', Reason.TIME_INVALID, 'ts is the text "now"'),
        (b'{"host":"a","ts":true,"x":1}', Reason.TIME_INVALID, "ts is true or false"),
        (b'{"host":"a","ts":null,"x":1}', Reason.TIME_OUT_OF_RANGE, "ts is null"),
        (
            b'{"host":"a","ts":1400000000,"x":1}',
            Reason.TIME_OUT_OF_RANGE,
            "ms; as s it is 2014-05-13T16:",
        ),
        (
            b'{"host":"a","ts":"2014-05-13 16:53:20Z","x":1}',
            Reason.TIME_INVALID,
            "input.time_unit is ms; as iso it is 2014-05-13T16:53:20.000Z",
        ),
        (b'{"host":"a","ts":1' + b"0" * 999 + b',"x":1}', Reason.TIME_OUT_OF_RANGE, "digits"),
        (b'{"host":"a","ts":1e400,"x":1}', Reason.TIME_INVALID, "inf"),
        (b'{"host":null,"ts":1400000000000,"x":1}', Reason.ENTITY_INVALID, "host is null"),
        (b'{"host":1.5,"ts":1400000000000,"x":1}', Reason.ENTITY_INVALID, "host is the number"),
        (b'{"host":"\\ud800","ts":1400000000000,"x":1}', Reason.ENTITY_INVALID, "ud800"),
    ],
)
def test_refusals(value: bytes, reason: Reason, words: str) -> None:
    found, detail = refusal_of(value)
    assert found is reason
    assert words in detail
    detail.encode()


def test_a_metric_that_include_names_must_be_a_number() -> None:
    record = {"host": "a", "ts": T0, "cpu": "1.5", "net": 1}
    reason, detail = refusal_of(record, include="cpu,net")
    assert reason is Reason.RECORD_UNFIT
    assert detail.startswith('cpu is the text "1.5"; a metric that a setting names')
    assert detail.endswith("(input.include, input.value_field) is a number without quotes")
    assert row_of(record | {"cores": [1]}, include="net")[2] == {"net": 1.0}


def test_a_detail_is_short_and_printable_whatever_the_names_are() -> None:
    reason, detail = refusal_of({"a\ud800\n" * 900: 1, "b" * 20_000: 2})
    assert reason is Reason.RECORD_UNFIT
    assert len(detail) < 6_000
    assert detail.isprintable()


def test_the_number_of_metrics_is_bounded() -> None:
    record: dict[str, Any] = {"host": "a", "ts": T0}
    many = record | {f"m{i}": i for i in range(MOST_METRICS + 1)}
    reason, detail = refusal_of(many)
    assert reason is Reason.RECORD_UNFIT
    assert detail.startswith("it has 257 numbers, at most 256 are metrics: input.include")
    full = [
        json.dumps(record | {f"m{start + i}": i for i in range(MOST_METRICS)}).encode()
        for start in range(0, MOST_NAMES + 1, MOST_METRICS)
    ]
    known = json.dumps(record | {"m5": 1}).encode()
    columns, _, metrics = decoded([*full, known])
    assert len(metrics) == MOST_NAMES
    assert columns.rejected.tolist() == [len(full) - 1]
    assert columns.reasons.tolist() == [Reason.TOO_MANY_NAMES]
    assert f"{MOST_NAMES:,}" in Reason.TOO_MANY_NAMES.sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "input.format=json needs input.time_field and input.time_unit"),
        ({"time_field": "ts"}, "needs input.time_unit"),
        (
            {"time_field": "ts", "time_unit": "s", "schema_fingerprints": "0123456789abcdef"},
            "input.schema_fingerprints is for Avro",
        ),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        InputSettings(format="json", **given)


# -- beside Avro -----------------------------------------------------------------------------------

METRICS = ("cpu", "network")
SCHEMA = flat_schema("lapwing.Metric", "host", METRICS)
INPUT = settings_of(time_field="timestamp")


def events() -> list[dict[str, Any]]:
    """Two hosts with a season and spikes, missing values, a time and a value that are refused."""
    random = np.random.default_rng(3)
    found = []
    for step in range(200):
        for host in ("host-0", "host-1"):
            load = 1.5 + math.sin(step / 30) + random.normal(0, 0.05)
            cpu = load * (30 if step % 60 == 59 else 1)
            network = None if random.random() < 0.03 and step else 10 * load
            when = T0 + step * 1_800_000
            found.append({"host": host, "timestamp": when, "cpu": cpu, "network": network})
    found[70]["timestamp"] = 5
    found[71]["cpu"] = math.inf
    found[72]["host"] = "\7"
    return found


def sent_for(values: list[bytes], decoder: Decoder) -> dict[str, Any]:
    configuration = Configuration(
        Detector.ENSEMBLE,
        5,
        DetectionSettings(warmup_days=0.2, alarms_per_day=5.0),
        QualitySettings(),
    )
    scorer = Scorer(PartitionState(0), Rules(configuration))
    batch = batch_of(values)
    decoder.prepare(batch)
    outcome = scorer.process(batch, decoder)
    encoder = Encoder(TopicSettings(), SchemaIds(1, 2, 3), "g", 1000)
    return {sent.topic: sent for sent in encoder.outcome(outcome, scorer.state)}


def test_the_results_are_those_of_avro_to_the_byte() -> None:
    class NoRegistry:
        address = "nowhere"

        def schema(self, schema_id: int) -> str | None:
            raise AssertionError("JSON needs no registry")

    decoder = open_decoder(INPUT, NoRegistry(), lambda: 0.0)
    assert decoder.entity_name == "host"
    assert decoder.schema_sha256() == []
    in_json = sent_for([*(json.dumps(one).encode() for one in events()), b"{"], decoder)
    in_avro = sent_for(
        [*(encode_records(SCHEMA, 1, [one])[0] for one in events()), b"{"],
        AvroDecoder.of_schemas({1: SCHEMA}, InputSettings()),
    )
    for topic in (TopicSettings().scores, TopicSettings().anomalies):
        assert len(in_json[topic]) > 0
        assert in_json[topic].values.data == in_avro[topic].values.data
        assert in_json[topic].headers == in_avro[topic].headers
    dead = in_json[TopicSettings().dead_letters]
    messages = [dict(dead.headers[row]) for row in range(len(dead))]
    assert [one[REASON] for one in messages] == [
        b"time_out_of_range", b"not_finite", b"entity_invalid", b"not_json"
    ]  # fmt: skip
    message = messages[0][f"{PREFIX}exception.message"]
    assert message.endswith(b": timestamp is the number 5, input.time_unit is ms")


def test_batch_cuts_change_nothing() -> None:
    values = [json.dumps(one).encode() for one in events()]
    whole, names, metrics = decoded(values, time_field="timestamp")
    decoder = JsonDecoder(INPUT, ignore)
    entities, grown = Directory(), list[str]()
    parts = [
        decoder.decode(batch_of(values).rows(low, high), entities, grown)
        for low, high in ((0, 1), (1, 73), (73, 400))
    ]
    assert (entities.names(), grown) == (names, metrics)
    values_of_parts = np.concatenate([part.values for part in parts])
    np.testing.assert_array_equal(values_of_parts, whole.values)


def test_new_metrics_are_reported_a_few_times() -> None:
    met: list[MetSchema] = []
    decoder = JsonDecoder(INPUT, met.append)
    records = [{"host": "a", "timestamp": T0, f"m{i // 2}": 1} for i in range(100)]
    values = [json.dumps(one).encode() for one in records]
    decoder.decode(batch_of(values), Directory(), [])
    assert len(met) == MOST_REPORTED
    assert met[0].schema_id is None
    assert met[0].facts["read_as"] == (
        "entity=host, time=timestamp (a number, ms by input.time_unit), metrics=m0,"
        " left out=nothing"
    )
