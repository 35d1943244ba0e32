"""An outage of broker or registry: waited for, said once, and given up after a deadline.

Invariant: only errors that may be tried again are waited for. An outage has begun when the step that
met its first error began, so a call that hangs counts from its first second.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.counters import OUTAGE_SECONDS, Counters
from shared.errors import TransportError

log = structlog.get_logger()

SAY_AFTER_S = 10.0
CALM_S = 5.0
"""An outage is over after so long without an error: between two probes, a broker that is gone looks
like an idle topic.
"""

HANGS_S = 3.5
"""A step that takes longer is taken for one that waits for an answer, until it is over."""


class Outage:
    """How long broker or registry have not answered.

    deadline_s : an outage that lasts longer is the end
    clock      : monotonic seconds
    """

    def __init__(self, deadline_s: float, clock: Callable[[], float], counters: Counters) -> None:
        self.deadline_s = deadline_s
        self.clock = clock
        self._counters = counters
        self._began_s: float | None = None
        self._trouble_s = 0.0
        self._step_s: float | None = None
        self._said = False
        self._why = ""
        counters.set(OUTAGE_SECONDS, 0)

    def step(self) -> None:
        """Note that a step begins; before the first one, whoever starts the loop counts."""
        first, self._step_s = self._step_s is None, self.clock()
        if first:
            self._counters.follow(OUTAGE_SECONDS, self.seconds)

    def endure(self, error: TransportError) -> None:
        """Note one more error; raises it when it may not be tried again or the deadline has passed."""
        if not error.retriable:
            raise error
        lasted_s = self._note(error)
        if lasted_s >= self.deadline_s:
            raise error
        if lasted_s >= SAY_AFTER_S and not self._said:
            self._said = True
            log.warning(
                "waiting for it to come back", error=str(error), give_up_after_s=self.deadline_s
            )

    def suspect(self, error: TransportError) -> None:
        """Note an error that may have other causes: it counts where its step hung before it."""
        if self._began_s is not None or self._hangs_for_s() >= HANGS_S:
            self._note(error)

    def reason(self) -> str:
        """Return since when there is an outage, and of what; empty without one. Any thread may ask."""
        if self._began_s is not None:
            return f"outage for {self.seconds():.0f} s: {self._why}"
        hangs_s = self._hangs_for_s()
        if hangs_s < HANGS_S:
            return ""
        return (
            f"no answer for {hangs_s:.0f} s: the loop waits for the broker or the registry, or this"
            " machine is very busy"
        )

    def seconds(self) -> float:
        """Return for how long there has been one, 0 = there is none. Any thread may ask."""
        began_s = self._began_s
        if began_s is not None:
            return max(0.0, self.clock() - began_s)
        hangs_s = self._hangs_for_s()
        return hangs_s if hangs_s >= HANGS_S else 0.0

    def calm(self) -> None:
        """Note that things went well; the outage is over after a while of that."""
        now_s = self.clock()
        if self._began_s is None or now_s - self._trouble_s < CALM_S:
            return
        if self._said:
            log.info("it is back", lasted_s=round(self._trouble_s - self._began_s, 1))
        self._began_s = None

    def _note(self, error: TransportError) -> float:
        """Return how long it has lasted."""
        now_s = self.clock()
        self._trouble_s, self._why = now_s, str(error)
        if self._began_s is None:
            self._said = False
            self._began_s = now_s if self._step_s is None else self._step_s
        return now_s - self._began_s

    def _hangs_for_s(self) -> float:
        step_s = self._step_s
        return 0.0 if step_s is None else self.clock() - step_s
