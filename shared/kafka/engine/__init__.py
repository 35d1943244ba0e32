"""Kafka clients under one port, and the place where one is chosen.

Invariant: what lies above knows ``port`` and ``codes`` only, so that another client is a package
beside ``confluent`` and a line here.
"""

from __future__ import annotations

from shared.kafka.engine.confluent import ConfluentEngine
from shared.kafka.engine.port import Engine
from shared.settings import Settings

ENGINES: dict[str, Engine] = {"confluent": ConfluentEngine()}
"""The clients that there are, by name."""


def engine_of(settings: Settings) -> Engine:
    """Return the client that a process uses; as long as there is one, no setting chooses it."""
    return ENGINES["confluent"]
