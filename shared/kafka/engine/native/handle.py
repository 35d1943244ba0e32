"""One client of librdkafka: its configuration, its callbacks and its lifetime.

Invariant: the client is destroyed once, by the last thread that uses it, and never while a call is
under way. Its callbacks live longer than it does. An exception in a callback is raised by the call
that ran the callback.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from shared.errors import ConfigError
from shared.kafka.engine.codes import Code
from shared.kafka.engine.librdkafka import LOG, log_statistics
from shared.kafka.engine.native.errors import fatal, of_code
from shared.kafka.engine.native.library import Library
from shared.kafka.engine.native.structs import (
    DESTROY_NO_CONSUMER_CLOSE,
    NO_ERROR,
    TEXT_BYTES,
    ErrorCallback,
    LogCallback,
    StatisticsCallback,
)
from shared.kafka.engine.port import ClientError

Callback = Callable[..., None]
Owned = tuple[str, int]
"""A function of the library that releases something, and its address."""

_LEVELS = {
    **dict.fromkeys((0, 1, 2), logging.CRITICAL),
    3: logging.ERROR,
    4: logging.WARNING,
    **dict.fromkeys((5, 6), logging.INFO),
}
"""Level by syslog's severity; above them: debug."""


class Handle:
    """A client, and what must be released before it.

    kind      : structs.PRODUCER or CONSUMER
    on_error  : gets errors that no call has caused
    callbacks : {function that sets it: a ctypes callback}
    raises    : ConfigError with librdkafka's message, which names the unknown or invalid setting
    """

    def __init__(
        self,
        library: Library,
        kind: int,
        config: Mapping[str, str],
        on_error: Callable[[ClientError], None],
        callbacks: Mapping[str, Any],
    ) -> None:
        self.library = library
        self._on_error = on_error
        self._failure: BaseException | None = None
        self._owned: list[Owned] = []
        self._lock = threading.Lock()
        self._users = 0
        self._is_closed = False
        self._callbacks = {
            "conf_set_error_cb": ErrorCallback(self.guarded(self._report)),
            "conf_set_log_cb": LogCallback(self.guarded(self._log)),
            "conf_set_stats_cb": StatisticsCallback(self._statistics),
            **callbacks,
        }
        self._client: int | None = self._create(kind, {**config, "log.queue": "true"})
        library.set_log_queue(self._client, None)

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    def own(self, release: str, address: int) -> int:
        """Release something before the client, in reverse order; return its address."""
        self._owned.append((release, address))
        return address

    @contextmanager
    def using(self) -> Iterator[int]:
        """Yield the client's address, which is valid until the end of the block.

        raises : RuntimeError after ``close``; what a callback has raised within the block. A call
                 from within a callback leaves that to the call that runs the callback
        """
        with self.held() as client:
            yield client
        if not self._users:
            failure = self.take_failure()
            if failure is not None:
                raise failure

    @contextmanager
    def held(self) -> Iterator[int]:
        """Do the same, but leave it to the caller to take the failure of a callback."""
        with self._lock:
            if self._is_closed or self._client is None:
                raise RuntimeError("this Kafka client is closed")
            self._users += 1
            client = self._client
        try:
            yield client
        finally:
            self._leave()

    def note(self, failure: BaseException) -> None:
        """Keep a failure for the call that is under way; the first one counts."""
        self._failure = self._failure or failure

    def take_failure(self) -> BaseException | None:
        """Return what a callback has raised or reported since the last call."""
        failure, self._failure = self._failure, None
        return failure

    def guarded(self, callback: Callback) -> Callback:
        """Return a callback that keeps its exception for the call that runs it."""

        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised by the call, also Ctrl-C
                self.note(error)

        return call

    def close(self) -> None:
        """Destroy the client, at once or when the last call on it returns."""
        with self._lock:
            self._is_closed = True
            is_last = self._users == 0
        if is_last:
            self._destroy()

    def __del__(self) -> None:
        with suppress(AttributeError):  # a handle that was not created
            self._destroy()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = self._is_closed and self._users == 0
        if is_last:
            self._destroy()

    def _destroy(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            for release, address in reversed(self._owned):
                getattr(self.library, release)(address)
            self.library.destroy_flags(client, DESTROY_NO_CONSUMER_CLOSE)

    def _create(self, kind: int, config: Mapping[str, str]) -> int:
        library = self.library
        text = ctypes.create_string_buffer(TEXT_BYTES)
        made = library.conf_new()
        for name, value in config.items():
            if library.conf_set(made, name.encode(), str(value).encode(), text, TEXT_BYTES):
                library.conf_destroy(made)
                raise _refused(text)
        for setter, callback in self._callbacks.items():
            getattr(library, setter)(made, ctypes.cast(callback, ctypes.c_void_p))
        client = library.new(kind, made, text, TEXT_BYTES)
        if not client:
            library.conf_destroy(made)
            raise _refused(text)
        return int(client)

    def _report(self, client: int, code: int, reason: bytes | None, _: int | None) -> None:
        if code == Code.LOCAL_FATAL:
            error = fatal(self.library, client)
            if error is not None:
                raise error
        if code != NO_ERROR:
            text = (reason or b"").decode("utf-8", "replace")
            self._on_error(of_code(self.library, code, text))

    def _statistics(self, _: int, text: int, size: int, __: int | None) -> int:
        """Log statistics; 0 lets the library free the text."""
        data = ctypes.string_at(text, size)
        self.guarded(log_statistics)(data.decode("utf-8", "replace"))
        return 0

    def _log(self, client: int, level: int, facility: bytes, text: bytes) -> None:
        name = self.library.name(client).decode() if client else ""
        LOG.log(
            _LEVELS.get(level, logging.DEBUG),
            "%s [%s] %s",
            facility.decode("utf-8", "replace"),
            name,
            text.decode("utf-8", "replace"),
        )


def milliseconds(seconds: float) -> int:
    """Return a timeout as the library takes it."""
    return int(seconds * 1000)


def _refused(text: ctypes.Array[ctypes.c_char]) -> ConfigError:
    return ConfigError(f"kafka settings: {text.value.decode('utf-8', 'replace')}")
