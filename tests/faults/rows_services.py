"""Rows about what predictors depend on: the broker, the network, the registry, the volumes."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.faults.content import Mix
from tests.faults.run import RATE, Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed
from tests.support.services.proxy import (
    ADD_OFFSETS_TO_TXN,
    END_TXN,
    INIT_PRODUCER_ID,
    PRODUCE,
    TXN_OFFSET_COMMIT,
)

PATIENCE_S = 9.0
"""Seconds without an answer after which a predictor gives up a request."""

HEADER_BYTES = 4096
"""Largest size of a snapshot's header, bytes, about."""


@row("broker kill -9 and return", ci=1, full=5)
def broker_killed(testbed: Testbed, tally: Tally) -> None:
    """Recovery counts from when the broker answers again."""
    with Run(testbed) as run:
        run.begin_all("ab")
        for _ in range(int(tally.pick(1, 1, 2))):
            time.sleep(tally.dice.uniform(0.0, 1.0))
            mark = run.mark()
            testbed.kafka.kill()
            tally.kills += 1
            time.sleep(tally.dice.uniform(0.0, 4.0))
            testbed.kafka.start()
            run.recovered(mark, since_s=time.monotonic())
        tally.close(run, may_exit=False)


@row("broker unreachable for 60 s (quick: 20 s)", full=2)
def broker_unreachable(testbed: Testbed, tally: Tally) -> None:
    """The network is cut before the predictors only; recovery counts from when it is mended."""
    with Run(testbed, rate=100) as run:
        run.begin_all("ab", KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address)
        mark = run.mark()
        testbed.proxy.cut("refuse" if tally.runs % 2 else "silence")
        time.sleep(tally.pick(20, 20, 60))
        testbed.proxy.mend()
        run.recovered(mark, since_s=time.monotonic())
        tally.close(run, may_exit=False)


@row("one predictor cut off while another is not", full=4)
def one_cut_off(testbed: Testbed, tally: Tally) -> None:
    """The other one takes over; the first one returns with a transaction that was aborted."""
    with Run(testbed) as run:
        slots = [run.slot("a", KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address), run.slot("b")]
        for slot in slots:
            slot.start()
        run.pacer.start()
        run.shared(slots)
        mark = run.mark()
        testbed.proxy.cut("silence" if tally.runs % 2 else "refuse")
        run.recovered(mark)
        time.sleep(tally.dice.uniform(2.0, 10.0))
        testbed.proxy.mend()
        time.sleep(3.0)
        run.settled()
        tally.close(run)


HELD = (
    ("commit", END_TXN),
    ("answer to a commit", END_TXN, "answer"),
    ("positions", TXN_OFFSET_COMMIT),
    ("answer to positions", TXN_OFFSET_COMMIT, "answer"),
    ("group joining a transaction", ADD_OFFSETS_TO_TXN),
    ("records", PRODUCE),
    ("answer to records", PRODUCE, "answer"),
)
BROKEN = (("commit", END_TXN), ("positions", TXN_OFFSET_COMMIT), ("records", PRODUCE))


@row("one request held back, delivered late", ci=1, full=2)
def request_held(testbed: Testbed, tally: Tally) -> None:
    """Held for longer than the timeout: a new producer starts before the request arrives."""
    with Run(testbed) as run:
        run.begin("a", KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address)
        for what, api_key, *answer in HELD[:2] if tally.brief else HELD:
            hold = testbed.proxy.hold(api_key, answer=bool(answer), skip=tally.dice.randrange(5))
            run.wait(hold.caught.is_set, 30, f"holding back the {what}")
            mark = run.mark()
            time.sleep(PATIENCE_S + tally.dice.uniform(-6.0, 4.0))
            testbed.proxy.release(hold)
            run.recovered(mark)
        tally.close(run)


@row("one request held back, its connection broken", few=1, ci=1, full=3)
def request_overtaken(testbed: Testbed, tally: Tally) -> None:
    """The client repeats it on a new connection and continues; the first copy arrives later."""
    with Run(testbed) as run:
        run.begin("a", KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address)
        for what, api_key in BROKEN * int(tally.pick(1, 2, 3)):
            hold = testbed.proxy.hold(api_key, reset=True, skip=tally.dice.randrange(5))
            run.wait(hold.caught.is_set, 30, f"holding back the {what}")
            mark = run.mark()
            time.sleep(tally.dice.uniform(0.3, 2.0))
            testbed.proxy.release(hold)
            run.recovered(mark)
        tally.close(run)


@row("a start's first request held back", full=2)
def start_held(testbed: Testbed, tally: Tally) -> None:
    """The request that fences the predecessor is late."""
    with Run(testbed) as run:
        slot = run.begin("a", KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address)
        mark = run.mark()
        hold = testbed.proxy.hold(INIT_PRODUCER_ID)
        slot.kill()
        run.wait(hold.caught.is_set, 30, "holding back the first request")
        time.sleep(PATIENCE_S + tally.dice.uniform(-6.0, 4.0))
        testbed.proxy.release(hold)
        run.recovered(mark)
        tally.close(run)


