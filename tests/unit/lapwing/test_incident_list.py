"""What ``lapwing incidents list`` and ``show`` print."""

from __future__ import annotations

import io
import json

import pytest

from lapwing.incidents import incident_list
from lapwing.incidents.incident_list import list_incidents, show_incident
from shared.errors import ConfigError
from shared.incidents.fold import IncidentFold
from shared.settings import Settings
from tests.support.anomaly_logs import BEGIN_MS, Row, alarm, apply, rules, verdict


@pytest.fixture
def incidents(monkeypatch):
    fold = IncidentFold(rules())
    events = [
        alarm(1, "open", minute=1),
        alarm(1, "closed", minute=61, start=1),
        alarm(12, "open", minute=90, entity="db"),
        verdict("stopped", minute=130, since=120),
    ]
    for offset, event in enumerate(events):
        apply(fold, offset, Row(BEGIN_MS, event))
    records = {key: one.record() for key, one in fold.incidents.items()}
    monkeypatch.setattr(incident_list, "all_incidents", lambda _: records)
    said = {"e1open": {"was": "real", "note": "disk\x1b[2J full"}}
    monkeypatch.setattr(incident_list, "all_feedback", lambda _: said)
    return records


def shown(call, *arguments, **options) -> str:
    out = io.StringIO()
    call(Settings(), *arguments, **options, out=out)
    return out.getvalue()


def test_open_ones_are_listed_the_newest_last(incidents):
    text = shown(list_incidents, state="open", limit=10, as_json=False)
    assert [line.split(" title=")[1] for line in text.splitlines()] == [
        '"db: cpu unusually high"',
        '"web-1 stopped reporting"',
    ]
    assert len(shown(list_incidents, state="open", limit=1, as_json=False).splitlines()) == 1


def test_all_are_listed_as_json(incidents):
    text = shown(list_incidents, state="all", limit=10, as_json=True)
    found = [json.loads(line) for line in text.splitlines()]
    assert [one["state"] for one in found] == ["closed", "open", "open"]
    assert found[0]["start"] == "2014-05-13T16:54:20.000Z"
    assert found[0]["episodes"][0]["end"] == "2014-05-13T17:54:20.000Z"


def test_none_is_said(monkeypatch):
    monkeypatch.setattr(incident_list, "all_incidents", lambda _: {})
    text = shown(list_incidents, state="open", limit=10, as_json=False)
    assert text == "no open incidents in anomalies.cloudwatch.incidents\n"


def test_one_is_shown_by_the_beginning_of_its_id(incidents):
    text = shown(show_incident, "stop", as_json=False)
    assert text.startswith("web-1 stopped reporting\n")
    assert "open  web-1 stopped" in text
    closed = shown(show_incident, "e1open", as_json=False)
    assert "closed after 1 h: recovered" in closed
    assert "reason 1 open" in closed
    assert closed.endswith("  similar past ones\n    none that is kept\n")


def test_similar_past_ones_are_shown_with_what_they_were(incidents):
    text = shown(show_incident, "e12open", as_json=False)
    assert text.endswith(
        "  similar past ones\n"
        "    2014-05-13 16:54  almost the same: web-1 cpu, recovered after 1 h\n"
        "      it was real: disk?[2J full\n"
        "      reason 1 open\n"
        "      lapwing incidents show e1open\n"
    )
    (similar,) = json.loads(shown(show_incident, "e12open", as_json=True))["similar"]
    assert similar["incident_id"] == similar["episode_id"] == "e1open"
    assert similar["distance"] == 0
    assert similar["end"] == "2014-05-13T17:54:20.000Z"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("e1", "2 incidents .* begin with it"), ("nope", "no such incident"), ("", "begin with it")],
)
def test_an_unknown_or_ambiguous_id_is_refused(incidents, wanted, message):
    with pytest.raises(ConfigError, match=message):
        show_incident(Settings(), wanted, as_json=False)
