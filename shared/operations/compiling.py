"""Compiles kernels on all cores where numba's cache lacks one, and says so.

Invariant: it changes nothing about the kernels; where the cache has all of them it does nothing.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()

EVENT = "numba:compile"
"""Numba's name of the event around each compilation; loading from the cache has another one."""

LONG_S = 1.0
"""A kernel that compiles for longer is logged by its name."""

ROOT = Path(__file__).parents[2]
"""Folder from which ``shared`` is imported."""


def compile_all(tell: Callable[[str], None]) -> None:
    """Compile all kernels into numba's cache, each core in a process of its own.

    tell : called with a line for each module that took long

    Several processes that need kernels do it one after the other: the first one compiles, the
    others find what it has compiled. Where it fails, nothing is raised but a line says so: a kernel
    that is still missing is compiled by the process that needs it.
    """
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from shared.kernels.__main__ import main\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-P", "-c", program]
    try:
        with Path(__file__).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
                for line in process.stdout or ():
                    tell(line.rstrip())
    except OSError as error:
        tell(f"not compiled in processes of their own: {error}")


CompileAll = Callable[[Callable[[str], None]], None]


@contextmanager
def kernels_compiled(
    tell: Callable[[str], None], compile_missing: CompileAll = compile_all
) -> Iterator[None]:
    """Compile all kernels at once where the cache lacks one that the block loads.

    tell : called with what a user should know of it
    """
    begun: list[bool] = []

    def begin(_: Any) -> None:
        if not begun:
            begun.append(True)
            tell("compiling the kernels, once; this takes a minute or two")
            compile_missing(tell)

    with _listening(begin, lambda: None):
        yield


@contextmanager
def compilation_logged(
    waiting: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    compile_missing: CompileAll = compile_all,
) -> Iterator[None]:
    """Compile as ``kernels_compiled`` does, and log the kernels that the block compiles itself.

    waiting : called with what is being compiled, e.g. ``Health.waiting``
    clock   : monotonic seconds
    """
    compilation = _Compilation(waiting, clock, compile_missing)
    try:
        with _listening(compilation.begin, compilation.end):
            yield
    finally:
        compilation.close()


@contextmanager
def _listening(begin: Callable[[Any], None], end: Callable[[], None]) -> Iterator[None]:
    """Call ``begin`` with each function that numba compiles within the block, then ``end``."""
    from numba.core import event

    class Listener(event.Listener):
        """Passes numba's events on."""

        def on_start(self, given: Any) -> None:
            """Note the start of a compilation."""
            begin(given.data["dispatcher"].py_func)

        def on_end(self, _: Any) -> None:
            """Note its end."""
            end()

    listener = Listener()
    event.register(EVENT, listener)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        event.unregister(EVENT, listener)  # type: ignore[no-untyped-call]


class _Compilation:
    """The compilations so far; one may begin within another."""

    def __init__(
        self,
        waiting: Callable[[str], None],
        clock: Callable[[], float],
        compile_missing: CompileAll,
    ) -> None:
        self._waiting = waiting
        self._clock = clock
        self._compile_missing = compile_missing
        self._open: list[tuple[str, float]] = []
        self._count = 0
        self._spent_s = 0.0

    def begin(self, function: Any) -> None:
        if not self._count:
            self._begin_all()
        self._count += 1
        name = f"{function.__module__}.{function.__name__}"
        self._open.append((name, self._clock()))
        self._waiting(f"it is compiling kernels, now {self._open[0][0]}")

    def _begin_all(self) -> None:
        log.info(
            "compiling kernels",
            because="the cache has none for this version and processor; this takes a minute or"
            " two, and later starts take seconds",
        )
        self._waiting("it is compiling kernels")
        began_s = self._clock()
        self._compile_missing(lambda line: log.info("compiling kernels", progress=line))
        self._spent_s += self._clock() - began_s

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
