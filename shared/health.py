"""Why a service is not ready: one sentence, written by its loop and read by whoever asks.

Law: a plain value; it waits for nothing and decides nothing.
"""

from __future__ import annotations

STARTING = "it is starting"


class Health:
    """The answer to a readiness probe; one thread writes, any thread reads."""

    def __init__(self) -> None:
        self._why = STARTING

    def __call__(self) -> str:
        """Return why the service is not ready; an empty text when it is."""
        return self._why

    def waiting(self, why: str) -> None:
        """Say what is waited for, with the address or the file that it depends on."""
        self._why = why

    def ready(self) -> None:
        """Say that nothing is waited for."""
        self._why = ""
