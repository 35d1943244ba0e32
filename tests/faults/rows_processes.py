"""Rows about predictors: killed, frozen, stopped, more and fewer of them."""

from __future__ import annotations

import time

from shared.operations.failpoints import NAMES
from tests.faults.predictor import KILLED, TERMINATED, Slot
from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed

SESSION_S = 6.0
IN_REBALANCE = ("in_revoke", "after_revoke")
COUNTED = (
    "after_poll",
    "after_process",
    "after_produce",
    "before_offsets",
    "after_offsets",
    "after_commit",
)
IN_CI = ("after_produce", "after_offsets", "after_commit", "mid_snapshot", "in_replay")


@row("kill -9 at random, one predictor", few=1, ci=1, full=5)
def kill_at_random(testbed: Testbed, tally: Tally) -> None:
    """Killed at any moment of its work, and sometimes again while it is only starting."""
    with Run(testbed) as run:
        victim = run.begin("a")
        for _ in range(int(tally.pick(5, 12, 20, few=3))):
            time.sleep(tally.dice.uniform(0.0, 1.5))
            mark = run.mark()
            victim.kill()
            if tally.dice.random() < 0.3:
                _wait_for_exits(run, victim, KILLED, victim.exits[KILLED] + 1)
                time.sleep(tally.dice.uniform(0.0, 2.5))
                mark = run.mark()
                victim.kill()
            run.recovered(mark)
        tally.close(run, may_exit=False)


@row("kill -9 at random, three predictors", ci=1, full=4)
def kill_in_a_group(testbed: Testbed, tally: Tally) -> None:
    """One, two or all of them, often before they have found together again."""
    with Run(testbed) as run:
        slots = run.begin_all("abc")
        for _ in range(int(tally.pick(3, 8, 20))):
            time.sleep(tally.dice.uniform(0.0, 1.5))
            mark = run.mark()
            for victim in tally.dice.sample(slots, tally.dice.choice((1, 2, 3))):
                victim.kill()
            if tally.dice.random() < 0.5:
                run.recovered(mark)
            else:
                time.sleep(tally.dice.uniform(0.0, 4.0))
        run.settled()
        tally.close(run)


@row("kill -9, nobody comes back: failover", ci=1, full=6)
def failover(testbed: Testbed, tally: Tally) -> None:
    """The partitions of the dead one go to the other; its open transaction ends by its timeout."""
    with Run(testbed) as run:
        slots = run.begin_all("ab")
        mark = run.mark()
        tally.dice.choice(slots).kill(again=False)
        run.recovered(mark)
        tally.close(run, may_exit=False)


@row("kill -9 at each fail point", ci=1, full=3)
def kill_at_fail_points(testbed: Testbed, tally: Tally) -> None:
    with Run(testbed) as run:
        victim = run.begin("a")
        model = 1
        for name in IN_CI if tally.brief else NAMES:
            if name == "after_activation":
                run.published.add(testbed.publish_next(run.models_dir, model))
                model = 1 - model
            died = victim.exits[KILLED]
            times = tally.dice.randint(1, 4) if name in COUNTED else 1
            victim.arm(f"{name}:{times}")
            victim.kill()
            if name in IN_REBALANCE:
                _die_giving_up(run, victim, name, died, tally)
                continue
            _wait_for_exits(run, victim, KILLED, died + 2)
            run.recovered(run.mark())
        tally.close(run, may_exit=False)


@row("kill -9 while partitions are given up", quick=0, full=2)
def kill_while_giving_up(testbed: Testbed, tally: Tally) -> None:
    """The fail points of this moment, without the others."""
    with Run(testbed) as run:
        victim = run.begin("a")
        for name in IN_REBALANCE:
            died = victim.exits[KILLED]
            victim.arm(name)
            victim.kill()
            _die_giving_up(run, victim, name, died, tally)
        tally.close(run, may_exit=False)


def _die_giving_up(run: Run, victim: Slot, name: str, died: int, tally: Tally) -> None:
    """Start a second member, so that the first one (killed and armed) has to release partitions."""
    _wait_for_exits(run, victim, KILLED, died + 1)
    run.settled()
    other = run.nameless(f"second-{name}")
    other.start()
    _wait_for_exits(run, victim, KILLED, died + 2)
    run.recovered(run.mark())
    tally.require(other.stop() == 0, f"{run.name}: the second member did not shut down cleanly")
    run.settled()


