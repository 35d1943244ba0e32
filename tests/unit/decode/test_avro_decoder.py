"""The decoder with a registry behind it: what it requests, when, and how it rejects."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lapwing.dlq.record import decoder_of, verdicts_of
from shared.batch import Batch
from shared.columns import Columns
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.fingerprints import fingerprint_of
from shared.decode.avro.writer_schemas import UNKNOWN_FOR_S
from shared.decode.field_choice import MetSchema
from shared.decode.formats import open_decoder
from shared.directory import Directory
from shared.encode.avro_columns import flat_schema
from shared.errors import SchemaNotAllowed, TransportError
from shared.events import Reason
from shared.ports import Decoder
from shared.settings import InputSettings
from tests.reference.records import METRIC_EVENT, batch_of, encode, event

INPUT = InputSettings()
UNFIT = flat_schema("R", "node", ("cpu",))


class Registry:
    address = "http://registry"

    def __init__(self) -> None:
        self.texts = {1: METRIC_EVENT, 2: UNFIT}
        self.asked: list[int] = []
        self.down = False
        self.now_s = 0.0

    def schema(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        if self.down:
            raise TransportError("registry does not answer")
        return self.texts.get(schema_id)

    def decoder(self, settings: InputSettings = INPUT) -> Decoder:
        return open_decoder(settings, self, lambda: self.now_s)


def of_id(schema_id: int) -> bytes:
    return encode(
        METRIC_EVENT, schema_id, {"host": "a", "timestamp": 1_400_000_000_000, "cpu": 1.0}
    )


def decode(decoder: Decoder, batch: Batch) -> Columns:
    return decoder.decode(batch, Directory(), [])


def test_a_batch_that_was_not_prepared_is_an_error_of_the_caller() -> None:
    decoder = Registry().decoder()
    with pytest.raises(KeyError):
        decode(decoder, batch_of([event()]))


def test_only_preparing_asks() -> None:
    registry = Registry()
    decoder, batch = registry.decoder(), batch_of([of_id(1), of_id(9), of_id(2), of_id(1)])
    decoder.prepare(batch)
    assert registry.asked == [1, 9, 2]
    registry.down = True
    for low, high in pairwise((0, 1, 3, 4)):
        decode(decoder, batch.rows(low, high))
    decoder.prepare(batch)
    assert registry.asked == [1, 9, 2]


def test_an_outage_is_raised_and_the_batch_can_be_prepared_later() -> None:
    registry = Registry()
    decoder, batch = registry.decoder(), batch_of([of_id(1)])
    registry.down = True
    with pytest.raises(TransportError):
        decoder.prepare(batch)
    with pytest.raises(KeyError):
        decode(decoder, batch)
    registry.down = False
    decoder.prepare(batch)
    assert len(decode(decoder, batch)) == 1


def test_what_was_unknown_stays_so_until_a_batch_is_prepared_again() -> None:
    """Pieces of one batch are decoded by the same schemas."""
    registry = Registry()
    decoder, batch = registry.decoder(), batch_of([of_id(9), of_id(9)])
    decoder.prepare(batch)
    assert decode(decoder, batch.rows(0, 1)).reasons.tolist() == [Reason.UNKNOWN_SCHEMA]
    registry.texts[9] = METRIC_EVENT
    registry.now_s += UNKNOWN_FOR_S
    assert decode(decoder, batch.rows(1, 2)).reasons.tolist() == [Reason.UNKNOWN_SCHEMA]
    decoder.prepare(batch)
    assert len(decode(decoder, batch)) == 2


def test_the_schemas_that_can_be_read_are_named() -> None:
    met: list[MetSchema] = []
    registry = Registry()
    decoder = open_decoder(INPUT, registry, lambda: 0.0, met.append)
    decoder.prepare(batch_of([of_id(2), of_id(9), of_id(1)]))
    assert decoder.schema_sha256() == [fingerprint_of(METRIC_EVENT).sha256]
    assert [(one.schema_id, bool(one.unsupported)) for one in met] == [(2, True), (1, False)]


def test_an_entity_of_several_fields_has_one_name() -> None:
    settings = InputSettings(entity_fields=("region", "host"))
    assert Registry().decoder(settings).entity_name == "region/host"


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (of_id(2), Reason.SCHEMA_UNFIT, "schema id 2: R has no field 'host'"),
        (of_id(9), Reason.UNKNOWN_SCHEMA, "schema id 9"),
        (b'{"a": 1}', Reason.NOT_AVRO, "the value begins like JSON"),
        (of_id(1)[:-1], Reason.TRUNCATED, ""),
        (b"", Reason.EMPTY, ""),
    ],
)
def test_what_a_reason_leaves_open_is_said(value: bytes, reason: Reason, message: str) -> None:
    decoder, batch = Registry().decoder(), batch_of([value])
    decoder.prepare(batch)
    assert decode(decoder, batch).reasons.tolist() == [reason]
    detail = decoder.detail(value, (), reason)
    assert detail.startswith(message)
    assert bool(detail) == bool(message)
    (verdict,) = verdicts_of([value], Registry().decoder())
    assert (verdict.reason, verdict.detail) == (reason, detail)


def test_a_list_of_writers_holds_for_services_and_not_for_a_look_at_single_records() -> None:
    settings, batch = InputSettings(schema_fingerprints=("0" * 16,)), batch_of([of_id(1)])
    with pytest.raises(SchemaNotAllowed):
        Registry().decoder(settings).prepare(batch)
    assert verdicts_of([of_id(1)], decoder_of(settings, Registry()))[0].reason is Reason.ACCEPTED
    known = AvroDecoder.of_schemas({1: METRIC_EVENT}, settings)
    assert len(decode(known, batch)) == 1
