"""The few requests to OpenSearch: index templates, bulk, and what their answers mean.

Invariant: every request returns within the timeout, and is retried with growing pauses until
``give_up_after_s``; then the error names the server and what it said. An item that OpenSearch will
never take is returned by name, not retried; what a newer version has replaced counts as written.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog

from lapwing.export.opensearch_documents import Action
from shared.errors import ConfigError, TransportError
from shared.settings import OpenSearchSettings

log = structlog.get_logger()

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
MOST_BYTES = 5 << 20
"""Body of one bulk request; a single larger action is sent alone."""

_CONFLICT, _MISSING = 409, 404
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that OpenSearch will not take, e.g. because a field does not fit the mapping."""

    action: Action
    status: int
    why: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


class OpenSearchClient:
    """A connection to one server, opened again when it was lost.

    stopping : ends a pause between two attempts
    """

    def __init__(
        self,
        settings: OpenSearchSettings,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None
        self._tls = _context(settings)

    def ensure_template(self, name: str, template: Mapping[str, Any]) -> bool:
        """Create an index template if there is none; return whether it was created."""
        path = f"/_index_template/{name}"
        if self._ask("HEAD", path, b"", allowed={_MISSING}).status != _MISSING:
            return False
        self._ask("PUT", path, json.dumps(template).encode())
        return True

    def bulk(self, actions: Sequence[Action]) -> list[Refused]:
        """Write actions in order; return those that OpenSearch will never take.

        raises : TransportError after give_up_after_s, or on a request to stop between attempts
        """
        refused: list[Refused] = []
        for part in _parts(actions):
            refused += self._bulk(part)
        return refused

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _bulk(self, actions: Sequence[Action]) -> list[Refused]:
        refused: list[Refused] = []
        left, began_s, pause_s = list(actions), self._clock(), FIRST_PAUSE_S
        while left:
            body = b"".join(action.lines for action in left)
            answer = self._ask("POST", "/_bulk", body, began_s=began_s)
            again, why = [], ""
            for action, item in zip(left, _items(answer, len(left)), strict=True):
                ((kind, result),) = item.items()
                status = int(result["status"])
                if status < 300 or status == _CONFLICT:
                    continue
                if kind == "delete" and status == _MISSING:
                    continue
                why = _reason(result.get("error"))
                if status == 429 or status >= 500:
                    again.append(action)
                else:
                    refused.append(Refused(action, status, why))
            left = again
            if left:
                pause_s = self._wait(f"{len(left)} items: {why}", began_s, pause_s)
        return refused

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes,
        allowed: set[int] | None = None,
        began_s: float | None = None,
    ) -> _Answer:
        """Send a request until it is answered.

        raises : ConfigError for an answer that a retry cannot change, TransportError
        """
        began_s, pause_s = began_s or self._clock(), FIRST_PAUSE_S
        while True:
            try:
                answer = self._once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                why = f"{type(error).__name__}: {error}"[:_SHOWN]
            else:
                if answer.status < 300 or answer.status in (allowed or ()):
                    return answer
                why = f"HTTP {answer.status}: {answer.body[:_SHOWN].decode('utf-8', 'replace')}"
                if answer.status < 500 and answer.status not in (408, 429):
                    raise ConfigError(f"opensearch.url: {self._address} refuses {path}: {why}")
            pause_s = self._wait(why, began_s, pause_s)

    def _once(self, method: str, path: str, body: bytes) -> _Answer:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        headers = {"Content-Type": "application/x-ndjson" if path == "/_bulk" else _JSON}
        if self._settings.user:
            pair = f"{self._settings.user}:{self._settings.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        base = urlsplit(self._settings.url).path.rstrip("/")
        connection.request(method, base + path, body or None, headers)
        answer = connection.getresponse()
        return _Answer(answer.status, answer.read())

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._settings.url)
        host, timeout_s = parts.hostname or "", self._settings.timeout_s
        if self._tls is not None:
            return http.client.HTTPSConnection(
                host, parts.port or 443, timeout=timeout_s, context=self._tls
            )
        return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_s)

    def _wait(self, why: str, began_s: float, pause_s: float) -> float:
        """Pause before another attempt; return the next pause."""
        lasted_s = self._clock() - began_s
        if self._stopping() or lasted_s >= self._settings.give_up_after_s:
            raise TransportError(
                f"OpenSearch at {self._address} has not taken a request for {lasted_s:.0f} s: {why}"
            )
        log.warning("opensearch does not answer", address=self._address, because=why)
        self._sleep(pause_s)
        return min(2 * pause_s, LONGEST_PAUSE_S)

    @property
    def _address(self) -> str:
        return urlsplit(self._settings.url).netloc


_JSON = "application/json"


def _context(settings: OpenSearchSettings) -> ssl.SSLContext | None:
    if not settings.url.startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"opensearch.ca_file {settings.ca_file}: {error}") from error


def _parts(actions: Sequence[Action]) -> list[list[Action]]:
    parts: list[list[Action]] = []
    size = MOST_BYTES
    for action in actions:
        if size + len(action.lines) > MOST_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(action)
        size += len(action.lines)
    return parts


def _items(answer: _Answer, count: int) -> list[dict[str, Any]]:
    """Return the result of each item; raises TransportError for an answer of another form."""
    try:
        items = json.loads(answer.body)["items"]
    except (ValueError, KeyError, TypeError) as error:
        raise TransportError(f"the answer to a bulk request cannot be read: {error!r}") from error
    if len(items) != count:
        raise TransportError(f"a bulk request of {count} items was answered for {len(items)}")
    found: list[dict[str, Any]] = items
    return found


def _reason(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)[:_SHOWN]
    text = f"{error.get('type')}: {error.get('reason')}"
    cause = error.get("caused_by")
    return (f"{text} ({cause.get('reason')})" if isinstance(cause, dict) else text)[:_SHOWN]
