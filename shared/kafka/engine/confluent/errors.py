"""Translation of the library's errors to ``ClientError``, and the creation of its clients.

Invariant: no KafkaError or KafkaException leaves this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from shared.errors import ConfigError
from shared.kafka.engine.codes import Code
from shared.kafka.engine.librdkafka import LOG, log_statistics
from shared.kafka.engine.port import ClientError, Flags

Client = TypeVar("Client")

_FATAL_CAUSES = {
    KafkaError(code).str(): code
    for code in (Code.FENCED_INSTANCE_ID, Code.UNRELEASED_INSTANCE_ID, Code.GROUP_ID_NOT_FOUND)
}
"""Causes of a consumer's fatal error by their texts: the error does not have their codes."""


def client_error(error: KafkaError | KafkaException, partition: int | None = None) -> ClientError:
    """Return an error of the library as a ClientError."""
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else error
    if not isinstance(cause, KafkaError):
        return ClientError(Code.LOCAL_FAIL, str(error), partition=partition)
    flags = Flags.NONE
    if cause.fatal():
        flags |= Flags.FATAL
    if cause.retriable():
        flags |= Flags.RETRIABLE
    if cause.txn_requires_abort():
        flags |= Flags.ABORT
    code = cause.code()
    if code == KafkaError._FATAL:
        text = cause.str()
        code = next((named for known, named in _FATAL_CAUSES.items() if known in text), code)
    return ClientError(code, f"{cause.str()} ({cause.name()})", flags, partition)


@contextmanager
def failures() -> Iterator[None]:
    """Translate exceptions of the library to ClientError."""
    try:
        yield
    except KafkaException as error:
        raise client_error(error) from error


def timed_out(text: str = "no answer") -> ClientError:
    """Return the error of a call without an answer."""
    return ClientError(Code.LOCAL_TIMED_OUT, text)


def open_client(make: Callable[[dict[str, Any]], Client], config: Mapping[str, Any]) -> Client:
    """Create a client that logs to ``LOG``.

    raises : ConfigError with librdkafka's message, which names the unknown or invalid setting
    """
    try:
        return make({**config, "logger": LOG, "stats_cb": log_statistics})
    except (KafkaException, ValueError, TypeError) as error:
        cause = error.args[0] if error.args else error
        reason = cause.str() if isinstance(cause, KafkaError) else str(cause)
        raise ConfigError(f"kafka settings: {reason}") from error
