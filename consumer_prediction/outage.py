"""An outage of broker or registry: waited for, said once, and given up after a deadline.

Law: only errors that may be tried again are waited for.
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


class Outage:
    """How long broker or registry have not answered.

    deadline_s : an outage that lasts longer is the end
    clock      : monotonic seconds
    """

    def __init__(self, deadline_s: float, clock: Callable[[], float], counters: Counters) -> None:
        self.deadline_s = deadline_s
        self.clock = clock
        self.counters = counters
        self._began_s: float | None = None
        self._trouble_s = 0.0
        self._said = False
        self._why = ""
        counters.set(OUTAGE_SECONDS, 0)

    def endure(self, error: TransportError) -> None:
        """Note one more error; raises it when it may not be tried again or the deadline has passed."""
        now_s = self.clock()
        if not error.retriable:
            raise error
        self._trouble_s, self._why = now_s, str(error)
        if self._began_s is None:
            self._began_s, self._said = now_s, False
        lasted_s = now_s - self._began_s
        self.counters.set(OUTAGE_SECONDS, lasted_s)
        if lasted_s >= self.deadline_s:
            raise error
        if lasted_s >= SAY_AFTER_S and not self._said:
            self._said = True
            log.warning(
                "waiting for it to come back", error=str(error), give_up_after_s=self.deadline_s
            )

    def reason(self) -> str:
        """Return since when there is an outage, and of what; empty without one. Any thread may ask."""
        began_s = self._began_s
        return "" if began_s is None else f"outage for {self.clock() - began_s:.0f} s: {self._why}"

    def calm(self) -> None:
        """Note that things went well; the outage is over after a while of that."""
        now_s = self.clock()
        if self._began_s is None or now_s - self._trouble_s < CALM_S:
            return
        if self._said:
            log.info("it is back", lasted_s=round(self._trouble_s - self._began_s, 1))
        self.counters.set(OUTAGE_SECONDS, 0)
        self._began_s = None
