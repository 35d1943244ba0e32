"""The Kafka client libraries behind one port, and the choice of one.

Invariant: the rest of ``shared.kafka`` knows ``port`` and ``codes`` only, so that another library
is a package beside ``confluent`` and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from shared.errors import ConfigError
from shared.kafka.engine.confluent import ConfluentEngine
from shared.kafka.engine.librdkafka import LOG
from shared.kafka.engine.port import Engine
from shared.settings import Settings

AUTO = "native"
"""The engine that ``engine = auto`` means where it can be used; elsewhere it means python."""


@cache
def _python() -> Engine:
    return ConfluentEngine()


@cache
def _native() -> Engine:
    from shared.kafka.engine.native import NativeEngine, Unavailable

    try:
        return NativeEngine(_python().admin)
    except Unavailable as error:
        raise ConfigError(f"engine: native cannot be used: {error}; use auto or python") from error


ENGINES: dict[str, Callable[[], Engine]] = {"python": _python, "native": _native}
"""The available libraries by the name in the settings; each is loaded when it is first used."""


def engine_of(settings: Settings) -> Engine:
    """Return the library that a process uses.

    raises : ConfigError where the one that the settings name cannot be used; ``auto`` then uses
             python instead, with a line in the log
    """
    if settings.engine != "auto":
        return ENGINES[settings.engine]()
    try:
        return ENGINES[AUTO]()
    except ConfigError as error:
        LOG.info("engine = auto uses python: %s", error.__cause__ or error)
        return ENGINES["python"]()


def engine_name(settings: Settings) -> str:
    """Return the name of the library that ``engine_of`` returns."""
    return "python" if engine_of(settings) is ENGINES["python"]() else "native"
