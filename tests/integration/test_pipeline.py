"""The main job on a real Kafka, from CSV to anomaly, in processes of their own."""

import signal

import pytest

import schemas
from lapwing.topics import ensure
from shared.encode.records import decode_records
from tests.support.services.stack import Stack, conserved, log_of, oracle

pytestmark = pytest.mark.integration


def test_each_record_has_one_result_and_it_is_the_right_one(replayed):
    predictor = replayed.start("consumer_prediction")
    replayed.wait_until_scored()
    predictor.send_signal(signal.SIGTERM)
    assert predictor.wait(20) == 0, log_of(predictor)
    conserved(replayed)
    results = replayed.results()
    values = [value for _, value, _ in results["anomalies"]]
    events = decode_records(values, [schemas.text(schemas.ANOMALY_EVENT)] * len(values))
    assert any(event["is_anomaly"] for event in events)
    assert results == oracle(replayed)


def test_the_native_client_gives_the_same_bytes(replayed):
    """It reads the same log, and writes to topics of its own what the other client has written."""
    topics = replayed.settings.topics
    own = ("scores", "anomalies", "dead_letters", "activations")
    native = Stack(
        replayed.settings,
        replayed.folder,
        LAPWING_ENGINE="native",
        LAPWING_TOPICS__INPUT=topics.input,
        LAPWING_PREDICT__GROUP=f"{replayed.settings.predict.group}-native",
        **{f"LAPWING_TOPICS__{name.upper()}": f"{getattr(topics, name)}.native" for name in own},
    )
    ensure(native.settings).checked()
    predictor = native.start("consumer_prediction")
    try:
        native.wait_until_scored()
        predictor.send_signal(signal.SIGTERM)
        assert predictor.wait(20) == 0, log_of(predictor)
        written, expected = native.results(), replayed.results()
    finally:
        native.close()
    assert len(expected["scores"]) > 1000
    assert {name: written[name] for name in ("scores", "anomalies")} == {
        name: expected[name] for name in ("scores", "anomalies")
    }
    dead = [record[:2] for record in expected["dead"]]
    assert [record[:2] for record in written["dead"]] == dead, "headers name the group"
