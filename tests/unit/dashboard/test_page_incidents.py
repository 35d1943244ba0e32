"""Incidents and activations in the history and in the API: the newest record of each counts."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

from dashboard.history.queries import History
from dashboard.history.results import decode
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.server import history_file, make_app
from shared.batch import Batch, Blob
from shared.settings import load_settings
from tests.support.page_records import (
    SCHEMAS,
    START_MS,
    STEP_MS,
    activation,
    anomaly,
    arrived,
    closed,
    incident,
    score,
)

HOSTILE = "<img src=x onerror=alert(1)>_%"


class Site:
    """A history, and the API on it."""

    def __init__(self, folder):
        settings = load_settings({"state_dir": folder, "models_dir": folder / "m"}, environ={})
        self.store = Store(history_file(settings), Retention(30, 10**9))
        history = History(self.store.path, self.store)
        app = make_app(settings, history, Hub(5), lambda: {"topics": []}, lambda: "")
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")
        self.offset = 0

    def write(self, stream, records):
        changes = self.store.apply([arrived(stream, records, self.offset)])
        self.offset += len(records)
        return changes

    def get(self, path, **parameters):
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, **parameters):
        return [one["incident_id"] for one in self.get("/v1/incidents", **parameters)["incidents"]]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.write("scores", [score(row, entity=name) for row in range(300) for name in ("a", "b")])
    return site


def deletion(incident_id):
    """A tombstone as it lies in the topic."""
    place = np.array([99], np.int64)
    batch = Batch("i", 0, Blob.join([b""]), Blob.join([incident_id.encode()]), place, place)
    return decode(batch, "incidents", SCHEMAS.get)


def test_of_an_incident_the_newest_record_counts_and_none_after_its_deletion(site):
    first, other = anomaly(10, entity="a"), anomaly(12, entity="b")
    changes = site.write("incidents", [incident([first])])
    assert [one["incident_id"] for one in changes.incidents] == [first["event_id"]]
    assert "episodes" not in changes.incidents[0]
    site.write("incidents", [incident([first, other], 2)])
    (shown,) = site.get("/v1/incidents")["incidents"]
    assert (shown["revision"], shown["entities"], shown["open_count"]) == (2, ["a", "b"], 2)
    site.write("incidents", [incident([first, other], 3, end_row=40)])
    assert site.ids(state="open") == []
    assert site.ids(state="closed", entity="b") == [first["event_id"]]
    site.store.apply([deletion(first["event_id"])])
    assert site.ids() == []
    assert site.ids(entity="b") == []


def test_incidents_are_filtered_ordered_and_paged(site):
    minor = anomaly(50, entity="a", severity=0.6, peak_severity=0.6)
    major = anomaly(20, entity="b", severity=0.75, peak_severity=0.75)
    hostile = anomaly(30, entity=HOSTILE, severity=0.9)
    site.write("incidents", [incident([minor]), incident([major], 2, 25), incident([hostile])])
    by_time = [one["event_id"] for one in (minor, hostile, major)]
    assert site.ids() == by_time
    assert site.ids(order="severity") == [one["event_id"] for one in (hostile, major, minor)]
    assert site.ids(severity=["major", "critical"]) == by_time[1:]
    assert site.ids(q=HOSTILE) == [hostile["event_id"]]
    assert site.ids(q="%") == [hostile["event_id"]], "a wildcard is a character"
    assert site.ids(limit=1, offset=1) == by_time[1:2]
    assert site.get("/v1/incidents", limit=1)["total"] == 3
    span = {"from": START_MS + 22 * STEP_MS, "to": START_MS + 26 * STEP_MS}
    assert site.ids(**span) == [major["event_id"]]
    assert site.ids(**{"from": START_MS + 26 * STEP_MS}) == by_time[:2]


def test_one_incident_links_its_episodes_and_an_anomaly_its_incident(site):
    known, unknown = anomaly(10, entity="a"), anomaly(12, entity="b")
    site.write("anomalies", [known])
    site.write("incidents", [incident([known, unknown])])
    shown = site.get(f"/v1/incidents/{known['event_id']}")
    assert [one["event_id"] for one in shown["episodes"]] == [known["event_id"], None]
    assert shown["clock_ms"] == START_MS + 299 * STEP_MS
    assert site.get(f"/v1/anomalies/{known['event_id']}")["incident_id"] == known["event_id"]
    other = anomaly(40, entity="a")
    site.write("anomalies", [other])
    assert site.get(f"/v1/anomalies/{other['event_id']}")["incident_id"] is None
    assert site.client.get(f"/v1/incidents/{'0' * 32}").status_code == 404


def test_similar_past_anomalies_are_listed_the_nearest_first(site):
    shares = {"cpu.jump": 1.0}
    past = anomaly(10, entity="a", attributions=shares, top_feature="cpu.jump", direction="up")
    mixed = {"cpu.jump": 0.5, "cpu.stuck": 0.5}
    far = anomaly(12, entity=HOSTILE, attributions=mixed, top_feature="cpu.stuck")
    later = past | anomaly(40, entity="b", attributions=shares, top_feature="cpu.jump")
    event = anomaly(20, "b", attributions=shares, top_feature="cpu.jump", direction="up")
    site.write("anomalies", [past, event])
    site.write("incidents", [incident([past]), incident([far], 2, 15), incident([later])])
    path = f"/v1/anomalies/{event['event_id']}/similar"
    nothing = {"incident_id": None, "compared": 0, "similar": []}
    assert site.get(path) == {"episode_id": event["event_id"], **nothing}, "of no incident yet"
    site.write("incidents", [incident([event])])
    found = site.get(path)
    assert (found["compared"], found["incident_id"]) == (4, event["event_id"])
    first, second = found["similar"]
    assert (first["entity"], first["likeness"]) == ("a", "almost the same")
    assert first["event_id"] == past["event_id"]
    assert first["reason"] == past["reason"]
    assert (second["entity"], second["event_id"], second["end"]) == (HOSTILE, None, far_end())
    assert second["distance"] > first["distance"]
    assert [one["entity"] for one in site.get(path, limit=1)["similar"]] == ["a"]
    assert "embedding" not in str(site.get(f"/v1/incidents/{event['event_id']}"))
    site.store.apply([deletion(past["event_id"])])
    assert [one["entity"] for one in site.get(path)["similar"]] == [HOSTILE]
    site.store.forget_offsets("incidents.topic", "incidents")
    assert site.get(path, limit=3)["compared"] == 0


def far_end():
    return START_MS + 15 * STEP_MS


def test_similar_ones_of_an_unknown_event_or_too_many_are_refused(site):
    assert site.client.get(f"/v1/anomalies/{'0' * 32}/similar").status_code == 404
    assert site.client.get("/v1/anomalies/unsafe/similar").status_code == 422
    answer = site.client.get(f"/v1/anomalies/{'0' * 32}/similar", params={"limit": 21})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "limit"


def test_the_fleet_counts_open_incidents(site):
    site.write("incidents", [incident([anomaly(1)]), incident([anomaly(2)], 2, 9)])
    fleet = site.get("/v1/entities")["fleet"]
    assert (fleet["incidents"], fleet["open_incidents"]) == (2, 1)


def test_a_recreated_incidents_topic_begins_empty(site):
    site.write("incidents", [incident([anomaly(1)])])
    site.store.forget_offsets("incidents.topic", "incidents")
    assert site.ids() == []
    assert site.store.offsets("incidents.topic") == {}


def test_old_closed_incidents_are_forgotten_with_their_entities(tmp_path):
    site = Site(tmp_path)
    site.store._retention = Retention(1, 10**9)
    site.write("incidents", [incident([anomaly(1)], 2, 9), incident([anomaly(2)])])
    site.write("scores", [score(row) for row in range(600)])
    site.store.seal()
    assert site.ids() == [anomaly(2)["event_id"]]
    (left,) = site.store._db.execute("SELECT count(*) FROM incident_entities").fetchone()
    assert left == 1
    (left,) = site.store._db.execute("SELECT count(*) FROM embeddings").fetchone()
    assert left == 1


def test_of_each_partition_the_newest_activation_is_shown(site):
    sha = "ab" * 32
    site.write("activations", [activation(0, 0), activation(1, 0), activation(1, 700, sha)])
    site.write("activations", [activation(0, 5) | {"group": "another group"}])
    partitions = site.get("/v1/models")["partitions"]
    assert [(one["partition"], one["since_offset"], one["model_id"]) for one in partitions] == [
        (0, 0, None),
        (1, 700, sha[:16]),
    ]


def test_the_budget_is_what_the_predictors_run_with_and_what_was_achieved(site):
    """Two entities of 299 steps (1.04 days); an hour of warm-up; two of four alarms count."""
    site.write("activations", [activation(0, 0, alarms_per_day=0.5, warmup_days=1 / 24)])
    opened = [anomaly(row, entity="a") for row in (5, 100, 200)]
    cold = anomaly(150, entity="b", cold_start=True)
    site.write("anomalies", [*opened, closed(opened[1], 120), cold])
    budget = site.get("/v1/pipeline")["budget"]
    days = 2 * (299 * STEP_MS / 86_400_000 - 1 / 24)
    assert budget["requested"] == 0.5
    assert budget["episodes"] == 2
    assert budget["entity_days"] == pytest.approx(days)
    assert budget["achieved"] == pytest.approx(2 / days)


def test_without_a_finished_warm_up_no_rate_is_claimed(site):
    budget = site.get("/v1/pipeline")["budget"]
    assert (budget["requested"], budget["achieved"], budget["entity_days"]) == (None, None, 0)
