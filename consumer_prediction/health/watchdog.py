"""Ends a process whose loop hangs, so that a supervisor restarts it.

Invariant: the watchdog needs no Python code when it fires, so it also ends a process that hangs in
           a library call or holds the interpreter lock.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO

REARM_S = 1.0


class Watchdog:
    """A context manager that exits the process with 1 when it is not called within a deadline.

    deadline_s : longest time between two calls
    stopping   : returned by each call; the loop calls the watchdog before each step
    file       : where the stacks of all threads are written before the exit
    """

    def __init__(
        self, deadline_s: float, stopping: Callable[[], bool], file: IO[str] | None = None
    ) -> None:
        self.deadline_s = deadline_s
        self._stopping = stopping
        self._file = file or sys.stderr
        self._armed_s = -float("inf")

    def __call__(self) -> bool:
        """Restart the deadline and return whether to stop."""
        now_s = time.monotonic()
        if now_s - self._armed_s >= min(REARM_S, self.deadline_s / 10):
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
