"""A service as a process under a supervisor that a row can kill, freeze and starve.

Invariant: its output is kept, and its exits are counted by exit code.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO

STOP_S = 25.0
INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An installed service has its bytecode, and does not compile its sources at each start."""

KILLED, TERMINATED = -signal.SIGKILL, -signal.SIGTERM
"""Exit codes; a process that gets SIGTERM before its handler is installed has the second one."""


def environ_of(tree: Path | None) -> dict[str, str]:
    """Return the environment with which Python runs the product from a source tree."""
    return {} if tree is None else {"PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": ""}


class Slot:
    """A service under a supervisor, which restarts it at once after any exit while wanted.

    module : what is run, a predictor unless it says otherwise
    """

    def __init__(
        self,
        name: str,
        log: Path,
        environ: Mapping[str, str],
        tree: Path | None = None,
        module: str = "consumer_prediction",
    ) -> None:
        self.module = module
        self.name = name
        self.log = log
        self.environ = environ
        self.tree = tree
        self.exits: Counter[int] = Counter()
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self.next: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            self.wanted = True
            self._launch()

    def arm(self, failpoint: str) -> None:
        """Let the next process die at a fail point."""
        self.next = {"LAPWING_FAILPOINT": failpoint}

    def restart_if_ended(self) -> None:
        """Count the exit of an ended process, and restart it while wanted."""
        with self._lock:
            if self.process is not None and (code := self.process.poll()) is not None:
                self.exits[code] += 1
                self.process = None
                if self.wanted:
                    self._launch()

    def kill(self, *, again: bool = True) -> None:
        """Send SIGKILL, and start the process again if ``again``."""
        self.wanted = self.wanted and again
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> int | None:
        """Send SIGTERM; return the exit code, None when it had to be killed."""
        self.wanted = False
        self._signal(signal.SIGTERM)
        process = self.process
        if process is None:
            return 0
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def cap_files(self, size_bytes: int) -> None:
        """Limit the size of files, as on a full volume."""
        process = self.process
        assert process is not None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    def log_count(self, text: str) -> int:
        """Return how often a text occurs in its log."""
        if not self.log.exists():
            return 0
        return self.log.read_text("utf-8", "replace").count(text)

    def _signal(self, number: signal.Signals) -> None:
        process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _launch(self) -> None:
        once, self.next = self.next, {}
        # The output goes through a pipe, because cap_files must not limit the log.
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            cwd=self.tree,
            env=INSTALLED | environ_of(self.tree) | self.environ | once,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._copy_output, args=(self.process.stdout,), daemon=True).start()

    def _copy_output(self, pipe: IO[bytes]) -> None:
        with pipe, self.log.open("ab", buffering=0) as log:
            for line in pipe:
                log.write(line)
