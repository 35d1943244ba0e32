"""``lapwing incidents`` on a real Kafka: an owner, a standby, a zombie, and what is shown."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from lapwing.topics import ensure
from shared.kafka import Admin
from shared.labels import read_labels
from tests.support.anomaly_logs import alarm
from tests.support.incident_oracle import compared, publish
from tests.support.receivers import receiver
from tests.support.services.stack import Stack, log_of

pytestmark = pytest.mark.integration


@pytest.fixture
def stack(registry_settings, tmp_path):
    stack = Stack(registry_settings, tmp_path)
    stack.environ["LAPWING_INCIDENTS__GROUP"] = f"{stack.settings.topics.dataset}-incidents"
    stack.settings = stack.settings.model_copy(
        update={
            "incidents": stack.settings.incidents.model_copy(
                update={"group": stack.environ["LAPWING_INCIDENTS__GROUP"]}
            )
        }
    )
    ensure(stack.settings).checked()
    yield stack
    stack.close()


def wait(done, what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def position(stack: Stack) -> int:
    found = Admin(stack.settings).committed(
        stack.settings.incidents.group, stack.settings.topics.anomalies
    )
    return found[0].offset if found else 0


def test_owner_standby_and_what_is_shown(stack: Stack) -> None:
    first = stack.start("lapwing.incidents")
    publish(stack.settings, [alarm(k, "open", entity=f"web-{k}", minute=k) for k in range(3)])
    wait(lambda: position(stack) == 3, "the first three anomalies")
    listed = stack.run("lapwing", "incidents", "list", "--json").splitlines()
    assert [json.loads(one)["entity_count"] for one in listed] == [3]

    second = stack.start("lapwing.incidents")
    wait(lambda: "folding incidents" in Path(second.log).read_text(), "the standby")
    publish(stack.settings, [alarm(9, "open", entity="db", metric="io", minute=50)])
    wait(lambda: position(stack) == 4, "the fourth anomaly")
    first.send_signal(signal.SIGSTOP)  # longer than its session: a zombie
    wait(lambda: "anomalies taken over" in Path(second.log).read_text(), "the takeover")
    publish(
        stack.settings,
        [alarm(k, "closed", entity=f"web-{k}", minute=60, start=k) for k in range(3)],
    )
    wait(lambda: position(stack) == 7, "the ends")
    first.send_signal(signal.SIGCONT)
    time.sleep(2)
    assert first.poll() in (None, 1), log_of(first)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0, log_of(second)
    found = compared(stack.settings)
    assert found.pop("written") == 7
    assert found.total() == 0, found
    shown = stack.run("lapwing", "incidents", "show", "e0open")
    assert "web-0 and 2 more: cpu unusually high" in shown
    assert "closed after 1 h: recovered" in shown
    check_feedback(stack)


def check_feedback(stack: Stack) -> None:
    """Feedback is kept by the topic, shown where it helps, and read by training."""
    stack.run("lapwing", "feedback", "add", "e0open", "--was", "noise")
    stack.run("lapwing", "feedback", "add", "e0open", "--was", "real", "--note", "disk full")
    (given,) = stack.run("lapwing", "feedback", "list", "--json").splitlines()
    assert (json.loads(given)["was"], json.loads(given)["note"]) == ("real", "disk full")
    similar = stack.run("lapwing", "incidents", "show", "e9open")
    assert "it was real: disk full" in similar
    labels = Path(stack.environ["LAPWING_STATE_DIR"]).parent / "labels.json"
    assert "3 windows" in stack.run("lapwing", "feedback", "export", str(labels))
    windows = read_labels(labels.read_text("utf-8"), "labels.json")
    assert sorted(windows) == ["web-0", "web-1", "web-2"]
    stack.run("lapwing", "feedback", "undo", "e0open")
    assert "no feedback" in stack.run("lapwing", "feedback", "list")


def test_notices_survive_a_kill(stack: Stack) -> None:
    """A receiver answers 500, drops a connection and hangs, and the sender is killed meanwhile."""
    with receiver([500, "drop", "hang"]) as inbox:
        stack.environ |= {
            "LAPWING_NOTIFY__GROUP": f"{stack.settings.topics.dataset}-notify",
            "LAPWING_NOTIFY__TARGETS": json.dumps({"ops": {"kind": "webhook", "url": inbox.url}}),
            "LAPWING_NOTIFY__TIMEOUT_S": "1",
            "LAPWING_SLOT": "a",
        }
        stack.start("lapwing.incidents")
        sender = stack.start("lapwing.notify")
        wait(lambda: "incidents taken over" in Path(sender.log).read_text(), "the sender")
        publish(stack.settings, [alarm(1, "open"), alarm(1, "closed", minute=9, start=0)])
        wait(lambda: len(inbox.requests) >= 3, "three attempts")
        sender.kill()
        sender.wait()
        sender = stack.start("lapwing.notify")
        wait(lambda: set(inbox.keys) == {"e1open/open", "e1open/resolved"}, "both notices")
        sender.send_signal(signal.SIGTERM)
        assert sender.wait(30) == 0, log_of(sender)


def test_a_deleted_incidents_topic_is_named(stack: Stack) -> None:
    """Both services name the missing topic, and recognise that a new one is not the former."""
    topic = stack.settings.topics.incidents
    stack.environ["LAPWING_OUTAGE_DEADLINE_S"] = "5"
    with receiver([]) as inbox:
        stack.environ |= {
            "LAPWING_NOTIFY__GROUP": f"{stack.settings.topics.dataset}-notify",
            "LAPWING_NOTIFY__TARGETS": json.dumps({"ops": {"kind": "webhook", "url": inbox.url}}),
        }
        folding, sending = stack.start("lapwing.incidents"), stack.start("lapwing.notify")
        wait(lambda: "incidents taken over" in Path(sending.log).read_text(), "the sender")
        publish(stack.settings, [alarm(1, "open", entity="web-1")])
        wait(lambda: set(inbox.keys) == {"e1open/open"}, "the notice")
        delete(stack, topic)
        publish(stack.settings, [alarm(2, "open", entity="db-1", metric="io", minute=90)])
        for ended in (folding, sending):
            assert ended.wait(90) == 1, log_of(ended)
            assert topic in Path(ended.log).read_text()[-2_000:], log_of(ended)
        for module in ("lapwing.incidents", "lapwing.notify"):
            refused = stack.start(module)
            assert refused.wait(60) in (1, 2), log_of(refused)
            assert topic in Path(refused.log).read_text(), log_of(refused)
        ensure(stack.settings).checked()
        recreated = stack.start("lapwing.incidents")
        assert recreated.wait(60) == 1, log_of(recreated)
        assert "was deleted and recreated" in Path(recreated.log).read_text()
        assert position(stack) == 1, "the second alarm is still to be folded"


def delete(stack: Stack, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": stack.settings.bootstrap})
    admin.delete_topics([topic])[topic].result(15)
    wait(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
