"""What ``lapwing tail`` prints for each kind of record."""

from __future__ import annotations

import io
import json
from typing import ClassVar

import numpy as np
import pytest

import schemas
from lapwing import tail
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.dead_letters import dead_letters
from shared.encode.records import encode_records
from shared.events import Reason
from shared.settings import Settings

TIME_MS = 1_397_619_300_000
ANOMALY = {
    "event_id": "0" * 32, "detector_id": "isolation_forest", "model_id": "3f2a",
    "model_version": "2014", "kind": "anomaly", "entity": "web-1", "metric": "cpu",
    "event_time": TIME_MS, "score": 0.71234, "severity": 0.9, "severity_class": "critical",
    "threshold": 0.6, "is_anomaly": True, "state": "READY", "attributions": {"cpu": 1.0},
    "reason": "cpu is 98, 3x its usual 31",
    "source_topic": "metrics.cloudwatch.raw", "source_partition": 3, "source_offset": 17,
}  # fmt: skip
SCORE = {
    "event_id": "0" * 32, "detector_id": "isolation_forest", "entity": "web-1",
    "event_time": TIME_MS, "score": 0.5, "severity": 0.25, "state": "READY", "late": True,
    "source_topic": "metrics.cloudwatch.raw", "source_partition": 3, "source_offset": 17,
    "metrics": [
        {"name": "cpu", "value": 98.25, "expected": 31.0, "lower": 18.0, "upper": 44.0},
        {"name": "disk_write", "value": None},
        {"name": "network_in", "value": 1234567.0},
    ],
}  # fmt: skip


def batch_of(name, records, topic="t"):
    values = encode_records(schemas.text(name), 7, records)
    count = len(values)
    return Batch(
        topic,
        3,
        values,
        Blob.join([b"web-1"] * count),
        np.arange(count) + 40,
        np.zeros(count, np.int64),
    )


def shown(stream, batch):
    texts = {
        7: schemas.text(schemas.ANOMALY_EVENT if stream == "anomalies" else schemas.SCORE_EVENT)
    }
    (document,) = tail.documents(batch, stream, texts.get)
    return tail.to_line(stream, document, "host"), json.loads(tail.to_json(document))


def test_an_anomaly():
    text, document = shown("anomalies", batch_of(schemas.ANOMALY_EVENT, [ANOMALY]))
    assert (
        text
        == "anomaly at 2014-04-16 03:35 host=web-1 score=0.7123 severity=critical because cpu is"
        " 98, 3x its usual 31"
    )
    assert document["event_time"] == "2014-04-16T03:35:00.000Z"
    assert document["attributions"] == {"cpu": 1.0}
    assert document["source_offset"] == 17


def test_a_cold_alarm_has_no_score():
    cold = ANOMALY | {"score": None, "severity_class": "minor", "cold_start": True}
    assert (
        " severity=minor because" in shown("anomalies", batch_of(schemas.ANOMALY_EVENT, [cold]))[0]
    )
    assert "score" not in shown("anomalies", batch_of(schemas.ANOMALY_EVENT, [cold]))[0]


def test_a_data_quality_verdict():
    late = {"reason": "no data", "since": TIME_MS - 60_000}
    gap = (
        ANOMALY
        | late
        | {
            "kind": "gap",
            "score": None,
            "severity": None,
            "severity_class": None,
            "is_anomaly": False,
        }
    )
    text, document = shown("anomalies", batch_of(schemas.ANOMALY_EVENT, [gap]))
    assert text == "gap at 2014-04-16 03:35 host=web-1 because no data"
    assert document["since"] == "2014-04-16T03:34:00.000Z"


def test_a_score():
    text, document = shown("scores", batch_of(schemas.SCORE_EVENT, [SCORE]))
    assert (
        text == "score at 2014-04-16 03:35 host=web-1 state=READY score=0.5 severity=0.25 late=yes "
        "cpu=98.25(18..44) disk_write=missing network_in=1.235e+06"
    )
    assert document["metrics"][0]["expected"] == 31.0


