"""The main job on a real Kafka, from CSV to anomaly, in processes of their own."""

import signal

import pytest

import schemas
from shared.encode.records import decode_records
from tests.support.services.stack import conserved, log_of, oracle

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
