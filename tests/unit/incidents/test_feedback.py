"""Feedback on incidents as labels for training."""

from __future__ import annotations

import pytest

import schemas
from shared.encode.records import decode_records
from shared.errors import DataError
from shared.incidents.feedback import Was, complete, feedback_on, labels_text, outgoing
from shared.labels import find, read_labels
from tests.support.page_records import START_MS, STEP_MS, anomaly, incident

HOSTILE = 'a,"b\n<i>'


def said(record, was=Was.REAL):
    return {record["incident_id"]: feedback_on(record, was, "", "", 5)}


def test_real_incidents_are_labels_that_training_reads():
    one, other = incident([anomaly(10, HOSTILE)], 2, 20), incident([anomaly(30)], 2, 40)
    noise, still_open = incident([anomaly(50)], 2, 60), incident([anomaly(70)])
    feedback = said(one) | said(other) | said(noise, Was.NOISE) | said(still_open)
    labels = read_labels(labels_text(feedback, {}), "labels.json")
    assert sorted(labels) == [HOSTILE, "web-1"]
    for entity, first, last in ((HOSTILE, 10, 20), ("web-1", 30, 40)):
        (window,) = find(labels, entity)
        span = (START_MS + first * STEP_MS, START_MS + last * STEP_MS)
        assert (window.start_ms, window.end_ms, window.kind) == (*span, "real")


def test_the_times_of_a_kept_incident_count():
    early, late = incident([anomaly(10)]), incident([anomaly(10)], 3, 25)
    labels = read_labels(labels_text(said(early), {early["incident_id"]: late}), "labels.json")
    assert labels["web-1"][0].end_ms == START_MS + 25 * STEP_MS


def test_nothing_to_export_is_an_error_that_says_why():
    with pytest.raises(DataError, match="none is marked real"):
        labels_text(said(incident([anomaly(1)], 2, 3), Was.NOISE), {})
    with pytest.raises(DataError, match="all that are marked real are still open"):
        labels_text(said(incident([anomaly(1)])), {})


def test_a_record_comes_back_as_it_was_and_none_is_a_tombstone():
    (record,) = said(incident([anomaly(1), anomaly(2, HOSTILE)], 2, 9)).values()
    written = outgoing("feedback", record["incident_id"], record, 7)
    text = schemas.text(schemas.FEEDBACK)
    assert complete(decode_records([written.values[0]], [text])[0]) == record
    assert written.keys[0] == record["incident_id"].encode()
    assert not outgoing("feedback", "i", None, 7).values[0]
    with pytest.raises(ValueError, match="maybe"):
        complete(record | {"was": "maybe"})


def test_too_long_texts_are_refused_by_name():
    record = incident([anomaly(1)])
    with pytest.raises(ValueError, match="note has 1001 characters, at most 1000"):
        feedback_on(record, Was.REAL, "x" * 1001, "", 0)
    with pytest.raises(ValueError, match="author"):
        feedback_on(record, Was.REAL, "", "x" * 101, 0)
