"""Rows about the incidents service: what it writes, compared with a plain recomputation."""

from __future__ import annotations

import random
import time
from typing import Any

from shared.kafka import Admin
from tests.faults.predictor import KILLED, Slot
from tests.faults.run import RowFailed
from tests.faults.table import Tally, row
from tests.faults.testbed import DATASET, Testbed
from tests.support.anomaly_logs import alarm, verdict
from tests.support.incident_oracle import compared, publish

POINTS = (
    "in_takeover",
    "after_poll",
    "after_process",
    "after_produce",
    "before_offsets",
    "after_offsets",
    "after_commit",
)
CHUNK, PAUSE_S = 12, 0.15
WAIT_S = 60.0


@row("incidents: kill -9 at random", ci=1, full=4)
def incidents_killed(testbed: Testbed, tally: Tally) -> None:
    """Killed at random, and at the points of a transaction, while anomalies arrive."""
    name = testbed.new_name()
    environ = testbed.environ(LAPWING_INCIDENTS__GROUP=f"{DATASET}-{name}", LAPWING_SLOT="a")
    settings = testbed.settings(**environ)
    testbed.fresh_topics(settings)
    log = testbed.folder / f"{name}-incidents.log"
    slot = Slot(name, log, environ, testbed.tree, module="lapwing.incidents")
    records = story(tally.dice, int(tally.pick(30, 60, 300)))
    wait_s = min(WAIT_S, testbed.patience_s)
    admin = Admin(settings)
    try:
        slot.start()
        _await(slot, lambda: slot.log_count("anomalies taken over") > 0, wait_s, "the start")
        kills = int(tally.pick(3, 6, 25))
        share = len(records) // (kills + 1)
        for kill in range(kills):
            batch, records = records[:share], records[share:]
            if kill % 2:
                slot.arm(f"{tally.dice.choice(POINTS)}:{tally.dice.randint(1, 3)}")
            _send(slot, settings, batch, tally.dice)
            began_s = time.monotonic()
            taken = slot.log_count("anomalies taken over")
            slot.kill()
            _await(
                slot,
                lambda taken=taken: slot.log_count("anomalies taken over") > taken,
                wait_s,
                "the takeover",
            )
            tally.recoveries.append(time.monotonic() - began_s)
        _send(slot, settings, records, tally.dice)
        end = admin.end_offsets(settings.topics.anomalies)[0]

        def is_done() -> bool:
            at = admin.committed(settings.incidents.group, settings.topics.anomalies)
            return bool(at) and at[0].offset >= end

        _await(slot, is_done, wait_s, "the end")
        slot.stop()
        found = compared(settings)
    finally:
        admin.close()
        if slot.process is not None and slot.process.poll() is None:
            slot.process.kill()
    for figure in ("lost", "duplicates", "wrong", "disorder"):
        setattr(tally.counts, figure, getattr(tally.counts, figure) + found[figure])
    tally.runs += 1
    tally.kills += slot.exits[KILLED]
    tally.events += end
    tally.require(found["written"] > 0, f"{name}: no incident was written")


def _await(slot: Slot, done: Any, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        slot.restart_if_ended()
        if time.monotonic() > deadline:
            text = slot.log.read_text("utf-8", "replace")[-2500:] if slot.log.exists() else ""
            raise RowFailed(f"{slot.name}: {what} did not happen within {timeout_s:g} s\n{text}")
        time.sleep(0.02)


def _send(slot: Slot, settings: Any, records: list[dict[str, Any]], dice: random.Random) -> None:
    for start in range(0, len(records), CHUNK):
        publish(settings, records[start : start + CHUNK])
        slot.restart_if_ended()
        time.sleep(dice.uniform(0.0, PAUSE_S))


def story(dice: random.Random, episodes: int) -> list[dict[str, Any]]:
    """Return anomalies about episodes that overlap, with repeats, silences and corrected starts."""
    found: list[tuple[float, dict[str, Any]]] = []
    for number in range(episodes):
        start = dice.randrange(4 * episodes)
        more: dict[str, Any] = {
            "entity": f"web-{dice.randrange(8)}",
            "metric": dice.choice(("cpu", "disk.read")),
        }
        end = start + dice.randrange(1, 60)
        records = [alarm(number, "open", minute=start, **more)]
        if dice.random() < 0.5:
            records.append(
                alarm(
                    number,
                    "worse",
                    minute=(start + end) // 2,
                    start=start,
                    severity=dice.choice((0.6, 0.75, 0.9)),
                    **more,
                )
            )
        if dice.random() < 0.9:
            early = start - dice.randrange(3)
            records.append(alarm(number, "closed", minute=end, start=early, **more))
        if dice.random() < 0.1:
            silent = more["entity"]
            records.append(verdict("stopped", silent, minute=end + 30, since=end + 5))
            records.append(verdict("gap", silent, minute=end + 50, since=end + 5))
        found += [(one["event_time"], one) for one in records]
        if dice.random() < 0.3:
            again = dice.choice(records)
            found.append((again["event_time"] + dice.randrange(600_000), again))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]
