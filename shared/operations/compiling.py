"""Logs what numba compiles while a service loads its kernels.

Invariant: it changes nothing about what is compiled; where the cache has all kernels it logs
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

log = structlog.get_logger()

EVENT = "numba:compile"
"""Numba's name of the event around each compilation; loading from the cache has another one."""

LONG_S = 1.0
"""A kernel that compiles for longer is logged by its name."""


@contextmanager
def compilation_logged(
    waiting: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Log the kernels that are compiled within the block, which may take minutes.

    waiting : called with what is being compiled, e.g. ``Health.waiting``
    clock   : monotonic seconds
    """
    from numba.core import event

    class Listener(event.Listener):
        """Passes numba's events on."""

        def on_start(self, given: Any) -> None:
            """Note the start of a compilation."""
            compilation.begin(given.data["dispatcher"].py_func)

        def on_end(self, _: Any) -> None:
            """Note its end."""
            compilation.end()

    compilation = _Compilation(waiting, clock)
    listener = Listener()
    event.register(EVENT, listener)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        event.unregister(EVENT, listener)  # type: ignore[no-untyped-call]
        compilation.close()


class _Compilation:
    """The compilations so far; one may begin within another."""

    def __init__(self, waiting: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._waiting = waiting
        self._clock = clock
        self._open: list[tuple[str, float]] = []
        self._count = 0
        self._spent_s = 0.0

    def begin(self, function: Any) -> None:
        if not self._count:
            log.info(
                "compiling kernels",
                because="the cache has none for this version and processor; this takes a minute or"
                " two, and later starts take seconds",
            )
        self._count += 1
        name = f"{function.__module__}.{function.__name__}"
        self._open.append((name, self._clock()))
        self._waiting(f"it is compiling kernels, now {self._open[0][0]}")

    def end(self) -> None:
        name, began_s = self._open.pop()
        took_s = self._clock() - began_s
        if took_s >= LONG_S:
            log.info("kernel compiled", kernel=name, seconds=round(took_s, 1))
        if not self._open:
            self._spent_s += took_s

    def close(self) -> None:
        if self._count:
            log.info("kernels compiled", kernels=self._count, seconds=round(self._spent_s, 1))
