"""From the library's errors to ``ClientError``, and how a client of it is made.

Invariant: no KafkaError or KafkaException leaves this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from shared.errors import ConfigError
from shared.kafka.engine.codes import Code
from shared.kafka.engine.confluent.log import LOG
from shared.kafka.engine.port import ClientError, Flags

Client = TypeVar("Client")

_TWIN = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
"""A consumer's fatal error tells its cause in words only; these are those of a second member."""


def client_error(error: KafkaError | KafkaException, partition: int | None = None) -> ClientError:
    """Return what an error of the library says."""
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
    if code == KafkaError._FATAL and _TWIN in cause.str():
        code = KafkaError.FENCED_INSTANCE_ID
    return ClientError(code, f"{cause.str()} ({cause.name()})", flags, partition)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the library raises into ClientError."""
    try:
        yield
    except KafkaException as error:
        raise client_error(error) from error


def no_answer(doing: str = "no answer") -> ClientError:
    """Return the error of a call that was given up."""
    return ClientError(Code.LOCAL_TIMED_OUT, doing)


def open_client(make: Callable[[dict[str, Any]], Client], config: Mapping[str, Any]) -> Client:
    """Make a client whose log lines go to ``LOG``.

    raises : ConfigError with librdkafka's sentence, which names the setting that is unknown or
             impossible
    """
    try:
        return make({**config, "logger": LOG})
    except (KafkaException, ValueError, TypeError) as error:
        cause = error.args[0] if error.args else error
        reason = cause.str() if isinstance(cause, KafkaError) else str(cause)
        raise ConfigError(f"kafka settings: {reason}") from error
