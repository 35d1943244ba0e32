"""The services that the demo starts, monitors and stops in order, each with a log file.

Invariant: no child outlives this process (``lapwing.demo.child``); a child that ends too early
           raises an error that shows its last lines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.errors import LapwingError

LAST_LINES = 15


class ChildError(LapwingError):
    """A service of the demo ended with an error, or before it should."""


class Child:
    """One running service; standard output and error go to ``log``."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.stop_requested = False
        self._read_bytes = 0

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def last_lines(self, count: int = LAST_LINES) -> list[str]:
        """Return the end of the log."""
        return self.log.read_text("utf-8", "replace").splitlines()[-count:]

    def has_logged(self, event: str) -> bool:
        """Return whether its log contains the event."""
        return f'{{"event": "{event}"'.encode() in self.log.read_bytes()

    def new_events(self) -> list[dict[str, object]]:
        """Return the log's JSON lines since the last call; other lines are skipped."""
        with self.log.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        events = []
        for raw in whole.splitlines():
            try:
                event = json.loads(raw)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def failure(self) -> ChildError:
        """Return an error with how it ended and its last lines."""
        code = self.process.poll()
        how = (
            f"was ended by signal {-code}"
            if code is not None and code < 0
            else f"ended with exit code {code}"
        )
        output = "\n".join(f"  {text}" for text in self.last_lines()) or "  (no output)"
        return ChildError(f"{self.name} {how}; its last lines:\n{output}")


class Children:
    """Starts services and stops them again, newest first.

    environ      : their environment, in place of this process's
    folder       : where their logs go
    metrics_port : the first one's port of /metrics, the next one's is one higher; 0 = none
    """

    def __init__(self, environ: Mapping[str, str], folder: Path, metrics_port: int = 0) -> None:
        self.environ = dict(environ)
        self.folder = folder
        self._metrics_port = metrics_port
        self._ports: dict[str, int] = {}
        self.all: list[Child] = []
        self._lifeline, self._held_open = os.pipe()

    def start(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Child:
        """Start ``python -m module`` in its own session: Ctrl-C reaches only this process."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                [
                    sys.executable,
                    "-m",
                    "lapwing.demo.child",
                    str(self._lifeline),
                    module,
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environ | self._metrics_of(name) | dict(environ or {}),
                pass_fds=(self._lifeline,),
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.all.append(child)
        return child

    def _metrics_of(self, name: str) -> dict[str, str]:
        """Return the setting of a child's port, the same each time that it is started."""
        if not self._metrics_port:
            return {}
        port = self._ports.setdefault(name, self._metrics_port + len(self._ports))
        return {"LAPWING_TELEMETRY__PORT": str(port)}

    def check(self) -> None:
        """Raise ChildError if one ended with an error before it was stopped."""
        for child in self.all:
            if child.process.poll() and not child.stop_requested:
                raise child.failure()

    def stop(self, child: Child, timeout_s: float = 10.0) -> int:
        """Stop a child, by force after ``timeout_s``; return its exit code."""
        self._request_stop(child)
        try:
            return child.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.process.kill()
            return child.process.wait()

    @staticmethod
    def _request_stop(child: Child) -> None:
        if child.running and not child.stop_requested:
            child.stop_requested = True
            child.process.send_signal(signal.SIGTERM)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop all running children, then close the pipe.

        All are signalled first, then awaited together.
        """
        running = [child for child in reversed(self.all) if child.running]
        for child in running:
            self._request_stop(child)
        deadline_s = time.monotonic() + timeout_s
        for child in running:
            self.stop(child, max(0.0, deadline_s - time.monotonic()))
        for end in (self._lifeline, self._held_open):
            if end >= 0:
                os.close(end)
        self._lifeline = self._held_open = -1
