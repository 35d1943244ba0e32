"""The readiness of a service: a sentence why it is not ready, written by its loop.

Invariant: a plain value, without waiting and without decisions.
"""

from __future__ import annotations

from typing import Protocol

STARTING = "it is starting"


class Health:
    """The answer to a readiness probe; one thread writes, any thread may read."""

    def __init__(self) -> None:
        self._why = STARTING

    def __call__(self) -> str:
        """Return why the service is not ready; empty when it is."""
        return self._why

    def waiting(self, why: str) -> None:
        """Set what the service waits for, with the address or the file."""
        self._why = why

    def ready(self) -> None:
        """Set the service to ready."""
        self._why = ""


class Loop(Protocol):
    """A service's loop, which knows why it is not ready."""

    def reason(self) -> str:
        """Return why the service is not ready; empty when it is."""
        ...


class LoopHealth(Health):
    """The reasons of a service before its loop runs, and of the loop afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: Loop | None = None

    def __call__(self) -> str:
        """Return why the service is not ready; empty when it is."""
        return super().__call__() if self.loop is None else self.loop.reason()
