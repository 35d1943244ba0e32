"""The readiness of a service: a sentence why it is not ready, written by its loop.

Invariant: a plain value, without waiting and without decisions.
"""

from __future__ import annotations

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
