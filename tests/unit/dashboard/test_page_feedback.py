"""Feedback through the API: who may write, what is refused, and what comes back."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from dashboard.history.queries import History
from dashboard.history.results import Arrived
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.server import history_file, make_app
from shared.errors import TransportError
from shared.settings import load_settings
from tests.support.page_records import anomaly, arrived, incident

TOKEN = "a-token-of-some-length"
EVENT = anomaly(10)
INCIDENT = EVENT["event_id"]
SAID = {"incident_id": INCIDENT, "was": "noise", "note": "<b>load test</b>"}


class Site:
    """The API, and what it has written."""

    def __init__(self, folder, error=None, **dashboard):
        settings = load_settings({"state_dir": folder, "dashboard": dashboard}, environ={})
        self.store = Store(history_file(settings), Retention(30, 10**9))
        self.store.apply([arrived("anomalies", [EVENT]), arrived("incidents", [incident([EVENT])])])
        self.written = []
        self.error = error
        history = History(self.store.path, self.store)
        app = make_app(settings, history, Hub(5), dict, lambda: "", self.write)
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")

    def write(self, incident_id, record):
        if self.error:
            raise self.error
        self.written.append((incident_id, record))
        said = record or {"incident_id": incident_id, "was": None}
        self.store.apply([Arrived("feedback", 0, len(self.written), [0], feedback=[said])])

    def say(self, headers=None, **changed):
        return self.client.post("/v1/feedback", json=SAID | changed, headers=headers)

    def shown(self):
        return self.client.get(f"/v1/feedback/{INCIDENT}").json()


def test_feedback_is_written_shown_replaced_and_taken_back(tmp_path):
    site = Site(tmp_path)
    assert site.shown() == {"feedback": None, "read_only": False}
    answer = site.say()
    assert answer.status_code == 200
    ((incident_id, record),) = site.written
    assert incident_id == INCIDENT
    window = {"entity": "web-1", "start": EVENT["event_time"], "end": None}
    assert record["windows"] == [window]
    assert site.shown()["feedback"] == answer.json()["feedback"] == record
    assert site.say(was="real", note="").json()["feedback"]["was"] == "real"
    assert site.shown()["feedback"]["note"] == ""
    assert site.client.delete(f"/v1/feedback/{INCIDENT}").status_code == 200
    assert site.written[-1] == (INCIDENT, None)
    assert site.shown()["feedback"] is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"was": "maybe"}, "was"),
        ({"note": "x" * 1001}, "note"),
        ({"author": "x" * 101}, "author"),
        ({"incident_id": "../x"}, "incident_id"),
        ({"windows": []}, "windows"),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path, changed, field):
    site = Site(tmp_path)
    answer = site.say(**changed)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert site.written == []


def test_an_unknown_incident_and_too_large_a_body_are_refused(tmp_path):
    site = Site(tmp_path)
    answer = site.say(incident_id="0" * 32)
    assert answer.status_code == 404
    assert "no incident" in answer.json()["problem"]
    assert site.say(note="x" * 20_000).status_code == 413
    chunks = site.client.post("/v1/feedback", content=iter([b"{", b"}"]))
    assert chunks.status_code == 413
    assert site.written == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "null"},
    ],
)
def test_another_site_cannot_write_not_even_with_the_token(tmp_path, headers):
    site = Site(tmp_path, token=TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}"} | headers
    assert site.say(headers).status_code == 403
    assert site.client.delete(f"/v1/feedback/{INCIDENT}", headers=headers).status_code == 403
    assert site.written == []
    own = {"sec-fetch-site": "same-origin", "origin": "https://page.example"}
    assert site.say(headers | own).status_code == 200, "behind a proxy that rewrites Host"
    assert site.say({"authorization": f"Bearer {TOKEN}"}).status_code == 200, "a program"


def test_a_form_of_another_site_is_no_feedback(tmp_path):
    site = Site(tmp_path)
    text = '{"incident_id": "' + INCIDENT + '", "was": "real"}'
    answer = site.client.post("/v1/feedback", content=text, headers={"content-type": "text/plain"})
    assert answer.status_code == 422
    assert site.written == []


def test_writing_needs_the_token(tmp_path):
    site = Site(tmp_path, token=TOKEN)
    assert site.say().status_code == 401
    assert site.client.delete(f"/v1/feedback/{INCIDENT}").status_code == 401
    assert site.written == []
    assert site.client.post("/v1/session", json={"token": TOKEN}).status_code == 204
    assert site.say().status_code == 200


def test_a_page_that_only_shows_writes_nothing(tmp_path):
    site = Site(tmp_path, read_only=True)
    for answer in (site.say(), site.client.delete(f"/v1/feedback/{INCIDENT}")):
        assert answer.status_code == 403
        assert "dashboard.read_only" in answer.json()["problem"]
    assert site.shown() == {"feedback": None, "read_only": True}
    assert site.written == []


def test_a_broker_that_does_not_answer_is_said(tmp_path):
    site = Site(tmp_path, error=TransportError("kafka:9092 does not answer", retriable=True))
    answer = site.say()
    assert answer.status_code == 503
    assert answer.json()["problem"] == "the feedback was not written: kafka:9092 does not answer"


def test_a_recreated_topic_begins_without_feedback(tmp_path):
    site = Site(tmp_path)
    site.say()
    site.store.forget_offsets("feedback", "feedback")
    assert site.shown()["feedback"] is None
