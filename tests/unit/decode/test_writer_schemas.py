"""Writer schemas of the input: looked up once, checked against the list, compiled."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import schemas
from consumer_prediction import service
from shared.decode.avro.fingerprints import fingerprint_of
from shared.decode.avro.plan import WriterPlan
from shared.decode.avro.rows import Plans
from shared.decode.avro.writer_schemas import UNKNOWN_FOR_S, WriterSchemas
from shared.decode.field_choice import MetSchema, UnsupportedSchema
from shared.errors import SchemaNotAllowed, TransportError
from shared.settings import InputSettings

FITS, OTHER = schemas.text(schemas.METRIC_EVENT), schemas.text(schemas.SCORE_EVENT)
UNFIT = '{"type": "record", "name": "R", "fields": [{"name": "host", "type": "string"}]}'
FINGERPRINT = fingerprint_of(FITS)


class Known:
    """A registry of three schemas; that it does not answer about the fourth is an outage."""

    def __init__(self, *allowed: str) -> None:
        self.texts = {1: FITS, 2: UNFIT, 8: OTHER}
        self.asked: list[int] = []
        self.met: list[MetSchema] = []
        self.now_s = 1000.0
        self.schemas = WriterSchemas(
            self._text_of,
            "http://registry",
            InputSettings(schema_fingerprints=allowed),
            lambda: self.now_s,
            self.met.append,
        )

    def prepared(self, ids: list[int]) -> Plans:
        self.schemas.prepare(ids)
        return {schema_id: self.schemas.plans[schema_id] for schema_id in ids}

    def _text_of(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        if schema_id == 3:
            raise TransportError("registry does not answer")
        return self.texts.get(schema_id)


def test_each_schema_is_asked_for_and_compiled_once() -> None:
    known = Known()
    known.schemas.prepare([1, 2, 9])
    found = dict(known.schemas.plans)
    assert isinstance(found[1], WriterPlan)
    assert isinstance(found[2], UnsupportedSchema)
    assert found[9] is None
    known.schemas.prepare([9, 1])
    assert known.schemas.plans == found
    assert known.asked == [1, 2, 9]
    assert [one.schema_id for one in known.met] == [1, 2]
    assert [one.facts["sha256"] for one in known.met] == [
        FINGERPRINT.sha256,
        fingerprint_of(UNFIT).sha256,
    ]
    assert [bool(one.unsupported) for one in known.met] == [False, True]


def test_an_unknown_one_is_asked_for_again_after_a_while() -> None:
    known = Known()
    assert known.prepared([9]) == {9: None}
    known.texts[9] = FITS
    known.now_s += UNKNOWN_FOR_S - 1
    assert known.prepared([9]) == {9: None}
    known.now_s += 1
    assert isinstance(known.prepared([9])[9], WriterPlan)
    assert known.asked == [9, 9]


def test_an_outage_is_no_unknown_schema() -> None:
    known = Known()
    with pytest.raises(TransportError):
        known.prepared([1, 3])
    with pytest.raises(TransportError):
        known.prepared([3])
    assert set(known.prepared([1])) == {1}


def test_fingerprints_are_of_those_that_are_read() -> None:
    known = Known()
    known.prepared([1, 2, 9])
    assert known.schemas.readable_fingerprints() == [FINGERPRINT]


@pytest.mark.parametrize(
    "allowed",
    [
        FINGERPRINT.crc64,
        FINGERPRINT.crc64.upper(),
        bytes.fromhex(FINGERPRINT.crc64)[::-1].hex(),
        FINGERPRINT.sha256,
    ],
)
def test_only_allowed_schemas_are_read(allowed: str) -> None:
    known = Known("0" * 16, allowed)
    assert isinstance(known.prepared([1])[1], WriterPlan)
    assert known.prepared([9]) == {9: None}
    other = fingerprint_of(OTHER)
    with pytest.raises(
        SchemaNotAllowed,
        match=rf"schema 8 of http://registry.*{other.crc64}.*{other.sha256}.*input\.schema_fing",
    ):
        known.prepared([1, 8])
    with pytest.raises(SchemaNotAllowed):
        known.prepared([8])
    assert known.schemas.readable_fingerprints() == [FINGERPRINT]


def test_without_a_list_every_schema_is_looked_at() -> None:
    found = Known().prepared([1, 8])
    assert isinstance(found[1], WriterPlan)


def test_a_predictor_says_how_it_reads_a_schema_when_it_meets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message: list[tuple[str, dict[str, object]]] = []
    log = SimpleNamespace(info=lambda event, **facts: message.append((event, facts)))
    log.warning = log.info
    monkeypatch.setattr(service, "log", log)
    known = Known()
    known.prepared([1, 2])
    for schema in known.met:
        service._log_schema(schema)
    read_as = (
        "entity=host, time=timestamp (timestamp-millis), metrics=cpu, network_in, disk_write, left"
        " out=nothing"
    )
    assert [event for event, _ in message] == [
        "writer schema",
        "writer schema",
        "writer schema not supported",
    ]
    assert (message[0][1]["record"], message[0][1]["read_as"]) == ("lapwing.MetricEvent", read_as)
    assert "read_as" not in message[1][1]
    assert "no timestamp field" in str(message[2][1]["because"])
