"""Writes feedback on incidents into its topic.

Invariant: a call returns when the broker has acknowledged the record, or raises; a repeated call
           writes the same key again, of which the newest counts.
"""

from __future__ import annotations

import threading
from typing import Any

import schemas
from shared.errors import TransportError
from shared.incidents.feedback import outgoing
from shared.kafka import Publisher
from shared.registry import Registry
from shared.settings import Settings

FLUSH_S = 10.0


class FeedbackWriter:
    """Connects with the first record; any thread may write."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()

    def write(self, incident_id: str, feedback: dict[str, Any] | None) -> None:
        """Write feedback; None = take it back.

        raises : ConfigError where the schema is not registered; TransportError, TopicMismatch
        """
        topic = self._settings.topics.feedback
        with self._lock:
            schema_id = None
            if not self._settings.output.is_json:
                registry = Registry(self._settings.registry)
                schema_id = registry.lookup(f"{topic}-value", schemas.text(schemas.FEEDBACK))
            publisher = Publisher(self._settings)
            publisher.send(outgoing(topic, incident_id, feedback, schema_id))
            waiting = publisher.flush(FLUSH_S)
            if publisher.first_error is not None:
                raise publisher.first_error
            if waiting:
                raise TransportError(
                    f"{topic}: the broker has not acknowledged the feedback within {FLUSH_S:g} s",
                    retriable=True,
                )
