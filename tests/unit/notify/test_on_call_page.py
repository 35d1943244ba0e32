"""What docs/on-call.md shows is what receivers and terminals get, word for word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lapwing.incidents.incident_list import to_line
from shared.incidents.fold import IncidentFold
from shared.notices.bodies import alertmanager_body, mail, text_of, webhook_body
from shared.notices.notice import Notice, notice_of
from tests.support.anomaly_logs import BEGIN_MS, Row, alarm, apply, rules

PAGE = (Path(__file__).parents[3] / "docs" / "on-call.md").read_text("utf-8")
REASON = "cpu rose to {}, the middle of the six values before; usually about {} at 16:50"
REASONS = REASON.format("93.1 from about 21.4", 22), REASON.format("88.7 from about 20.2", 21.3)


def story() -> list[dict]:
    """Return the records of one incident of two entities, from its opening to its end."""
    ids = [f"6d1f0a3cb65e4f7a8c2d1e0f9a8b7c{k:02x}" for k in range(2)]
    more = [
        {"entity": f"web-{k}", "reason": REASONS[k], "episode_id": ids[k], "peak_value": 93.1 - k}
        for k in range(2)
    ]
    events = [
        alarm(k, "open", minute=k, severity=0.74, **more[k], event_id=ids[k]) for k in range(2)
    ]
    events.append(alarm(0, "worse", minute=10, start=0, severity=0.91, **more[0]))
    events += [
        alarm(k, "closed", minute=40 + k, start=k, severity=0.91 - k / 5, **more[k])
        for k in range(2)
    ]
    fold = IncidentFold(rules())
    rows = [Row(BEGIN_MS, event) for event in events]
    changes = [one for offset, row in enumerate(rows) for one in apply(fold, offset, row)]
    return [one.incident.record() for one in changes if one.incident is not None]


RECORDS = story()
NOTICES: dict[str, Notice] = {
    one.phase.value: one for record in RECORDS if (one := notice_of(record)) is not None
}


@pytest.mark.parametrize("phase", ["open", "worse", "resolved"])
def test_texts(phase):
    assert f"```\n{text_of(NOTICES[phase])}\n```" in PAGE


def test_a_mail():
    message = mail(NOTICES["worse"], "lapwing@example.com", ("desk@example.com",))
    for name in ("Subject", "Date", "Message-ID", "References", "Idempotency-Key"):
        assert f"{name}: {message[name]}" in PAGE


def test_a_webhook():
    body = json.loads(webhook_body(NOTICES["worse"], "json"))
    assert f'"phase": "{body["phase"]}", "key": "{body["key"]}"' in PAGE


def test_an_alert():
    text = alertmanager_body(NOTICES["worse"], BEGIN_MS + 600_000, 1, {"service": "web"})
    [alert] = json.loads(text)
    labels = " ".join(f'{name}="{value}"' for name, value in sorted(alert["labels"].items()))
    assert labels in PAGE
    for name in ("summary", "severity", "entities"):
        assert f'{name}="{alert["annotations"][name]}"' in PAGE


def test_the_terminal():
    assert to_line(RECORDS[2]) in PAGE
