"""A format that is added from outside: the product runs over it as over Avro, and says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from consumer_prediction.outgoing import Encoder, SchemaIds
from consumer_training.reading.history import History
from lapwing.backtest.feeds import Feed, TopicRange, within
from lapwing.backtest.run import Variant, run
from lapwing.dlq.record import verdicts_of
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.directory import Directory
from shared.encode.avro_columns import flat_schema
from shared.encode.dead_letters import PREFIX, REASON
from shared.encode.records import encode_records
from shared.events import Detector, Reason
from shared.ports import Decoder
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import (
    DetectionSettings,
    InputSettings,
    QualitySettings,
    Settings,
    TopicSettings,
)
from tests.support.line_format import LineDecoder, write_line

INPUT = InputSettings(max_record_bytes=200)
METRICS = ("cpu", "network")
SCHEMA = flat_schema("lapwing.Metric", "host", METRICS)
LINES: Decoder = LineDecoder(INPUT)
AVRO: Decoder = AvroDecoder.of_schemas({1: SCHEMA}, INPUT)
START_MS, STEP_MS = 1_400_000_000_000, 1_800_000
ROWS = 400
CONFIGURATION = Configuration(
    Detector.ENSEMBLE,
    5,
    DetectionSettings(warmup_days=0.2, alarms_per_day=5.0),
    QualitySettings(),
)


def events() -> list[tuple[str, int, dict[str, float]]]:
    """Two hosts with a season and spikes, a missing value, a time and a host that are refused."""
    random = np.random.default_rng(3)
    found = []
    for step in range(ROWS // 2):
        for host in ("host-0", "host-1"):
            load = 1.5 + math.sin(step / 30) + random.normal(0, 0.05)
            cpu = load * (30 if step % 60 == 59 else 1)
            network = math.nan if random.random() < 0.03 else 10 * load
            found.append((host, START_MS + step * STEP_MS, {"cpu": cpu, "network": network}))
    found[70] = ("host-0", 5, {"cpu": 1.0, "network": 1.0})
    found[71] = ("host-0", START_MS, {"cpu": math.inf, "network": 1.0})
    found[72] = ("\x07", START_MS, {"cpu": 1.0, "network": 1.0})
    found[73] = ("h" * 250, START_MS, {"cpu": 1.0, "network": 1.0})
    return found


def as_avro(host: str, time_ms: int, values: dict[str, float]) -> bytes:
    known = {name: None if math.isnan(value) else value for name, value in values.items()}
    return encode_records(SCHEMA, 1, [{"host": host, "timestamp": time_ms, **known}])[0]


def batch_of(values: list[bytes]) -> Batch:
    n = len(values)
    keys = Blob.join([b"key"] * n)
    return Batch("in", 0, Blob.join(values), keys, np.arange(n), np.zeros(n, np.int64))


POISON = b"no line"
IN_LINES = batch_of([*(write_line(*event) for event in events()), POISON, b""])
IN_AVRO = batch_of([*(as_avro(*event) for event in events()), POISON, b""])


def outcome_of(batch: Batch, decoder: Decoder) -> tuple[Outcome, Scorer]:
    scorer = Scorer(PartitionState(0), Rules(CONFIGURATION))
    decoder.prepare(batch)
    return scorer.process(batch, decoder), scorer


def test_the_predictor_says_the_same_to_the_byte() -> None:
    encoder = Encoder(TopicSettings(), SchemaIds(1, 2, 3), "g", 1000)
    sent = {}
    for name, batch, decoder in (("lines", IN_LINES, LINES), ("avro", IN_AVRO, AVRO)):
        outcome, scorer = outcome_of(batch, decoder)
        sent[name] = {one.topic: one for one in encoder.outcome(outcome, scorer.state)}
    assert set(sent["lines"]) == set(sent["avro"])
    for topic in (TopicSettings().scores, TopicSettings().anomalies):
        assert len(sent["lines"][topic]) > 0
        assert sent["lines"][topic].values.data == sent["avro"][topic].values.data
        assert sent["lines"][topic].headers == sent["avro"][topic].headers
    dead = sent["lines"][TopicSettings().dead_letters]
    message = [dict(dead.headers[row]) for row in range(len(dead))]
    assert [one[REASON] for one in message] == [
        b"time_out_of_range", b"not_finite", b"entity_invalid", b"too_large", b"malformed", b"empty"
    ]  # fmt: skip
    assert message[4][f"{PREFIX}exception.message"].endswith(
        b": a line is: entity time_ms metric=number ..."
    )


def test_the_gates_are_the_same() -> None:
    """A line of 250 letters is as much too large as its Avro record."""
    columns = {}
    for name, batch, decoder in (("lines", IN_LINES, LINES), ("avro", IN_AVRO, AVRO)):
        entities, metrics = Directory(), list[str]()
        columns[name] = decoder.decode(batch, entities, metrics)
        assert (entities.names(), metrics) == (["host-0", "host-1"], ["cpu", "network"])
    lines, avro = columns["lines"], columns["avro"]
    for part in ("accepted", "entity", "time_ms", "values", "rejected"):
        one, other = getattr(lines, part), getattr(avro, part)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert lines.reasons.tolist()[:4] == avro.reasons.tolist()[:4]


def test_training_reads_it() -> None:
    settings = Settings()
    histories = {"lines": History(LINES, settings), "avro": History(AVRO, settings)}
    for low, high in ((0, 100), (100, len(IN_LINES))):
        histories["lines"].add(IN_LINES.rows(low, high))
        histories["avro"].add(IN_AVRO.rows(low, high))
    lines, avro = histories["lines"].rows(), histories["avro"].rows()
    assert (lines.series, lines.metrics) == (avro.series, avro.metrics)
    assert len(lines) > 100
    np.testing.assert_array_equal(lines.time_ms, avro.time_ms)
    np.testing.assert_array_equal(lines.values, avro.values)
    assert histories["lines"].facts()["0"]["rejected"]["malformed"] == 1
    assert histories["lines"].decoder.schema_sha256() == []


def test_a_backtest_runs_over_it() -> None:
    found = []
    for batch, decoder in ((IN_LINES, LINES), (IN_AVRO, AVRO)):
        feed = Feed("f", len(batch), decoder, lambda batch=batch: iter([batch]))
        found += run(feed, [Variant("first", CONFIGURATION)])
    lines, avro = found
    assert [one.key for one in lines.series] == [("host-0", 0), ("host-1", 0)]
    assert len(lines.alarms) == len(avro.alarms) > 0
    for one, other in zip(lines.series, avro.series, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    wanted = TopicRange(True, START_MS, START_MS + 10 * STEP_MS)
    assert within(IN_LINES, LINES, wanted).offsets.tolist() == list(range(20))


def test_dead_letters_are_looked_at_with_it() -> None:
    good, bad = verdicts_of([write_line("host-1", START_MS, {"cpu": 1.0}), POISON], LINES)
    assert (good.reason, good.entity, good.time_ms) == (Reason.ACCEPTED, "host-1", START_MS)
    assert bad.sentence.endswith(": a line is: entity time_ms metric=number ...")


@pytest.mark.parametrize("cut", [1, 57, 74, 402])
def test_batch_cuts_change_nothing(cut: int) -> None:
    entities, metrics = Directory(), list[str]()
    whole = LINES.decode(IN_LINES, entities, metrics)
    cut_entities, cut_metrics = Directory(), list[str]()
    parts = [
        LINES.decode(IN_LINES.rows(low, high), cut_entities, cut_metrics)
        for low, high in ((0, cut), (cut, len(IN_LINES)))
    ]
    assert (cut_entities.names(), cut_metrics) == (entities.names(), metrics)
    times = np.concatenate([part.time_ms for part in parts])
    np.testing.assert_array_equal(times, whole.time_ms)


def test_a_rejected_record_brings_neither_entity_nor_metric() -> None:
    rows = [
        write_line("a", START_MS, {"cpu": 1.0}),
        write_line("c", 7, {"net": 1.0}),
        write_line("a", START_MS, {"net": math.nan, "cpu": 2.0}),
    ]
    entities, metrics = Directory(), list[str]()
    columns = LINES.decode(batch_of(rows), entities, metrics)
    assert (entities.names(), metrics) == (["a"], ["cpu", "net"])
    assert columns.accepted.tolist() == [0, 2]
    assert columns.reasons.tolist() == [Reason.TIME_OUT_OF_RANGE]
    np.testing.assert_array_equal(columns.values, [[1.0, math.nan], [2.0, math.nan]])
