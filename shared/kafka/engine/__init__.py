"""The Kafka client libraries behind one port, and the choice of one.

Invariant: the rest of ``shared.kafka`` knows ``port`` and ``codes`` only, so that another library
is a package beside ``confluent`` and a line here.
"""

from __future__ import annotations

from shared.kafka.engine.confluent import ConfluentEngine
from shared.kafka.engine.port import Engine
from shared.settings import Settings

ENGINES: dict[str, Engine] = {"confluent": ConfluentEngine()}
"""The available libraries by name."""


def engine_of(settings: Settings) -> Engine:
    """Return the library that a process uses; with a second one, a setting will choose it."""
    return ENGINES["confluent"]
