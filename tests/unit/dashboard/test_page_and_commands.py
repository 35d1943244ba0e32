"""The same question gets the same numbers from the page's API and from the command line."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from typer.testing import CliRunner

from lapwing.app import app
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from shared.batch import Blob, Outgoing
from shared.encode.dead_letters import PREFIX, REASON
from shared.kafka import topic_specs
from shared.labels import read_labels
from shared.settings import Settings
from tests.support.page_records import anomaly, closed, incident, score
from tests.support.page_site import Site

ENTITIES = ("web-1", "web-2", "db/1")
ROWS = 60
TIMES = ("start", "end", "peak_time", "recorded_at", "window_start", "event_time", "since")
TIMES += ("episode_start",)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Results of every kind: scores, two incidents of three episodes, a gap, dead letters."""
    topics = {spec.name: spec.partitions for spec in topic_specs(Settings())}
    with EmbeddedBroker(topics) as broker, serve("127.0.0.1", 0) as registry:
        site = Site(broker, registry, tmp_path_factory.mktemp("state"))
        scores = [
            score(row, entity=name, value=0.1 + row / 7, severity=row / 600)
            for row in range(ROWS)
            for name in ENTITIES
        ]
        site.write(1, scores)
        opened = [
            anomaly(20, "web-1"),
            anomaly(21, "web-2", severity=0.71, peak_severity=0.71),
            anomaly(40, "db/1"),
        ]
        nothing = {"severity": None, "severity_class": None, "score": None, "attributions": {}}
        episode = dict.fromkeys(("episode_id", "phase", "episode_start", "peak_time"))
        gap = anomaly(50, "web-2", kind="gap", is_anomaly=False, since=scores[0]["event_time"])
        site.write(2, [*opened, closed(opened[2], 45), gap | nothing | episode])
        site.write(3, [incident(opened[:1]), incident(opened[2:])])
        site.write(3, [incident(opened[:2], 2), incident(opened[2:], 2, end_row=45)])
        for number, reason in enumerate(["not_avro", "not_avro", "time_invalid"]):
            headers = [(REASON, reason.encode()), (PREFIX + "offset", str(number).encode())]
            letter = Blob.join([b"x" * number])
            topic = site.settings.topics.dead_letters
            site.publisher.send(Outgoing(topic, letter, Blob.join([b"k"]), {0: tuple(headers)}))
        site.publisher.flush(10.0)
        site.environ = {
            f"LAPWING_KAFKA__{name.upper().replace('.', '_')}": value
            for name, value in broker.client_settings.items()
        } | {"LAPWING_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT", "LAPWING_REGISTRY__URL": registry.url}
        with site.dashboard():
            site.wait("/v1/entities", lambda answer: records(answer) == len(scores))
            site.wait("/v1/anomalies?kind=gap", lambda answer: answer["anomalies"])
            site.wait("/v1/incidents?state=closed", lambda answer: answer["total"])
            site.wait("/v1/pipeline", lambda answer: len(answer["dead_letters"]["newest"]) == 3)
            yield site


def records(answer):
    return sum(row["records"] for row in answer["entities"])