@row("slow network", full=2)
def slow_network(testbed: Testbed, tally: Tally) -> None:
    with Run(testbed) as run:
        testbed.proxy.delay_s = 0.1
        slot = run.begin("a", KAFKA_BOOTSTRAP_SERVERS=testbed.proxy.address)
        for _ in range(int(tally.pick(1, 1, 3))):
            mark = run.mark()
            slot.kill()
            run.recovered(mark)
        tally.close(run)


@row("start before the broker", full=2)
def start_before_broker(testbed: Testbed, tally: Tally) -> None:
    """Recovery counts from when the broker answers."""
    with Run(testbed) as run:
        run.pacer.send(200)
        time.sleep(1.0)
        testbed.kafka.kill()
        tally.kills += 1
        run.slot("a").start()
        time.sleep(tally.pick(5, 6, 15))
        testbed.kafka.start()
        up_s = time.monotonic()
        mark = run.mark()
        run.pacer.start()
        run.recovered(mark, since_s=up_s)
        tally.close(run, may_exit=False)


@row("registry down at the start", full=2)
def registry_down_at_start(testbed: Testbed, tally: Tally) -> None:
    """Recovery counts from when it answers again."""
    with Run(testbed) as run:
        run.pacer.start()
        testbed.registry.kill()
        run.slot("a").start()
        time.sleep(tally.pick(5, 6, 15))
        testbed.registry.start()
        run.recovered(run.mark())
        tally.close(run, may_exit=False)


@row("registry down in mid-stream", ci=1, full=3)
def registry_down(testbed: Testbed, tally: Tally) -> None:
    """It is down when hosts begin to use two new schemas: their records wait, none is rejected."""
    evolve_at = RATE * 8
    with Run(testbed, mix=Mix(evolve_at=evolve_at)) as run:
        slot = run.slot("a")
        slot.start()
        run.wait(lambda: slot.log_count("partition taken over") > 0, 60, "the start")
        run.pacer.start()
        run.settled()
        tally.require(run.pacer.sent < evolve_at, f"{run.name}: the registry was killed too late")
        testbed.registry.kill()
        run.wait(lambda: run.pacer.sent > evolve_at + RATE, 60, "the new schemas")
        if tally.dice.random() < 0.5 and not tally.brief:
            slot.kill()
        time.sleep(tally.dice.uniform(1.0, 6.0))
        mark = run.mark()
        testbed.registry.start()
        run.recovered(mark, since_s=time.monotonic())
        tally.close(run, may_exit=False)


@row("state folder cannot be written", full=2)
def state_unwritable(testbed: Testbed, tally: Tally) -> None:
    """No snapshot at all: each restart replays the log from its start."""
    with Run(testbed) as run:
        (run.folder / "state").write_text("a file where the folder should be")
        slot = run.begin("a")
        for _ in range(int(tally.pick(2, 2, 4))):
            run.wait(
                lambda: slot.log_count("snapshot not written") > 0,
                30,
                "the complaint about snapshots",
            )
            mark = run.mark()
            slot.kill()
            run.recovered(mark)
        tally.close(run, may_exit=False)


@row("state volume becomes full", full=3)
def state_full(testbed: Testbed, tally: Tally) -> None:
    """Snapshots fail from some moment on; the restart uses the last valid one."""
    with Run(testbed) as run:
        slot = run.begin("a")
        time.sleep(2.0)
        written = list((run.folder / "state").rglob("*.snapshot"))
        tally.require(bool(written), f"{run.name}: no snapshot before the volume was full")
        for _ in range(int(tally.pick(1, 2, 4))):
            complaints = slot.log_count("snapshot not written")
            slot.cap_files(min(path.stat().st_size for path in written) // 2)
            run.wait(
                lambda n=complaints: slot.log_count("snapshot not written") > n,
                30,
                "the complaint about snapshots",
            )
            mark = run.mark()
            slot.kill()
            run.recovered(mark)
        tally.close(run, may_exit=False)


@row("snapshots damaged", ci=0, full=3)
def snapshots_damaged(testbed: Testbed, tally: Tally) -> None:
    """While the predictor is down, some snapshots get bit errors, others are truncated.

    Recovery counts from its start again.
    """
    with Run(testbed) as run:
        slot = run.begin("a")
        for _ in range(int(tally.pick(2, 2, 4))):
            time.sleep(2.0)
            mark = run.mark()
            slot.kill(again=False)
            run.wait(lambda: slot.process is None, 5, "the end of the process")
            spoilt: dict[Path, bool] = {}
            for path in sorted((run.folder / "state").rglob("*.snapshot")):
                data = bytearray(path.read_bytes())
                if spoilt.setdefault(path.parent, tally.dice.random() < 0.5):
                    _change_bits(data, tally.dice)
                else:
                    del data[tally.dice.randrange(len(data)) :]
                path.write_bytes(data)
            slot.start()
            run.recovered(mark, since_s=time.monotonic())
        tally.require(
            slot.log_count("snapshot skipped") > 0, f"{run.name}: no damaged snapshot was noticed"
        )
        tally.close(run, may_exit=False)


def _change_bits(data: bytearray, dice: random.Random) -> None:
    """Flip one bit anywhere, and some nonzero bytes after the header (most bytes are padding)."""
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    filled = [place for place in range(HEADER_BYTES, len(data)) if data[place]]
    for place in dice.sample(filled, min(32, len(filled))):
        data[place] ^= 1 << dice.randrange(8)