@row("SIGSTOP beyond the session: zombie", ci=1, full=4)
def zombie(testbed: Testbed, tally: Tally) -> None:
    """It wakes up in the middle of a transaction on partitions that are another's by now."""
    with Run(testbed) as run:
        slots = run.begin_all("ab")
        for _ in range(int(tally.pick(1, 1, 2))):
            time.sleep(tally.dice.uniform(0.0, 0.5))
            mark = run.mark()
            victim = tally.dice.choice(slots)
            victim.freeze()
            run.recovered(mark)
            time.sleep(
                max(0.0, mark.at_s + SESSION_S + tally.dice.uniform(1.0, 6.0) - time.monotonic())
            )
            victim.thaw()
            time.sleep(2.0)
            run.settled()
        tally.close(run)


@row("SIGSTOP shorter than the session", full=4)
def pause(testbed: Testbed, tally: Tally) -> None:
    with Run(testbed) as run:
        victim = run.begin("a")
        for _ in range(int(tally.pick(2, 3, 6))):
            time.sleep(tally.dice.uniform(0.2, 1.0))
            victim.freeze()
            time.sleep(tally.dice.uniform(1.0, 5.5))
            mark = run.mark()
            victim.thaw()
            run.recovered(mark)
        tally.close(run)


@row("SIGTERM drains", few=1, ci=1, full=3)
def drain(testbed: Testbed, tally: Tally) -> None:
    """It ends with 0, and leaves nothing open that the next one would have to wait for."""
    with Run(testbed) as run:
        slot = run.begin("a")
        for _ in range(int(tally.pick(2, 3, 10))):
            time.sleep(tally.dice.uniform(0.1, 1.0))
            began_s = time.monotonic()
            tally.require(
                (code := slot.stop()) == 0,
                f"{run.name}: ended with {code} after SIGTERM\n{run.logs()}",
            )
            run.wait(lambda: slot.process is None, 5, "the end of the process")
            mark = run.mark()  # what is sent from here on only the next process has
            slot.start()
            run.recovered(mark, since_s=began_s)
        tally.close(run, may_exit=False)


@row("rescale 1 -> 4 -> 2 under load", ci=1, full=3)
def rescale(testbed: Testbed, tally: Tally) -> None:
    """Commits are rare, so that a released partition has an open transaction."""
    with Run(testbed, LAPWING_PREDICT__COMMIT_INTERVAL_MS="2000") as run:
        slots = [run.slot(name) for name in "abcd"]
        slots[0].start()
        run.pacer.start()
        run.settled()
        for slot in slots[1:]:
            slot.start()
        run.shared(slots)
        time.sleep(1.0)
        mark = run.mark()
        for slot in tally.dice.sample(slots, 2):
            tally.require(
                (code := slot.stop()) == 0,
                f"{run.name}: {slot.name} ended with {code} after SIGTERM",
            )
        run.recovered(mark)
        time.sleep(1.0)
        tally.close(run, may_exit=False)


@row("rebalance storm", full=1)
def storm(testbed: Testbed, tally: Tally) -> None:
    """Dynamic members join and leave every second or two, cleanly or killed, while one stays.

    Results are compared byte for byte with those of a run without faults, including anomaly ids.
    """
    with Run(testbed, rate=200) as run:
        run.begin("stays")
        members = [run.nameless(f"m{k}") for k in range(3)]
        until_s = time.monotonic() + tally.pick(15, 30, 300)
        while time.monotonic() < until_s:
            member = tally.dice.choice(members)
            if member.process is None:
                taken = member.log_count("partition taken over")
                member.start()
                if tally.dice.random() < 0.5:
                    run.wait(
                        lambda m=member, n=taken: m.log_count("partition taken over") > n,
                        30,
                        "a share for the new member",
                    )
            elif tally.dice.random() < 0.3:
                member.kill(again=False)
            else:
                tally.require(
                    (code := member.stop()) in (0, KILLED, TERMINATED, 1),
                    f"{run.name}: {member.name} ended with {code}\n{run.logs()}",
                )
            time.sleep(tally.dice.uniform(0.3, 2.5))
        run.recovered(run.mark())
        tally.close(run)


def _wait_for_exits(run: Run, slot: Slot, code: int, count: int) -> None:
    run.wait(lambda: slot.exits[code] >= count, 60, f"end {count} of {slot.name}")
