"""Targets that apprise reaches, by its own JSON service; what is refused at the start."""

from __future__ import annotations

import json
from queue import SimpleQueue

import pytest

from lapwing.notify import apprise_receiver
from lapwing.notify.apprise_receiver import AppriseReceiver
from lapwing.notify.notify_service import targets_of
from shared.errors import ConfigError
from shared.settings import NotifySettings, TargetSettings, load_settings
from tests.support.receivers import receiver
from tests.unit.notify.test_notices import CLOSED, OPEN, notices


def sender(url: str, **more) -> AppriseReceiver:
    target = TargetSettings(kind="apprise", url=url, **more)
    return AppriseReceiver("chat", target, 5.0, lambda _: {"service": "web"})


def json_url(inbox) -> str:
    return inbox.url.replace("http://", "json://") + "?+Idempotency-Key=test"


def test_a_notice_is_delivered():
    with receiver() as inbox:
        for notice in notices(OPEN, CLOSED):
            if notice is not None:
                assert sender(json_url(inbox)).send(notice).delivered
    first, last = (json.loads(body) for _, _, body in inbox.requests)
    assert first["title"] == "[open] minor: web-1: cpu unusually high"
    assert first["message"].splitlines()[-1] == "lapwing incidents show e1open"
    assert (first["type"], last["type"]) == ("warning", "success")


def test_a_template_is_the_whole_message():
    with receiver() as inbox:
        sent = sender(json_url(inbox), template="$title, $labels").send(notices(OPEN)[0])
    assert sent.delivered
    [(_, _, body)] = inbox.requests
    assert json.loads(body)["message"] == "web-1: cpu unusually high, service=web"


@pytest.mark.parametrize("how", [500, 404, "drop"])
def test_what_fails_is_tried_again(how):
    with receiver([how]) as inbox:
        answer = sender(json_url(inbox)).send(notices(OPEN)[0])
    assert (answer.delivered, answer.refused) == (False, False)
    assert answer.why


def test_what_cannot_work_is_refused_at_the_start(monkeypatch):
    settings = NotifySettings(targets={"chat": {"kind": "apprise", "url": "nothing://x/y"}})
    with pytest.raises(ConfigError, match=r"notify\.targets\.chat\.url: apprise knows no such"):
        targets_of(settings, SimpleQueue())
    monkeypatch.setattr(apprise_receiver, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"notify\.targets\.chat: .* lapwing\[notify\]"):
        targets_of(settings, SimpleQueue())
    environ = {"LAPWING_NOTIFY__TARGETS": '{"a": {"kind": "apprise", "url": "x"}}'}
    with pytest.raises(ConfigError, match="such as ntfy://"):
        load_settings(environ=environ)