def test_a_score_while_warming_shows_no_number():
    warming = SCORE | {
        "score": None,
        "severity": None,
        "state": "WARMING",
        "late": False,
        "metrics": [],
    }
    assert (
        shown("scores", batch_of(schemas.SCORE_EVENT, [warming]))[0]
        == "score at 2014-04-16 03:35 host=web-1 state=WARMING"
    )
    cold = warming | {
        "warmup_percent": 12.34,
        "warmup_minutes_left": 90.0,
        "is_anomaly": True,
        "cold_start": True,
    }
    assert shown("scores", batch_of(schemas.SCORE_EVENT, [cold]))[0].endswith(
        "warmup=12% is_anomaly=yes cold_start=yes"
    )


def test_a_dead_letter():
    bad = Batch(
        "metrics.cloudwatch.raw",
        2,
        Blob.join([b"\x00" * 40]),
        Blob.join([b"web-9"]),
        np.array([1234]),
        np.zeros(1, int),
    )
    reasons = np.array([Reason.TRUNCATED], np.uint8)
    sent = dead_letters(
        "d",
        bad,
        np.zeros(1, np.int64),
        reasons,
        AvroDecoder.of_schemas({}, Settings().input),
        "lapwing-prediction",
        1000,
    )
    batch = Batch("d", 2, sent.values, sent.keys, np.array([5]), np.zeros(1, int), sent.headers)
    text, document = shown("dlq", batch)
    assert text == (
        "dead letter truncated source=metrics.cloudwatch.raw[2]@1234 key=web-9 size_bytes=40"
        ' bytes="' + " ".join(["00"] * 32) + '" because the bytes end before the last field'
    )
    assert (document["source_partition"], document["source_offset"], document["size_bytes"]) == (
        2,
        1234,
        40,
    )


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"\x01\x00\x00\x00\x07abc",
        b"\x00\x00\x00\x00\x09abc",
        b"\x00\x00\x00\x00\x07\x02",
    ],
)
def test_what_cannot_be_decoded_is_said(value):
    batch = Batch("s", 1, Blob.join([value]), Blob.join([None]), np.array([9]), np.zeros(1, int))
    text, document = shown("scores", batch)
    assert text.startswith("undecodable undecodable=s[1]@9") or "s[1]@9" in text
    assert document["bytes"] == value.hex(" ")


class FakeReader:
    batches: ClassVar[list] = []
    asked: ClassVar[list] = []

    def __init__(self, settings):
        pass

    def follow(self, topic, start, *, stopping):
        self.asked.append((topic, start))
        yield from self.batches
        while not stopping():
            pass


@pytest.fixture
def follow(monkeypatch):
    class FakeRegistry:
        def __init__(self, settings):
            pass

        def schema(self, schema_id):
            return schemas.text(schemas.ANOMALY_EVENT)

    monkeypatch.setattr(tail, "Reader", FakeReader)
    monkeypatch.setattr(tail, "Registry", FakeRegistry)
    FakeReader.batches = [
        batch_of(schemas.ANOMALY_EVENT, [ANOMALY] * 3),
        batch_of(schemas.ANOMALY_EVENT, [ANOMALY] * 3),
    ]
    FakeReader.asked = []
    ticks = iter(range(10_000))

    def run(**options):
        out = io.StringIO()
        given = tail.TailOptions("anomalies", **options)
        count = tail.follow(Settings(), given, out=out, clock=lambda: next(ticks))
        return count, out.getvalue().splitlines()

    return run


def test_max_ends_it(follow):
    count, lines = follow(limit=4)
    assert (count, len(lines)) == (4, 4)
    assert FakeReader.asked == [("anomalies.cloudwatch.events", "end")]


def test_silence_is_reported_where_no_record_came(follow, capsys):
    FakeReader.batches = []
    assert follow(timeout_s=50) == (0, [])
    assert capsys.readouterr().err == (
        "no record within 50 s from anomalies.cloudwatch.events; --from-beginning shows the"
        " existing records\n"
    )
    follow(timeout_s=50, from_beginning=True)
    assert capsys.readouterr().err == "no record within 50 s from anomalies.cloudwatch.events\n"


def test_silence_ends_it(follow, capsys):
    count, lines = follow(timeout_s=50, from_beginning=True, as_json=True)
    assert (count, len(lines)) == (6, 6)
    assert all(json.loads(line)["entity"] == "web-1" for line in lines)
    assert FakeReader.asked == [("anomalies.cloudwatch.events", "beginning")]
    assert capsys.readouterr().err == ""
