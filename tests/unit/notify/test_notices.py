"""Which notice a record gives, to whom it goes, and what is sent."""

from __future__ import annotations

import hashlib
import hmac
import json
import re

import pytest

from shared.incidents.fold import IncidentFold
from shared.notices.bodies import alertmanager_body, mail, signature, text_of, webhook_body
from shared.notices.notice import (
    EntityFilter,
    Notice,
    NoticePhase,
    Route,
    Silence,
    is_silenced,
    notice_of,
)
from tests.support.anomaly_logs import BEGIN_MS, Row, alarm, apply, rules, verdict

NOW_MS = BEGIN_MS + 3_600_000


def records(*events):
    fold = IncidentFold(rules())
    rows = [Row(BEGIN_MS, event) for event in events]
    found = [change for k, row in enumerate(rows) for change in apply(fold, k, row)]
    return [change.incident.record() for change in found]


def notices(*events):
    return [notice_of(record) for record in records(*events)]


OPEN, WORSE, CLOSED = (
    alarm(1, "open", minute=1),
    alarm(1, "worse", minute=5, start=1, severity=0.9),
    alarm(1, "closed", minute=9, start=1, severity=0.9),
)


def named(pattern: str) -> EntityFilter:
    return EntityFilter(re.compile(pattern))


def test_phases_and_keys():
    found = notices(OPEN, WORSE, CLOSED)
    assert [one.phase for one in found] == ["open", "worse", "resolved"]
    assert [one.key for one in found] == ["e1open/open", "e1open/worse/critical", "e1open/resolved"]


@pytest.mark.parametrize("because", ["accepted", "silent", "restarted"])
def test_only_recovered_is_resolved(because):
    assert notices(OPEN, alarm(1, "closed", minute=9, because=because))[-1].phase == "ended"


def test_what_is_no_news():
    more = alarm(2, "open", minute=2, metric="disk")
    assert notices(OPEN, more)[-1] is None, "another episode of the same class"
    assert notices(CLOSED) == [None], "an end whose opening was lost"
    assert [one.phase for one in notices(alarm(4, None))] == ["open"], "version 1"


def test_routes():
    [record] = records(OPEN)
    assert Route("minor", named("web-.*")).takes(record)
    assert not Route("major", named(".*")).takes(record)
    assert not Route("info", named("web")).takes(record), "the whole name"


def test_silences():
    record = records(OPEN, alarm(2, "open", entity="web-2", minute=2))[-1]
    one, both = named("web-1"), named("web-[12]")
    assert not Silence(one).covers(record, 0), "not all of its entities"
    assert Silence(both).covers(record, 0)
    assert Silence(both, "cpu").covers(record, 0)
    assert not Silence(both, "disk").covers(record, 0)
    window = Silence(both, start_s=100, end_s=200)
    assert [window.covers(record, now) for now in (99, 100, 199, 200)] == [0, 1, 1, 0]
    assert not is_silenced(record, [], 0)


def test_alertmanager_body():
    [opened, *_, closed] = notices(OPEN, CLOSED)
    [alert] = json.loads(alertmanager_body(opened, NOW_MS, 7_200_000))
    assert alert["startsAt"] < alert["endsAt"]
    assert alert["endsAt"].startswith("2014-05-13T19:53:20")
    [over] = json.loads(alertmanager_body(closed, NOW_MS, 7_200_000))
    assert over["labels"] == alert["labels"], "labels identify the alert"
    assert over["endsAt"].startswith("2014-05-13T17:53:20")


def test_a_start_ahead_of_now_is_sent_as_now():
    [opened] = notices(OPEN)
    [alert] = json.loads(alertmanager_body(opened, BEGIN_MS - 5_000, 1_000))
    assert alert["startsAt"] < alert["endsAt"]
    assert alert["startsAt"] < "2014-05-13T16:53:16"


def test_webhook_bodies_and_signature():
    [opened] = notices(OPEN | {"reason": "a <b> & c", "entity": "web<1>"})
    body = json.loads(webhook_body(opened, "json"))
    assert (body["phase"], body["key"]) == ("open", "e1open/open")
    assert body["incident"]["start"] == "2014-05-13T16:54:20.000Z"
    assert "episodes" not in body["incident"]
    slack = json.loads(webhook_body(opened, "slack"))
    assert list(slack) == ["text"]
    assert "a &lt;b&gt; &amp; c" in slack["text"]
    header = signature("k", 5, b"{}")
    assert header == "t=5,v1=" + hmac.new(b"k", b"5.{}", hashlib.sha256).hexdigest()


def test_mail():
    opened, closed = notices(OPEN | {"entity": "web\n1"}, CLOSED | {"entity": "web\n1"})
    first, last = (mail(one, "a@b", ("c@d", "e@f")) for one in (opened, closed))
    assert first["Subject"] == "[open] minor: web 1: cpu unusually high"
    assert first["To"] == "c@d, e@f"
    assert first["Date"] == "Tue, 13 May 2014 16:53:20 -0000"
    assert first["Message-ID"] != last["Message-ID"]
    assert first["References"] == last["References"], "one thread"
    assert first["Message-ID"] == mail(opened, "a@b", ("c@d",))["Message-ID"], "repeats are known"


def test_a_text_says_what_is_needed():
    [record] = records(verdict("stopped", minute=30, since=10))
    text = text_of(Notice(NoticePhase.OPEN, record))
    assert text.splitlines()[0] == "[open] major: web-1 stopped reporting"
    assert "since 2014-05-13 17:03 UTC" in text
