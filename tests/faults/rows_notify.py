"""Row about the notify service: what receivers get while every part between is killed.

Invariant: expected are the notices of the incidents topic's own records, by ``notice_of``; a
           receiver's inbox survives its kills.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import schemas
from shared.batch import Blob, Outgoing
from shared.encode.records import encode_records
from shared.incidents.fold import IncidentFold
from shared.incidents.grouping import Rules
from shared.kafka import Admin, Publisher
from shared.notices.notice import notice_of
from shared.registry import Registry
from shared.settings import IncidentSettings, Settings
from tests.faults.predictor import KILLED, Slot
from tests.faults.run import RowFailed
from tests.faults.table import Tally, row
from tests.faults.testbed import DATASET, Testbed
from tests.support.anomaly_logs import BEGIN_MS, Row, alarm, apply
from tests.support.services.notice_receivers import ALERTMANAGER, Alertmanager, NoticeReceiver
from tests.support.services.service import Service

WAIT_S = 180.0
"""Longest time in which nothing may happen that a row waits for; a busy machine is slow at most."""

PER_S = 2
"""Incidents per second that are waited for at least."""

TELL_S = 15.0
PUBLISH_S = 280.0
CHUNK = 100
RANK = {"open": 0, "worse": 1, "resolved": 2, "ended": 2}


@row("notify: kill -9 of every part between (full: 10,000 incidents)", ci=1)
def notices_killed(testbed: Testbed, tally: Tally) -> None:
    """Kill the service, both receivers, Alertmanager and the broker in turn; cut the network."""
    count = int(tally.pick(120, 1_000, 10_000))
    story = _Story(testbed, tally, count)
    try:
        story.begin()
        kills = int(tally.pick(6, 18, 60))
        records = story.records
        share = -(-len(records) // (kills + 1))
        for number in range(kills):
            story.publish(records[number * share : (number + 1) * share])
            story.pause(tally.pick(0.4, 1.0, 2.0))
            story.break_something(number)
            story.tell(f"fault {number + 1} of {kills}")
        story.publish(records[kills * share :])
        story.await_end()
        story.compare()
    finally:
        story.close()


class _Story:
    """One run: incidents on a topic, the service, its receivers."""

    def __init__(self, testbed: Testbed, tally: Tally, count: int) -> None:
        self.testbed, self.tally = testbed, tally
        self.http, self.smtp = (NoticeReceiver(kind, testbed.seed) for kind in ("http", "smtp"))
        self.alertmanager = None if ALERTMANAGER is None else Alertmanager()
        if self.alertmanager is None:
            self._skip_alertmanager()
        # Open alerts are sent again after a quarter of it: 9, 18 or 45 s.
        self.hold_hours = tally.pick(0.01, 0.02, 0.05)
        self.name = testbed.new_name()
        environ = testbed.environ(
            KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address,
            LAPWING_NOTIFY__GROUP=f"{DATASET}-{self.name}",
            LAPWING_NOTIFY__TARGETS=json.dumps(self._targets()),
            LAPWING_NOTIFY__TIMEOUT_S="2",
            LAPWING_NOTIFY__MAX_PER_MINUTE="60000",
            LAPWING_NOTIFY__HOLD_HOURS=str(self.hold_hours),
            LAPWING_SLOT="a",
        )
        self.settings = testbed.settings(
            **environ | {"KAFKA_BOOTSTRAP_SERVERS": testbed.kafka.address}
        )
        self.log = testbed.folder / f"{self.name}-notify.log"
        self.slot = Slot(self.name, self.log, environ, testbed.tree, module="lapwing.notify")
        self.records = incidents(tally, count)
        self.broken = 0
        self.killed: Counter[str] = Counter()
        self.published = 0
        self.admin: Admin | None = None
        self.stall_s = min(WAIT_S, testbed.patience_s)
        self.wait_s = self.stall_s + count / PER_S
        self.began_s = self.told_s = time.monotonic()

    def _skip_alertmanager(self) -> None:
        missing = "Debian's package prometheus-alertmanager is not installed"
        print(f"SKIPPED: Alertmanager as a receiver; {missing}", file=sys.stderr)
        self.tally.more["alertmanager"] = f"skipped, {missing}"

    def _targets(self) -> dict[str, Any]:
        smtp = {"kind": "email", "smtp_tls": "none", "to": ["desk@example.com"]}
        targets = {
            "hook": {"kind": "webhook", "url": f"http://{self.http.address}/"},
            "desk": smtp | {"url": f"smtp://{self.smtp.address}"},
        }
        if self.alertmanager is not None:
            targets["pager"] = {"kind": "alertmanager", "url": self.alertmanager.url}
        return targets

    def begin(self) -> None:
        self.testbed.fresh_topics(self.settings)
        self.admin = Admin(self.settings)
        for receiver in self._receivers():
            receiver.start()
        self.slot.start()
        self._await(lambda: self.slot.log_count("incidents taken over") > 0, "the start")

    def _receivers(self) -> list[NoticeReceiver | Alertmanager]:
        more = [] if self.alertmanager is None else [self.alertmanager]
        return [self.http, self.smtp, *more]

    def publish(self, records: list[dict[str, Any]]) -> None:
        for start in range(0, len(records), CHUNK):
            try:
                publish(self.settings, records[start : start + CHUNK])
            except RowFailed as failed:
                log = self.testbed.kafka.log(20)
                raise RowFailed(f"{failed} after {self.broken} faults\n{log}") from failed
            self.published += len(records[start : start + CHUNK])
            self.slot.restart_if_ended()

    def pause(self, most_s: float) -> None:
        until_s = time.monotonic() + self.tally.dice.uniform(0.1, most_s)
        while time.monotonic() < until_s:
            self.slot.restart_if_ended()
            time.sleep(0.02)

    def break_something(self, number: int) -> None:
        """Break one part after the other, the service every second time."""
        self.broken += 1
        if number % 2 == 0:
            taken = self.slot.log_count("incidents taken over")
            began_s = time.monotonic()
            self.slot.kill()
            self.killed["notify"] += 1
            self._await(lambda: self.slot.log_count("incidents taken over") > taken, "the takeover")
            self.tally.recoveries.append(time.monotonic() - began_s)
            return
        services: list[Service] = [*self._receivers(), self.testbed.kafka]
        turn = number // 2 % (len(services) + 1)
        if turn == len(services):
            self.testbed.proxy.cut(self.tally.dice.choice(("refuse", "silence")))
            self.pause(2.0)
            self.testbed.proxy.mend()
            self.killed["cuts of the network"] += 1
            return
        services[turn].kill()
        self.tally.kills += 1
        self.killed[services[turn].name] += 1
        self.pause(1.5)
        services[turn].start()

    def await_end(self) -> None:
        """Wait until every notice is settled and Alertmanager has all that is open."""
        end = Admin(self.settings).end_offsets(self.settings.topics.incidents)[0]
        self._await(lambda: self._committed() >= end, "the end")
        self.tell("all notices are settled")
        if (pager := self.alertmanager) is not None:
            wanted = open_after(self.records)
            # What a killed service has still sent may arrive last; its alert ends after a while.
            limit_s = min(1.25 * self.hold_hours * 3600, self.testbed.patience_s)
            with contextlib.suppress(RowFailed):
                self._await(
                    lambda: pager.firing().keys() == wanted.keys(), "Alertmanager's end", limit_s
                )
        self.slot.stop()

    def compare(self) -> None:
        """Count what is missing, has an unknown key, or came out of order."""
        expected = expected_keys(self.records)
        counts, tally = self.tally.counts, self.tally
        for receiver in (self.http, self.smtp):
            taken = receiver.taken()
            keys = Counter(one["key"] for one in taken)
            counts.lost += len(expected - keys.keys())
            counts.wrong += sum(1 for one in taken if one["key"] not in expected)
            counts.wrong += sum(1 for one in taken if one["key"] != key_of(one))
            counts.wrong += _split_ids(taken)
            counts.disorder += _disorder(taken)
            again = sum(keys.values()) - len(keys)
            tally.more[f"{receiver.kind}_missing"] = len(expected - keys.keys())
            tally.more[f"{receiver.kind}_notices"] = len(keys)
            tally.more[f"{receiver.kind}_repeats"] = again
        if self.alertmanager is not None:
            wanted, firing = open_after(self.records), self.alertmanager.firing()
            counts.lost += len(wanted.keys() - firing.keys())
            counts.wrong += len(firing.keys() - wanted.keys())
            tally.more["alertmanager_firing"] = len(firing)
            tally.more["alertmanager_resolved"] = len({*_ids(self.records)} - firing.keys())
        unsent = Admin(self.settings).end_offsets(self.settings.topics.unsent)[0]
        tally.require(unsent == 0, f"{unsent} notices were given up")
        tally.runs += 1
        tally.kills += self.slot.exits[KILLED]
        tally.events += len(self.records)
        tally.more["incidents"] = len({*_ids(self.records)})
        tally.more["notices"] = len(expected)
        tally.more["kills_of"] = dict(self.killed)

    def close(self) -> None:
        if self.slot.process is not None and self.slot.process.poll() is None:
            self.slot.process.kill()
        for receiver in self._receivers():
            receiver.close()
        if self.admin is not None:
            self.admin.close()

    def tell(self, what: str) -> None:
        """Print how far it is."""
        self.told_s = time.monotonic()
        inboxes = ", ".join(f"{one.kind} {one.size():,}" for one in (self.http, self.smtp))
        print(
            f"{self.name} {self.told_s - self.began_s:4.0f} s: {what}; records written"
            f" {self.published:,} of {len(self.records):,}, notices taken: {inboxes}",
            file=sys.stderr,
            flush=True,
        )

    def _committed(self) -> int:
        assert self.admin is not None
        at = self.admin.committed(self.settings.notify.group, self.settings.topics.incidents)
        return at[0].offset if at and at[0] is not None else -1

    def _await(self, done: Callable[[], bool], what: str, timeout_s: float | None = None) -> None:
        """Wait; fail when nothing has arrived for ``stall_s``, or after the timeout."""
        wait_s = self.wait_s if timeout_s is None else timeout_s
        now_s = moved_s = time.monotonic()
        deadline_s, seen = now_s + wait_s, self._taken()
        while not done():
            self.slot.restart_if_ended()
            now_s = time.monotonic()
            if (taken := self._taken()) != seen:
                seen, moved_s = taken, now_s
            if now_s > min(deadline_s, moved_s + max(self.stall_s, timeout_s or 0.0)):
                text = self.log.read_text("utf-8", "replace")[-2500:] if self.log.exists() else ""
                raise RowFailed(
                    f"{self.name}: {what} did not happen within {wait_s:g} s, or nothing within"
                    f" {self.stall_s:g} s\n{text}"
                )
            if now_s - self.told_s > TELL_S:
                self.tell(f"waiting for {what}")
            time.sleep(0.1)

    def _taken(self) -> tuple[int, ...]:
        return tuple(
            one.inbox.stat().st_size for one in (self.http, self.smtp) if one.inbox.exists()
        )


def incidents(tally: Tally, count: int) -> list[dict[str, Any]]:
    """Return the records of incidents: all open, some become worse, most close; interleaved."""
    dice, events = tally.dice, []
    for number in range(count):
        more: dict[str, Any] = {"entity": f"host-{number}", "metric": "cpu"}
        minute = dice.randrange(2 * count)
        events.append((minute, alarm(number, "open", minute=minute, **more)))
        if dice.random() < 0.3:
            severity = dice.choice((0.75, 0.9))
            worse = alarm(
                number, "worse", minute=minute + 3, start=minute, severity=severity, **more
            )
            events.append((minute + 3, worse))
        if dice.random() < 0.9:
            because = dice.choice(("recovered", "recovered", "accepted", "silent"))
            end = minute + dice.randrange(5, 400)
            closed = alarm(number, "closed", minute=end, start=minute, because=because, **more)
            events.append((end, closed))
    events.sort(key=lambda pair: pair[0])
    rules = Rules.of(IncidentSettings(group_within_s=0))
    fold = IncidentFold(rules)
    rows = [Row(BEGIN_MS + 60_000 * minute, event) for minute, event in events]
    changes = [one for offset, event in enumerate(rows) for one in apply(fold, offset, event)]
    return [one.incident.record() for one in changes if one.incident is not None]


def publish(settings: Settings, records: list[dict[str, Any]]) -> None:
    """Write records of incidents, as the incidents service would."""
    topic, schema = settings.topics.incidents, schemas.text(schemas.INCIDENT)
    schema_id = Registry(settings.registry).lookup(f"{topic}-value", schema)
    publisher = Publisher(settings)
    keys = Blob.join([str(one["incident_id"]).encode() for one in records])
    publisher.send(Outgoing(topic, encode_records(schema, schema_id, records), keys))
    left, error = publisher.flush(PUBLISH_S) + publisher.failed, publisher.first_error
    if left:
        raise RowFailed(f"{left} records were not written to {topic}: {error}")
    publisher.close()


def expected_keys(records: Iterable[dict[str, Any]]) -> set[str]:
    """Return the keys of all notices of some records."""
    return {notice.key for notice in map(notice_of, records) if notice is not None}


def open_after(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the incidents that are open after some records, by id."""
    newest = {str(one["incident_id"]): one for one in records}
    return {key: one for key, one in newest.items() if one["state"] == "open"}


def key_of(taken: dict[str, Any]) -> str:
    """Return the key that a notice must have by what it says."""
    more = f"/{taken['severity_class']}" if taken["phase"] == "worse" else ""
    return f"{taken['incident_id']}/{taken['phase']}{more}"


def _ids(records: Iterable[dict[str, Any]]) -> Iterable[str]:
    return (str(one["incident_id"]) for one in records)


def _split_ids(taken: list[dict[str, Any]]) -> int:
    """Return how many keys came with more than one Message-ID."""
    ids: dict[str, set[str]] = {}
    for one in taken:
        ids.setdefault(one["key"], set()).add(one.get("message_id", ""))
    return sum(len(found) > 1 for found in ids.values())


def _disorder(taken: list[dict[str, Any]]) -> int:
    """Return how many notices first came after a later one of their incident."""
    seen: set[str] = set()
    rank: dict[str, int] = {}
    found = 0
    for one in taken:
        if one["key"] in seen:
            continue
        seen.add(one["key"])
        before = rank.get(one["incident_id"], -1)
        found += RANK[one["phase"]] < before
        rank[one["incident_id"]] = max(before, RANK[one["phase"]])
    return found
