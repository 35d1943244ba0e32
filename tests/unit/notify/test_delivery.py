"""Delivery to a receiver that hangs, answers 500 or drops connections; the loop above it."""

from __future__ import annotations

import json
import smtplib
import socket
import threading
import time
from queue import SimpleQueue

import pytest

import schemas
from lapwing.notify import delivery, notify_loop
from lapwing.notify.delivery import Bucket, Delivery, Done, Item
from lapwing.notify.notify_loop import Dependencies, NotifyLoop
from lapwing.notify.notify_service import silences_of, targets_of
from lapwing.notify.receivers import Answer, HttpReceiver, MailReceiver, answer_of
from shared.encode.records import decode_records, encode_records
from shared.errors import TransportError
from shared.notices.notice import Notice
from shared.operations.counters import NOTICES, NOTICES_WAITING, Counters
from shared.operations.retry import Outage
from shared.settings import NotifySettings, TargetSettings
from tests.support.anomaly_logs import alarm
from tests.support.fakes import MemoryLog, MemorySource
from tests.support.receivers import receiver
from tests.unit.notify.test_notices import CLOSED, OPEN, WORSE, notices, records

SCHEMA = schemas.text(schemas.INCIDENT)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_S", 0.1)


def webhook(url: str, **more) -> TargetSettings:
    return TargetSettings(kind="webhook", url=url, **more)


@pytest.mark.parametrize(
    ("how", "refused"),
    [(200, None), (500, False), (503, False), (429, False), (400, True), (404, True), (302, True)]
    + [(how, False) for how in ("hang", "drop", "cut", "drip")],
)
def test_what_an_answer_means(how, refused):
    with receiver([how]) as inbox:
        began_s = time.monotonic()
        answer = HttpReceiver(webhook(inbox.url), 0.5, 1).send(notices(OPEN)[0])
    assert time.monotonic() - began_s < 2.0
    assert answer.delivered == (refused is None)
    if refused is not None:
        assert answer.refused == refused
        assert answer.why


def test_a_receiver_that_is_not_there_is_retried():
    answer = HttpReceiver(webhook("http://127.0.0.1:1/"), 0.5, 1).send(notices(OPEN)[0])
    assert not answer.delivered
    assert not answer.refused
    assert answer_of(429, "slow  down", 7.0) == Answer(False, False, "it answered 429 slow down", 7)


def test_a_webhook_is_signed_and_has_its_key():
    with receiver() as inbox:
        HttpReceiver(webhook(inbox.url + "?a=b", secret="s"), 2, 1).send(notices(OPEN)[0])
    [(path, headers, body)] = inbox.requests
    assert path == "/hook?a=b"
    assert headers["Idempotency-Key"] == "e1open/open"
    assert headers["X-Lapwing-Signature"].startswith("t=")
    assert json.loads(body)["phase"] == "open"


def deliver(plan, *events, give_up_after_s=30.0, per_minute=60_000.0, timeout_s=30.0):
    done: SimpleQueue[Done] = SimpleQueue()
    with receiver(plan) as inbox:
        http = HttpReceiver(webhook(inbox.url), timeout_s, 1)
        sender = Delivery("ops", http, done, per_minute=per_minute, give_up_after_s=give_up_after_s)
        sender.start()
        items = [Item(one, k) for k, one in enumerate(notices(*events))]
        for item in items:
            sender.put(item)
        found = [done.get(timeout=60) for _ in items]
        sender.close()
        sender.join(5)
    return inbox, found


def test_nothing_is_lost_and_repeats_have_the_same_key():
    inbox, found = deliver([500, "hang", "drop", "cut", 503], OPEN, WORSE, CLOSED, timeout_s=3.0)
    assert [one.why for one in found] == [""] * 3
    assert set(inbox.keys) == {"e1open/open", "e1open/worse/critical", "e1open/resolved"}
    assert inbox.keys["e1open/open"] == 3, "dropped and cut after it was taken"


