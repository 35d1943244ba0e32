"""The soak: random faults for a long time, and the resource usage of a predictor meanwhile."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import psutil

from tests.faults.predictor import Slot
from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed

SOAK_RATE = 100
EVERY_S = 2.0
MIB = 1 << 20
MOST_MORE = 4
"""File descriptors or threads that the end may have more than the middle.

An outage leaves some behind for a while.
"""


Sample = tuple[float, float, int, int]
"""(monotonic seconds, resident MiB, open file descriptors, threads)."""


class Usage:
    """Memory, file descriptors and threads of a predictor, sampled in a thread.

    lives : samples by process, as the predictor may exit and be restarted
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.lives: dict[int, list[Sample]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="usage", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)

    @property
    def samples(self) -> list[Sample]:
        """Those of the process that lived longest."""
        return max(self.lives.values(), key=len, default=[])

    def quarters(self, column: int) -> list[float]:
        """Return the median of each quarter of the time."""
        values = np.array([sample[column] for sample in self.samples])
        return [round(float(np.median(quarter)), 1) for quarter in np.array_split(values, 4)]

    def slope_per_hour(self, column: int) -> float:
        """Return how fast the second half grew, by least squares."""
        half = np.array(self.samples[len(self.samples) // 2 :])
        return round(3600 * statistics.linear_regression(half[:, 0], half[:, column]).slope, 1)

    def _sample(self) -> None:
        while not self._closing.wait(EVERY_S):
            process = self.slot.process
            with suppress(psutil.Error):
                if process is not None:
                    seen = psutil.Process(process.pid)
                    sample = (
                        time.monotonic(),
                        seen.memory_info().rss / MIB,
                        seen.num_fds(),
                        seen.num_threads(),
                    )
                    self.lives.setdefault(process.pid, []).append(sample)


class Faults:
    """Each does one thing to one of the services and undoes it.

    stays   : is at most stopped for a moment, and cut off
    suffers : may be killed, and stopped for longer than its session
    """

    def __init__(self, testbed: Testbed, tally: Tally, stays: Slot, suffers: Slot) -> None:
        self.testbed, self.tally, self.dice = testbed, tally, tally.dice
        self.stays, self.suffers = stays, suffers
        self.done: Counter[str] = Counter()
        self.all: dict[str, Callable[[], None]] = {
            "predictor killed": self.suffers.kill,
            "predictor killed at its start": self._kill_twice,
            "predictor stopped": lambda: self._pause(self.suffers, 10.0),
            "the other stopped": lambda: self._pause(self.stays, 2.5),
            "broker killed": self._kill_broker,
            "network cut": self._cut,
            "registry killed": self._kill_registry,
        }

    def one(self) -> float:
        """Carry out one of them; return when it was over, in monotonic seconds."""
        name = self.dice.choice(sorted(self.all))
        self.all[name]()
        self.done[name] += 1
        return time.monotonic()

    def _kill_twice(self) -> None:
        self.suffers.kill()
        time.sleep(self.dice.uniform(0.1, 2.5))
        self.suffers.kill()

    def _pause(self, slot: Slot, most_s: float) -> None:
        slot.freeze()
        time.sleep(self.dice.uniform(0.2, most_s))
        slot.thaw()

    def _kill_broker(self) -> None:
        self.testbed.kafka.kill()
        self.tally.kills += 1
        time.sleep(self.dice.uniform(0.0, 4.0))
        self.testbed.kafka.start()

    def _cut(self) -> None:
        self.testbed.proxy.cut(self.dice.choice(("refuse", "silence")))
        time.sleep(self.dice.uniform(0.5, 15.0))
        self.testbed.proxy.mend()

    def _kill_registry(self) -> None:
        self.testbed.registry.kill()
        if self.dice.random() < 0.5:
            self.suffers.kill()
        time.sleep(self.dice.uniform(0.5, 6.0))
        self.testbed.registry.start()


@row("soak: random faults", quick=0, full=0, soak=1)
def soak(testbed: Testbed, tally: Tally) -> None:
    """Recovery is measured from the end of each fault; some faults overlap a recovery."""
    with Run(testbed, rate=SOAK_RATE) as run:
        # Without a slot: a static member whose answer to joining is lost with the broker is fenced,
        # and ends.
        by_proxy = {"KAFKA_BOOTSTRAP_SERVERS": testbed.proxy.address}
        slots = [run.nameless("stays", **by_proxy), run.slot("suffers", **by_proxy)]
        for slot in slots:
            slot.start()
        run.pacer.start()
        run.settled()
        faults, usage = Faults(testbed, tally, *slots), Usage(slots[0])
        try:
            until_s = time.monotonic() + 60 * tally.minutes
            while time.monotonic() < until_s:
                time.sleep(tally.dice.uniform(0.0, 5.0))
                mark = run.mark()
                over_s = faults.one()
                if tally.dice.random() < 0.7:
                    run.recovered(mark, since_s=over_s)
            run.settled()
        finally:
            usage.close()
        _judge(run, tally, usage, faults)
        tally.close(run)


def _judge(run: Run, tally: Tally, usage: Usage, faults: Faults) -> None:
    """Enter what the one that was never killed took up, and say where it grew."""
    name, samples, all_samples = (
        usage.slot.name,
        len(usage.samples),
        sum(map(len, usage.lives.values())),
    )
    if samples < max(8, all_samples / 2):
        tally.require(
            False,
            f"{run.name}: {name} ended with {dict(usage.slot.exits)}, too often to say what it"
            " takes up",
        )
        return
    quarters = {
        name: usage.quarters(column) for column, name in enumerate(("rss_mib", "fds", "threads"), 1)
    }
    tally.more |= quarters | {
        "rss_slope_mib_per_hour": usage.slope_per_hour(1),
        "samples": samples,
        "ended": dict(usage.slot.exits),
        "minutes": tally.minutes,
        "faults": dict(faults.done),
    }
    for what, (_, middle, _, end) in quarters.items():
        most = 1.1 * middle + 20 if what == "rss_mib" else middle + MOST_MORE
        tally.require(
            end <= most,
            f"{run.name}: {what} of {name} grew from {middle:g} to {end:g} in the second half",
        )
    print(
        ", ".join(f"{what} {figure}" for what, figure in tally.more.items()),
        file=sys.stderr,
        flush=True,
    )
