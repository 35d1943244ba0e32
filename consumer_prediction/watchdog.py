"""Ends a process whose loop does not come back, so that a supervisor can start it again.

Law: it needs nothing from the interpreter at the moment it acts: a call into a library that never
     returns is ended as well, and
one that holds the interpreter's lock.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO

BEAT_S = 1.0


class Watchdog:
    """A context: not asked for longer than a deadline while it is open, it says where the process hangs
           and exits with 1.

    deadline_s : longest time between two calls
    stopping   : what it answers with; the loop asks it before each step
    file       : where the stacks of all threads are written
    """

    def __init__(
        self, deadline_s: float, stopping: Callable[[], bool], file: IO[str] | None = None
    ) -> None:
        self.deadline_s = deadline_s
        self._stopping = stopping
        self._file = file or sys.stderr
        self._armed_s = -float("inf")

    def __call__(self) -> bool:
        """Whether to stop; the deadline begins anew."""
        now_s = time.monotonic()
        if now_s - self._armed_s >= min(BEAT_S, self.deadline_s / 10):
            self._armed_s = now_s
            faulthandler.dump_traceback_later(self.deadline_s, exit=True, file=self._file)
        return self._stopping()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
