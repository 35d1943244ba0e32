"""The door to the Schema Registry: schemas by id, ids by schema.

Law: only the registry's own "there is no such schema" is an answer and kept; all else is a
     TransportError, so that an outage,
a wrong URL or a proxy's error page never turns a good record into a dead letter.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import schemas
from shared.errors import ConfigError, SchemaRefused, TransportError
from shared.retry import within
from shared.settings import RegistrySettings

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

T = TypeVar("T")

LARGEST_ID = 2**31 - 1
"""Registries number schemas by positive 32-bit integers; other ids are unknown without asking."""

_SUBJECT_UNKNOWN = (40401, 40402, 40408)
_SCHEMA_UNKNOWN = 40403
_REGISTRY_404 = (*_SUBJECT_UNKNOWN, _SCHEMA_UNKNOWN)
_RETRIABLE_STATUS = (408, 429)
_REFUSED_STATUS = (401, 403)


class Registry:
    """A Schema Registry that speaks Confluent's REST API; every call ends within ``timeout_s``.

    The client is imported and connected at the first call.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._texts: dict[int, str] = {}
        self._opened: SchemaRegistryClient | None = None

    @property
    def address(self) -> str:
        """The URL as messages may show it: without user and password."""
        return ",".join(_without_secret(url) for url in self.settings.url.split(","))

    def schema(self, schema_id: int) -> str | None:
        """Return the text of a schema, asked for once; None if the registry says that there is none
        of this id as yet.

        raises : TransportError where the registry gives no such answer
        """
        if not 0 < schema_id <= LARGEST_ID:
            return None
        if schema_id not in self._texts:
            try:
                found = self._call(
                    f"schema {schema_id}", lambda client: client.get_schema(schema_id)
                )
            except _NotFound:
                return None
            if found.schema_str is None:
                return None
            self._texts[schema_id] = found.schema_str
        return self._texts[schema_id]

    def ids(self) -> list[int]:
        """Return the ids that ``schema`` has found so far, increasing."""
        return sorted(self._texts)

    def subjects(self) -> list[str]:
        """Return the subjects; the cheapest question to see whether the registry answers."""
        return list(self._call("subjects", lambda client: client.get_subjects()))

    def register(self, subject: str, schema_text: str, level: str) -> int:
        """Register a schema and return its id; harmless when the subject has it already.

        Whoever makes a subject decides its compatibility level, so ``level`` is for a subject that
        this call has made, and one that somebody has given a level in advance keeps it.

        level  : BACKWARD, FULL, ... as the registry names them
        raises : SchemaRefused where the registry refuses the schema, ConfigError where it refuses
                 the level; TransportError
        """
        schema = _library().Schema(schema_text, "AVRO")
        is_new = not self.versions(subject)
        in_advance = self._own_level(subject) if is_new else None
        doing = f"registering {_origin(schema_text)} under {subject}"
        try:
            schema_id = self._call(doing, lambda client: client.register_schema(subject, schema))
        except _Incompatible as error:
            held = self.level(subject)
            raise SchemaRefused(
                f"{subject}: {self.address} refuses {_origin(schema_text)}, for it does not go with"
                f" the schemas that are there at the subject's compatibility level {held}:"
                f" {error.reason}",
                subject,
                held,
            ) from error
        except _Refused as error:
            raise ConfigError(
                f"{subject}: {self.address} refuses {_origin(schema_text)}: {error.reason}"
            ) from error
        if is_new and in_advance is None and len(self.versions(subject)) == 1:
            self._set_first_level(subject, level)
        return int(schema_id)

    def versions(self, subject: str) -> list[int]:
        """Return the versions that a subject holds, none where there is no such subject; raises
        TransportError.
        """
        try:
            return sorted(
                self._call(f"versions of {subject}", lambda client: client.get_versions(subject))
            )
        except _NotFound:
            return []

    def latest(self, subject: str) -> str | None:
        """Return the text of a subject's newest Avro schema, None where there is none; raises
        TransportError.
        """
        try:
            found = self._call(
                f"newest version of {subject}", lambda client: client.get_latest_version(subject)
            )
        except _NotFound:
            return None
        return (
            found.schema.schema_str if found.schema and found.schema.schema_type == "AVRO" else None
        )

    def level(self, subject: str) -> str:
        """Return the compatibility level that holds for a subject: its own, else the registry's;
        raises TransportError.
        """
        own = self._own_level(subject)
        return self._global_level() if own is None else own

    def lookup(self, subject: str, schema_text: str) -> int:
        """Return the id of exactly this schema under a subject.

        raises : ConfigError where it is not registered; TransportError
        """
        schema = _library().Schema(schema_text, "AVRO")
        doing = f"looking up {_origin(schema_text)} under {subject}"
        try:
            found = self._call(doing, lambda client: client.lookup_schema(subject, schema))
        except _NotFound as error:
            raise ConfigError(
                f"{subject}: {self.address} does not have {_origin(schema_text)} ({error.reason});"
                " run `lapwing topics ensure`"
            ) from error
        except _Refused as error:
            raise ConfigError(
                f"{subject}: {self.address} refuses {_origin(schema_text)}: {error.reason}"
            ) from error
        if found.schema_id is None:
            raise TransportError(f"{self.address}: {doing}: the answer has no id", retriable=False)
        return found.schema_id

    def _own_level(self, subject: str) -> str | None:
        try:
            return str(
                self._call(f"config of {subject}", lambda client: client.get_compatibility(subject))
            )
        except _NotFound:
            return None

    def _global_level(self) -> str:
        return str(self._call("config", lambda client: client.get_compatibility()))

    def _set_first_level(self, subject: str, level: str) -> None:
        """Give a subject that was just made its level, unless it has got one otherwise meanwhile."""
        found = self._own_level(subject)
        # Apicurio shows its global level as every subject's own
        if found is not None and found != self._global_level():
            return
        try:
            self._call(
                f"setting {subject} to {level}",
                lambda client: client.set_compatibility(subject, level),
            )
        except _Refused as error:
            raise ConfigError(
                f"{subject}: {self.address} refuses the compatibility level {level}: {error.reason}"
            ) from error

    def _client(self) -> SchemaRegistryClient:
        if self._opened is None:
            for url in self.settings.url.split(","):
                if not re.match(r"https?://[^/]", url.strip()):
                    raise ConfigError(
                        f"registry.url: {_without_secret(url)!r} is not a URL such as"
                        " http://localhost:8081"
                    )
            conf: dict[str, Any] = {
                "url": self.settings.url,
                "timeout": self.settings.timeout_s,
                "max.retries": 0,
            }
            if self.settings.basic_auth:
                conf["basic.auth.user.info"] = self.settings.basic_auth
            try:
                self._opened = _library().SchemaRegistryClient(conf)
            except ValueError as error:
                raise ConfigError(f"registry.url and registry.basic_auth: {error}") from error
        return self._opened

    def _call(self, doing: str, ask: Callable[[SchemaRegistryClient], T]) -> T:
        """Ask the registry; what goes wrong becomes an error of ours that names the address and
        what was being done.
        """
        client = self._client()
        try:
            # in a thread, as not even a name lookup that hangs may take longer
            return within(self.settings.timeout_s, lambda: ask(client), "schema-registry")
        except _library().SchemaRegistryError as error:
            raise self._translate(
                doing, error.http_status_code, error.error_code, str(error.error_message)
            ) from error
        except TimeoutError as error:
            self._opened = None  # whatever hangs keeps the old client
            raise TransportError(
                f"{self.address}: {doing}: no answer within {self.settings.timeout_s:g} s"
            ) from error
        except _http_errors() as error:
            raise TransportError(
                f"{self.address}: {doing}: {error or type(error).__name__}"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{self.address}: {doing}: the answer is not a schema registry's ({error})"
            raise TransportError(message, retriable=False) from error

    def _translate(self, doing: str, status: int, code: int | None, reason: str) -> TransportError:
        where = f"{self.address}: {doing}"
        if status == 404 and code in _REGISTRY_404:
            return _NotFound(where, reason)
        if status == 409:
            return _Incompatible(where, reason)
        if status == 422:
            return _Refused(where, reason)
        if status in _REFUSED_STATUS:
            hint = (
                "set registry.basic_auth"
                if not self.settings.basic_auth
                else "registry.basic_auth is not accepted"
            )
            return TransportError(f"{where}: HTTP {status}, {reason}; {hint}", retriable=False)
        if status == 404:
            hint = "is there a path missing, such as /apis/ccompat/v7?"
            return TransportError(
                f"{where}: HTTP 404, no schema registry answers here; {hint}", retriable=False
            )
        return TransportError(
            f"{where}: HTTP {status}, {reason}",
            retriable=status >= 500 or status in _RETRIABLE_STATUS,
        )


class _Answer(TransportError):
    """The registry answered, but no; ``reason`` is what it said."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}", retriable=False)
        self.reason = reason


class _NotFound(_Answer):
    """It does not have the subject, version or schema."""


class _Refused(_Answer):
    """It does not take the schema or setting."""


class _Incompatible(_Refused):
    """The subject's level does not allow the schema beside those that it holds."""


@cache
def _library() -> Any:
    """Import the registry client at its first use: it takes half a second, and warns meanwhile.

    Warnings are touched once and no more, as ``catch_warnings`` is not meant for several threads.
    """
    with warnings.catch_warnings(record=True):
        import confluent_kafka.schema_registry as library
    return library


def _http_errors() -> tuple[type[Exception], ...]:
    """Return the root of the HTTP client's errors; the registry client loads one library or its
    successor.
    """
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)


def _origin(schema_text: str) -> str:
    """Return which schema a text is: our file, or else the record's name."""
    for name in schemas.ALL:
        if schemas.text(name) == schema_text:
            return f"schemas/{name}.avsc"
    try:
        schema = json.loads(schema_text)
    except ValueError:
        return "a text that is not JSON"
    return (
        f"the record {schema['name']}"
        if isinstance(schema, dict) and "name" in schema
        else "a schema without a name"
    )


def _without_secret(url: str) -> str:
    parts = urlsplit(url.strip())
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
