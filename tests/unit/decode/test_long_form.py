"""Long form: one metric per record, in Avro and in JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.decode.formats import open_decoder
from shared.decode.one_by_one import MOST_NAMES
from shared.directory import Directory
from shared.encode.records import encode_records
from shared.events import Detector, Reason
from shared.ports import Decoder
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, InputSettings, QualitySettings

T0 = 1_400_000_000_000
LONG = {"metric_field": "name", "value_field": "value"}
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Point",
        "fields": [
            {"name": "host", "type": ["null", "string"]},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "name", "type": ["null", "string"]},
            {"name": "value", "type": ["null", "double"]},
            {"name": "quality", "type": "int"},
        ],
    }
)


class Schemas:
    address = "a list"

    def schema(self, schema_id: int) -> str | None:
        return {1: SCHEMA}.get(schema_id)


def decoder_of(form: str, **given: Any) -> Decoder:
    json_needs = {"format": "json", "time_field": "ts", "time_unit": "ms"}
    settings = InputSettings(**((json_needs if form == "json" else {}) | LONG | given))
    return open_decoder(settings, Schemas(), lambda: 0.0)


def point(host: str | None, name: str | None, value: float | None, at: int = 0) -> dict[str, Any]:
    return {"host": host, "ts": T0 + at, "name": name, "value": value, "quality": 1}


def encoded(form: str, records: list[dict[str, Any]]) -> list[bytes]:
    if form == "json":
        return [json.dumps(record).encode() for record in records]
    return [encode_records(SCHEMA, 1, [record])[0] for record in records]


def batch_of(values: list[bytes]) -> Batch:
    n = len(values)
    keys = Blob.join([b"key"] * n)
    return Batch("in", 0, Blob.join(values), keys, np.arange(n), np.zeros(n, np.int64))


def decoded(form: str, values: list[bytes], **given: Any) -> tuple[Columns, list[str], list[str]]:
    decoder = decoder_of(form, **given)
    entities, metrics = Directory(), list[str]()
    batch = batch_of(values)
    decoder.prepare(batch)
    columns = decoder.decode(batch, entities, metrics)
    assert sorted([*columns.accepted, *columns.rejected]) == list(range(len(values)))
    return columns, entities.names(), metrics


MIXED = [
    point("a", "cpu", 1.0),
    point("", "lost", 1.0),
    point("b", "mem", 2.0),
    point("a", "", 3.0),
    point("a", None, 3.0),
    point("a", "c\x07", 3.0),
    point("a", "c\xa0x", 3.0),
    point("new", "late", 3.0, at=-T0),
    point("a", "mem", None),
    point("a", "mem", math.inf),
    point("a", "cpu", 4.0, at=5),
]
REASONS = {
    1: Reason.ENTITY_INVALID,
    3: Reason.METRIC_INVALID,
    4: Reason.METRIC_INVALID,
    5: Reason.METRIC_INVALID,
    6: Reason.METRIC_INVALID,
    7: Reason.TIME_OUT_OF_RANGE,
    9: Reason.NOT_FINITE,
}


@pytest.mark.parametrize("form", ["avro", "json"])
def test_a_record_is_one_metric_of_its_entity(form: str) -> None:
    columns, names, metrics = decoded(form, encoded(form, MIXED))
    assert (names, metrics) == (["a", "b"], ["cpu", "mem"])
    rejected = zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True)
    assert {row: Reason(code) for row, code in rejected} == REASONS
    assert columns.accepted.tolist() == [0, 2, 8, 10]
    assert columns.entity.tolist() == [0, 1, 0, 0]
    assert columns.time_ms.tolist() == [T0, T0, T0, T0 + 5]
    nan = math.nan
    np.testing.assert_array_equal(columns.values, [[1, nan], [nan, 2], [nan, nan], [4, nan]])
    layout, layouts = columns.field_order()
    assert [layouts[row].tolist() for row in layout.tolist()] == [[0], [1], [1], [0]]


@pytest.mark.parametrize("form", ["avro", "json"])
@pytest.mark.parametrize("cut", [1, 3, 8])
def test_batch_cuts_change_nothing(form: str, cut: int) -> None:
    values = encoded(form, MIXED)
    whole, names, metrics = decoded(form, values)
    decoder = decoder_of(form)
    entities, grown = Directory(), list[str]()
    batch = batch_of(values)
    decoder.prepare(batch)
    parts = [
        decoder.decode(batch.rows(low, high), entities, grown)
        for low, high in ((0, cut), (cut, len(values)))
    ]
    assert (entities.names(), grown) == (names, metrics)
    assert [*parts[0].entity, *parts[1].entity] == whole.entity.tolist()
    assert [*parts[0].reasons, *parts[1].reasons] == whole.reasons.tolist()


@pytest.mark.parametrize("form", ["avro", "json"])
def test_include_and_exclude_name_metrics(form: str) -> None:
    values = encoded(form, MIXED)
    for given in ({"exclude": "MEM"}, {"include": "cpu"}):
        columns, names, metrics = decoded(form, values, **given)
        assert (names, metrics) == (["a", "b"], ["cpu"])
        np.testing.assert_array_equal(columns.values[:, 0], [1, math.nan, math.nan, 4])


@pytest.mark.parametrize("form", ["avro", "json"])
def test_the_number_of_names_is_bounded(form: str) -> None:
    points = [point("a", f"m{i}", 1.0, i) for i in range(MOST_NAMES + 3)]
    columns, _, metrics = decoded(form, encoded(form, [*points, points[0]]))
    assert len(metrics) == MOST_NAMES
    assert columns.reasons.tolist() == [Reason.TOO_MANY_NAMES] * 3
    assert columns.accepted.tolist()[-1] == len(points)


@pytest.mark.parametrize("form", ["avro", "json"])
def test_fields_that_are_not_there_are_named(form: str) -> None:
    (value,) = encoded(form, [point("a", "cpu", 1.0)])
    wrong = [
        ({"metric_field": "nmae"}, "'nmae', the metric's name by input.metric_field"),
        ({"value_field": "val"}, "'val', the metric's value by input.value_field"),
    ]
    for given, words in wrong:
        decoder = decoder_of(form, **given)
        batch = batch_of([value])
        decoder.prepare(batch)
        columns = decoder.decode(batch, Directory(), [])
        reason = Reason(int(columns.reasons[0]))
        assert reason in (Reason.SCHEMA_UNFIT, Reason.RECORD_UNFIT)
        assert words in decoder.detail(value, (), reason)


def test_a_detail_of_the_name() -> None:
    value = json.dumps(point("a", None, 1.0)).encode()
    assert decoder_of("json").detail(value, (), Reason.METRIC_INVALID) == "name is null"
    quoted = json.dumps(point("a", "cpu", 1.0) | {"value": "1"}).encode()
    detail = decoder_of("json").detail(quoted, (), Reason.RECORD_UNFIT)
    assert detail.startswith('value is the text "1"; a metric')


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metric_field": "name"}, "input.metric_field and input.value_field belong together"),
        ({"value_field": "value"}, "belong together"),
        ({"metric_field": "host", "value_field": "value"}, "name different fields"),
        ({"metric_field": "a", "value_field": "A"}, "name different fields"),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        InputSettings(**given)


# -- the results -----------------------------------------------------------------------------------


def points() -> list[dict[str, Any]]:
    """Three metrics of one host, twenty seconds apart; cpu jumps for an hour on the sixth day."""
    random = np.random.default_rng(5)
    found = []
    for step in range(288 * 7):
        season = math.sin(2 * math.pi * step / 288)
        spike = 40 if 288 * 5 < step < 288 * 5 + 12 else 0
        values = {
            "cpu": 40 + 20 * season + random.normal(0, 1.5) + spike,
            "mem": 60 + 5 * season + random.normal(0, 0.5),
            "net": 1000 + 300 * season + random.normal(0, 20),
        }
        for place, (name, value) in enumerate(values.items()):
            found.append(point("h", name, value, step * 300_000 + place * 20_000))
    return found


def test_an_alarm_is_the_metrics_own_and_absent_metrics_are_no_fault() -> None:
    kinds = {}
    for form in ("avro", "json"):
        decoder = decoder_of(form)
        configuration = Configuration(Detector.ENSEMBLE, 5, DetectionSettings(), QualitySettings())
        scorer = Scorer(PartitionState(0), Rules(configuration))
        values = encoded(form, points())
        kinds[form] = Counter[tuple[str, str | None]]()
        for start in range(0, len(values), 2000):
            batch = batch_of(values[start : start + 2000])
            decoder.prepare(batch)
            for anomaly in scorer.process(batch, decoder).anomalies:
                kinds[form][anomaly.kind.value, anomaly.metric] += 1
    assert kinds["json"] == {("anomaly", "cpu"): 1, ("episode_closed", "cpu"): 1}
    assert kinds["avro"] == kinds["json"]