def test_what_is_refused_or_fails_for_long_is_unsent_with_its_reason():
    _, found = deliver([400], OPEN, CLOSED)
    assert [one.why for one in found] == ["it answered 400", ""]
    _, found = deliver([500] * 1000, OPEN, give_up_after_s=0.2)
    assert found[0].why.startswith("it answered 500; gave up after")


class Hour:
    """A receiver that answers 500 until an hour has passed, on a clock that only waits move."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.keys: list[str] = []

    def send(self, notice: Notice) -> Answer:
        self.keys.append(notice.key)
        return answer_of(500 if self.now_s < 3_600 else 200, "", 0.0)


@pytest.mark.parametrize(
    ("give_up_after_s", "why"), [(7_200.0, ""), (3_000.0, "it answered 500; gave up after 3")]
)
def test_a_receiver_that_answers_500_for_an_hour(monkeypatch, give_up_after_s, why):
    hour, done = Hour(), SimpleQueue()
    sender = Delivery(
        "ops",
        hour,
        done,
        per_minute=60_000.0,
        give_up_after_s=give_up_after_s,
        clock=lambda: hour.now_s,
    )
    pauses = []

    def waits(seconds: float, generation: int) -> bool:
        hour.now_s += seconds
        pauses.append(seconds)
        return True

    monkeypatch.setattr(delivery, "FIRST_PAUSE_S", 0.5)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_S", 60.0)
    monkeypatch.setattr(sender, "_sleep", waits)
    sender.start()
    for place, notice in enumerate(notices(OPEN, CLOSED)):
        sender.put(Item(notice, place))
    found = [done.get(timeout=60) for _ in range(2)]
    sender.close()
    assert [one.why[: len(why) or None] for one in found] == [why, ""], "each has its own time"
    assert pauses[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    assert set(hour.keys) == {"e1open/open", "e1open/resolved"}
    assert len(hour.keys) < 90, "at most one attempt a minute"


def test_a_key_is_sent_once():
    inbox, found = deliver([], OPEN, OPEN | {"event_id": "other", "episode_id": "e1open"})
    assert inbox.keys == {"e1open/open": 1}
    assert len(found) == 1


def test_what_was_dropped_is_not_tried_again_by_a_former_owner():
    done: SimpleQueue[Done] = SimpleQueue()
    with receiver([500] * 3) as inbox:
        http = HttpReceiver(webhook(inbox.url), 2, 1)
        sender = Delivery("ops", http, done, per_minute=60_000.0, give_up_after_s=30.0)
        sender.start()
        sender.put(Item(notices(OPEN)[0], 1))
        while not inbox.requests:
            time.sleep(0.005)
        sender.clear()
        sender.put(Item(notices(OPEN, CLOSED)[1], 2))
        found = done.get(timeout=60)
        sender.close()
    assert found.item.offset == 2
    assert set(inbox.keys) == {"e1open/resolved"}


def test_the_rate_is_limited():
    now = [0.0]
    bucket = Bucket(60.0, lambda: now[0])
    assert [bucket.wait_s() for _ in range(20)] == [0.0] * 20
    assert bucket.wait_s() == pytest.approx(1.0)
    now[0] = 1.5
    assert bucket.wait_s() == 0.0
    assert bucket.wait_s() == pytest.approx(0.5)


def smtp(codes: list[bytes]):
    """Start an SMTP server that answers DATA with these codes; return its port and the mails."""
    server = socket.create_server(("127.0.0.1", 0))
    mails: list[bytes] = []

    def serve() -> None:
        for code in codes:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb") as stream:
                stream.write(b"220 here\r\n")
                stream.flush()
                while line := stream.readline():
                    answer = b"250 ok\r\n"
                    if line.upper().startswith(b"DATA"):
                        stream.write(b"354 go\r\n")
                        stream.flush()
                        text = b""
                        while (part := stream.readline()) != b".\r\n":
                            text += part
                        mails.append(text)
                        answer = code + b" done\r\n"
                    stream.write(answer)
                    stream.flush()
                    if line.upper().startswith(b"QUIT"):
                        break
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1], mails


def test_mail_is_submitted_retried_or_refused():
    port, mails = smtp([b"451", b"554", b"250"])
    target = TargetSettings(
        kind="email", url=f"smtp://127.0.0.1:{port}", to=("a@b",), smtp_tls="none"
    )
    mailer = MailReceiver(target, 5)
    answers = [mailer.send(notices(OPEN)[0]) for _ in range(3)]
    assert [(one.delivered, one.refused) for one in answers] == [
        (False, False),
        (False, True),
        (True, False),
    ]
    assert b"Subject: [open] minor: web-1: cpu unusually high" in mails[-1]
    assert isinstance(mailer.send(notices(OPEN)[0]).why, str)
    assert smtplib.SMTP is not None


class World:
    """The notify loop on an incidents topic in memory."""

    def __init__(self, url: str, **more) -> None:
        self.log = MemoryLog({"incidents": 1})
        given = {"targets": {"ops": {"kind": "webhook", "url": url}}, "timeout_s": 30.0} | more
        self.settings = NotifySettings(**given)
        self.now_s = time.time
        self.counters = Counters()
        self.kept: list[Done] = []
        self.topic_down = False

    def append(self, *incident_records) -> None:
        for record in incident_records:
            value = encode_records(SCHEMA, 1, [record])[0]
            self.log.append("incidents", 0, value, record["incident_id"].encode())

    def keep(self, done: Done) -> None:
        if self.topic_down:
            raise TransportError("the topic of unsent notices does not answer")
        self.kept.append(done)

    def decode(self, value):
        return decode_records([value], [SCHEMA])[0]

    def read_state(self):
        newest = {}
        for *_, one in self.log.visible("incidents"):
            newest[one.key.decode()] = self.decode(one.value)
        return newest, len(self.log.topics["incidents"][0])

    def commit(self, positions) -> None:
        self.log.committed |= {("g", "incidents", p): one for p, one in positions.items()}

    def service(self) -> NotifyLoop:
        source = MemorySource(self.log, "g", "incidents")
        source.give(0)
        done: SimpleQueue[Done] = SimpleQueue()
        loop = NotifyLoop(
            Dependencies(
                source,
                self.commit,
                self.read_state,
                self.decode,
                self.keep,
                time.monotonic,
                lambda: self.now_s(),
                lambda _: None,
            ),
            targets_of(self.settings, done, now_s=lambda: self.now_s()),
            done,
            silences_of(self.settings),
            1000.0,
            self.counters,
            Outage(1000.0, self.counters),
        )
        for target in loop.targets.values():
            target.delivery.start()
        source.subscribe(loop)
        return loop

    def until(self, loop: NotifyLoop, done) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline
            loop.step()
            time.sleep(0.005)

    @property
    def position(self) -> int:
        found = self.log.committed.get(("g", "incidents", 0))
        return -1 if found is None else found.offset

    @property
    def metadata(self) -> str:
        found = self.log.committed.get(("g", "incidents", 0))
        return "" if found is None else found.metadata


def test_a_position_is_committed_after_its_notices_and_kills_lose_nothing():
    with receiver(["hang", 500]) as inbox:
        world = World(inbox.url, timeout_s=0.3)
        loop = world.service()
        world.until(loop, lambda: world.position == 0)
        world.append(*records(OPEN, WORSE, CLOSED))
        world.until(loop, lambda: len(inbox.requests) > 0)
        assert world.position == 0, "nothing was delivered yet"
        killed, loop = loop, world.service()
        for target in killed.targets.values():
            target.delivery.close()
        world.until(loop, lambda: world.position == 3)
        assert set(inbox.keys) == {"e1open/open", "e1open/worse/critical", "e1open/resolved"}


def test_a_restart_repeats_to_no_target_what_another_one_still_waits_for():
    with receiver([500] * 1000) as broken, receiver() as well:
        targets = {
            name: {"kind": "webhook", "url": one.url}
            for name, one in (("broken", broken), ("well", well))
        }
        world = World("", targets=targets)
        loop = world.service()
        world.until(loop, lambda: world.position == 0)
        world.append(*records(OPEN, WORSE))
        world.until(loop, lambda: world.metadata == '{"settled":{"well":2}}')
        for target in loop.targets.values():
            target.delivery.close()
        broken.plan.clear()
        loop = world.service()
        world.append(*records(OPEN, WORSE, CLOSED)[2:])
        world.until(loop, lambda: world.position == 3)
        assert world.metadata == ""
        assert well.taken == ["e1open/open", "e1open/worse/critical", "e1open/resolved"]
        assert set(broken.taken) == set(well.taken)


def alerts_of(inbox) -> list[str]:
    return [json.loads(body)[0]["labels"]["incident_id"] for _, _, body in inbox.requests]


def test_open_incidents_are_sent_again_once_alertmanager_answers_after_a_failure():
    """It keeps alerts in memory only, so a restart has lost them."""
    with receiver() as inbox:
        world = World("", targets={"ops": {"kind": "alertmanager", "url": inbox.url}})
        loop = world.service()
        world.append(*records(OPEN))
        world.until(loop, lambda: world.position == 1)
        inbox.plan += [503]
        world.append(*records(alarm(7, "open", entity="db", minute=50)))
        world.until(loop, lambda: len(inbox.requests) == 5)
        assert alerts_of(inbox)[:3] == ["e1open", "e7open", "e7open"]
        assert set(alerts_of(inbox)[3:]) == {"e1open", "e7open"}
        for _ in range(20):
            loop.step()
        assert len(inbox.requests) == 5


def test_a_round_of_open_incidents_waits_for_the_one_before_it():
    with receiver([500] * 100_000) as broken:
        world = World("", targets={"ops": {"kind": "alertmanager", "url": broken.url}})
        loop = world.service()
        loop.repeat_s = 0.0
        world.append(*records(OPEN, alarm(7, "open", entity="db", minute=50)))
        [target] = loop.targets.values()
        for _ in range(50):
            loop.step()
            time.sleep(0.002)
        queued = [item.offset for item in target.delivery._items]
        assert queued.count(delivery.REFRESH) <= 2


def test_a_target_that_does_not_answer_stops_reading_before_memory_is_full(monkeypatch):
    monkeypatch.setattr(notify_loop, "MOST_WAITING", 10)
    monkeypatch.setattr(notify_loop, "MAX_RECORDS", 4)
    with receiver([500] * 100_000) as broken:
        world = World(broken.url, max_per_minute=60_000)
        loop = world.service()
        world.until(loop, lambda: world.position == 0)
        world.append(*records(*(alarm(k, "open", entity=f"h{k}", minute=9 * k) for k in range(50))))
        for _ in range(100):
            loop.step()
        assert 10 <= world.counters.value(NOTICES_WAITING) < 14
        broken.plan.clear()
        world.until(loop, lambda: world.position == 50)
        assert dict(broken.keys) == {f"e{k}open/open": 1 for k in range(50)}


def test_the_first_start_sends_what_is_open_and_no_history():
    with receiver() as inbox:
        world = World(inbox.url)
        world.append(*records(OPEN, CLOSED), *records(alarm(7, "open", minute=50)))
        loop = world.service()
        world.until(loop, lambda: world.position == 3)
        assert dict(inbox.keys) == {"e7open/open": 1}


def test_what_cannot_be_sent_is_kept_before_its_position_is_committed():
    with receiver([400]) as inbox:
        world = World(inbox.url)
        loop = world.service()
        world.until(loop, lambda: world.position == 0)
        world.topic_down = True
        world.append(*records(OPEN))
        world.until(loop, lambda: len(inbox.requests) == 1)
        for _ in range(20):
            loop.step()
            time.sleep(0.005)
        assert world.position == 0
        world.topic_down = False
        world.until(loop, lambda: world.position == 1)
        assert [one.why for one in world.kept] == ["it answered 400"]
        assert world.counters.value(NOTICES, "ops", "unsent") == 1


def test_what_is_silenced_is_not_sent():
    with receiver() as inbox:
        world = World(inbox.url, silences=[{"entities": "web-1"}])
        loop = world.service()
        world.append(*records(OPEN))
        world.until(loop, lambda: world.position == 1)
        assert inbox.requests == []
        assert world.counters.value(NOTICES, "", "silenced") == 1
