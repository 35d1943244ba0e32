"""A real service that a test session starts, breaks and restarts; one interface for all kinds.

Invariant: no process outlives the test process, and the output of a service is in its log file,
           which is shown when the service does not start.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

READY_S = 60.0
STOP_S = 20.0


class ServiceFailed(Exception):
    """A service did not come up or did not go down; the message holds the end of its log."""


class Service(ABC):
    """Something that listens on a fixed local port and keeps its data over a restart."""

    name: str
    address: str
    ready_s = READY_S
    """Time in which it must answer after its start."""

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the first launch; may run in parallel with other services' preparations."""

    @abstractmethod
    def launch(self) -> None:
        """Start, on the same port and data as before, and do not wait."""

    @abstractmethod
    def alive(self) -> bool:
        """Return whether it is still there, whatever it does."""

    @abstractmethod
    def stop(self) -> None:
        """Shut down cleanly."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a power cut would."""

    @abstractmethod
    def freeze(self) -> None:
        """Let it hang: it accepts and never answers."""

    @abstractmethod
    def thaw(self) -> None:
        """Undo ``freeze``."""

    @abstractmethod
    def close(self) -> None:
        """End it and delete its data."""

    @abstractmethod
    def log(self, lines: int = 60) -> str:
        """Return the end of its log."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask it something only a working service can answer."""

    def start(self) -> None:
        """Start, and return when it answers; on the same port and data as before."""
        self.prepare()
        self.launch()
        self.wait_ready()

    def restart(self) -> None:
        """Shut down cleanly and start again."""
        self.stop()
        self.start()

    def wait_ready(self) -> None:
        """Wait until it answers; raise ServiceFailed with the log on exit or after ready_s."""
        deadline = time.monotonic() + self.ready_s
        while not self.answers():
            late = time.monotonic() > deadline
            if late or not self.alive():
                log = self.log()
                self.kill()
                how = f"did not answer within {self.ready_s:g} s" if late else "ended at once"
                raise ServiceFailed(f"{self.name} at {self.address} {how}:\n{log}")
            time.sleep(0.05)


class ProcessService(Service):
    """A service as a child process in its own folder."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.address = f"127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"lapwing-{name}-"))
        self._log = self.folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return what to run."""

    def environment(self) -> dict[str, str]:
        """Return variables beside the process's own."""
        return {}

    def prepare(self) -> None:
        pass

    def launch(self) -> None:
        if self._process is not None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=os.environ | self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        self._end(signal.SIGTERM, STOP_S)

    def kill(self) -> None:
        self._end(signal.SIGKILL, STOP_S)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, lines: int = 60) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])
        return "(no log)"

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise ServiceFailed(
                f"{self.name} was still there {timeout_s:g} s after {how.name}:\n{self.log()}"
            ) from error


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_answers(port: int) -> bool:
    """Return whether a local port is in use."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _end_with_parent() -> None:
    """Let the kernel kill the child when its parent thread ends (prctl PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