def command(site, *words):
    """Return what a command writes as JSON, one document per line; times as the API has them."""
    found = CliRunner(env=site.environ).invoke(app, [*words, "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return [plain(json.loads(line)) for line in found.stdout.splitlines()]


def plain(value):
    if isinstance(value, dict):
        return {name: time_ms(one) if name in TIMES else plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def time_ms(text):
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)


def by(name, documents):
    return {document[name]: document for document in documents}


def test_anomalies(site):
    printed = by(
        "event_id", command(site, "tail", "anomalies", "--from-beginning", "--timeout", "2")
    )
    kinds = "kind=anomaly&kind=episode_closed&kind=gap"
    shown = by("event_id", site.get(f"/v1/anomalies?{kinds}&limit=500")["anomalies"])
    assert len(printed) == 5
    assert shown.keys() == printed.keys()
    for event_id, document in printed.items():
        assert {name: shown[event_id][name] for name in document} == document


def test_incidents(site):
    printed = by("incident_id", command(site, "incidents", "list", "--state", "all"))
    shown = by("incident_id", site.get("/v1/incidents?limit=500")["incidents"])
    assert len(printed) == 2
    assert shown.keys() == printed.keys()
    compared = 0
    for incident_id, document in printed.items():
        row = shown[incident_id]
        assert {name: document[name] for name in row} == row
        (whole,) = command(site, "incidents", "show", incident_id)
        alike = site.get(f"/v1/anomalies/{incident_id}/similar")["similar"]
        for one in alike:
            assert one.pop("event_id") == one["episode_id"]
        assert whole.pop("similar") == alike
        compared += len(alike)
        page = site.get(f"/v1/incidents/{incident_id}")
        for episode in page["episodes"]:
            assert episode.pop("event_id") == episode["episode_id"]
        assert {name: page[name] for name in whole} == whole
    assert compared == 1, "the later one resembles the earlier one"
    still_open = command(site, "incidents", "list", "--state", "open")
    assert len(still_open) == site.get("/v1/incidents?state=open")["total"] == 1
    assert site.get("/v1/entities")["fleet"]["open_incidents"] == 1


def test_scores(site):
    printed = command(site, "tail", "scores", "--from-beginning", "--timeout", "2")
    assert len(printed) == ROWS * len(ENTITIES)
    for name in ENTITIES:
        own = sorted(
            (one for one in printed if one["entity"] == name), key=lambda one: one["event_time"]
        )
        (chart,) = site.get(f"/v1/series?entity={name}&width=4000")["metrics"]
        assert chart["time_ms"] == [one["event_time"] for one in own]
        assert chart["value"] == [one["metrics"][0]["value"] for one in own], "to the last digit"
        entity = site.get(f"/v1/entities/{name}")
        for field in ("score", "severity", "threshold", "state", "top_metric"):
            assert entity[field] == own[-1][field]


def test_rates(site):
    """What the pipeline view counts by the minute is what the topics hold."""
    page = site.get("/v1/pipeline?minutes=1440")
    (described,) = command(site, "topics", "describe")
    records = {one["topic"]: one["records"] for one in described}
    topics = site.settings.topics
    for name, topic in (
        ("scored", topics.scores),
        ("anomalies", topics.anomalies),
        ("dead_letters", topics.dead_letters),
    ):
        assert sum(minute[name] for minute in page["rates"]) == records[topic] > 0
    assert page["history"]["points"] == ROWS * len(ENTITIES)
    read = {one["topic"]: sum(one["positions"].values()) for one in page["topics"]}
    assert read == {topic: records[topic] for topic in read}


def test_episodes(site):
    """The spans of an entity's chart are the episodes of its incidents."""
    compared = 0
    for row in command(site, "incidents", "list", "--state", "all"):
        (whole,) = command(site, "incidents", "show", row["incident_id"])
        for entity in whole["entities"]:
            spans = by("id", site.get(f"/v1/series?entity={entity}")["episodes"])
            own = [one for one in whole["episodes"] if one["entity"] == entity]
            assert spans.keys() == {one["episode_id"] for one in own}
            for one in own:
                span = spans[one["episode_id"]]
                shown = (span["metric"], span["start_ms"], span["end_ms"], span["peak_severity"])
                assert shown == (one["metric"], one["start"], one["end"], one["severity"])
                compared += 1
    assert compared == 3


def test_dead_letters(site):
    (printed,) = command(site, "dlq", "list")
    shown = site.get("/v1/pipeline")["dead_letters"]["by_reason"]
    counts = {one["reason"]: one["count"] for one in shown}
    assert counts == {"not_avro": 2, "time_invalid": 1}
    assert counts == {one["reason"]: one["count"] for one in printed["reasons"]}


def run_command(site, *words, code=0):
    found = CliRunner(env=site.environ).invoke(app, list(words))
    assert found.exit_code == code, found.output
    return found


def test_feedback(site, tmp_path):
    """What is said on the page is listed by the command, and the other way round."""
    by_title = by("entity", command(site, "incidents", "list", "--state", "all"))
    on_page, by_command = by_title["db/1"]["incident_id"], by_title["web-1"]["incident_id"]
    assert command(site, "feedback", "list") == []
    said = site.post("/v1/feedback", {"incident_id": on_page, "was": "real", "note": "disk full"})
    assert said["feedback"]["note"] == "disk full"
    run_command(site, "feedback", "add", by_command[:31], "--was", "noise", "--by", "me")
    path = f"/v1/feedback/{by_command}"
    site.wait(path, lambda answer: answer["feedback"] is not None)
    listed = by("incident_id", command(site, "feedback", "list"))
    assert set(listed) == {on_page, by_command}
    for incident_id, record in listed.items():
        found = site.wait(
            f"/v1/feedback/{incident_id}", lambda answer: answer["feedback"] is not None
        )
        assert plain_times(found["feedback"]) == plain_times(record)
    labels = tmp_path / "labels.json"
    run_command(site, "feedback", "export", str(labels))
    windows = read_labels(labels.read_text("utf-8"), "labels")
    assert [window.kind for window in windows["db/1"]] == ["real"]
    run_command(site, "feedback", "undo", on_page)
    site.wait(f"/v1/feedback/{on_page}", lambda answer: answer["feedback"] is None)
    assert set(by("incident_id", command(site, "feedback", "list"))) == {by_command}
    for words, why in (
        (("add", "zz", "--was", "real"), "no such incident"),
        (("add", on_page, "--was", "maybe"), "allowed are real, noise"),
        (("add", on_page, "--was", "real", "--note", "x" * 1001), "at most 1000"),
        (("undo", on_page), "feedback on 0 incidents"),
        (("export", str(labels)), "none is marked real"),
    ):
        assert why in str(run_command(site, "feedback", *words, code=1).exception)


def plain_times(record):
    """Feedback with times as ms, whether they are text or not."""

    def ms(value):
        return time_ms(value) if isinstance(value, str) else value

    windows = [
        one | {"start": ms(one["start"]), "end": ms(one["end"])} for one in record["windows"]
    ]
    return record | {"written_at": ms(record["written_at"]), "windows": windows}
