"""The Schema Registry's client: schemas by id, ids by schema.

Invariant: an id is unknown only if the registry itself says so. Every other failure is a
TransportError, so that an outage, a wrong URL or a proxy's error page never turns a valid record
into a dead letter.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import schemas
from shared.errors import (
    ConfigError,
    NotAuthenticated,
    NotAuthorized,
    SchemaRefused,
    TransportError,
)
from shared.operations.retry import within
from shared.registry.apicurio import Apicurio, own_api
from shared.registry.references import MOST_REFERENCES, inline
from shared.schema_ids import IdKind, SchemaKey, SchemaRef
from shared.settings import RegistrySettings

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

T = TypeVar("T")

LARGEST_ID = 2**31 - 1
"""Schema ids are positive 32-bit integers; other ids are unknown without a request."""

_SUBJECT_UNKNOWN = (40401, 40402, 40408)
_SCHEMA_UNKNOWN = 40403
_REGISTRY_404 = (*_SUBJECT_UNKNOWN, _SCHEMA_UNKNOWN)
_RETRIABLE_STATUS = (408, 429)
_REFUSED_STATUS = (401, 403)
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class Registry:
    """A Schema Registry with Confluent's REST API; every call ends within ``timeout_s``.

    The client library is imported at the first call.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._texts: dict[SchemaKey, str] = {}
        self._opened: SchemaRegistryClient | None = None

    @property
    def address(self) -> str:
        """The URL without user and password, for messages."""
        return ",".join(_without_secret(url) for url in self.settings.url.split(","))

    def schema(self, key: SchemaKey) -> str | None:
        """Return the text of a schema, requested once; None if the registry does not know it.

        The types of other subjects that it refers to are defined in it.

        raises : TransportError
        """
        if isinstance(key, int) and not 0 < key <= LARGEST_ID:
            return None
        if key not in self._texts:
            text = self._requested(key)
            if text is None:
                return None
            self._texts[key] = text
        return self._texts[key]

    def _requested(self, key: SchemaKey) -> str | None:
        if isinstance(key, int):
            return self._by_id(key)
        if key.kind is IdKind.GUID:
            return self._by_guid(str(key.value))
        urls = [own_api(url.strip()) for url in self.settings.url.split(",")]
        if None not in urls:
            return self._by_apicurio(key, [url for url in urls if url])
        is_id = key.kind is IdKind.CONTENT_ID and int(key.value) <= LARGEST_ID
        return self._by_id(int(key.value)) if is_id else None

    def _by_id(self, schema_id: int) -> str | None:
        action = f"schema {schema_id}"
        try:
            found = self._call(action, lambda client: client.get_schema(schema_id))
        except _NotFound:
            return None
        return self._with_references(action, found)

    def _by_guid(self, guid: str) -> str | None:
        action = f"schema {guid}"
        try:
            found = self._call(action, lambda client: client.get_schema_by_guid(guid))
        except _NotFound:
            return None
        except _NoSuchPath:
            self.subjects()  # raises where no registry answers at all
            return None
        return self._with_references(action, found)

    def _by_apicurio(self, key: SchemaRef, urls: Sequence[str]) -> str | None:
        settings = self.settings
        for url in urls[:-1]:
            try:
                return Apicurio(url, settings).schema(key)
            except TransportError as error:
                if not error.retriable:
                    raise
        return Apicurio(urls[-1], settings).schema(key)

    def _with_references(self, action: str, found: Schema) -> str | None:
        """Return a schema's text with the types of the subjects that it refers to."""
        if found.schema_str is None or not found.references:
            return found.schema_str
        try:
            return inline(found.schema_str, self._referenced(found, {}))
        except (_NotFound, ValueError) as error:
            raise TransportError(
                f"{self.address}: {action}: a reference cannot be resolved: {error}",
                retriable=False,
            ) from error

    def _referenced(self, schema: Schema, seen: dict[tuple[str, int], None]) -> list[str]:
        """Return the texts of the schemas that a schema refers to, directly or not."""
        texts = []
        for reference in schema.references or ():
            subject, version = str(reference.subject), int(reference.version or 0)
            if (subject, version) in seen:
                continue
            seen[subject, version] = None
            if len(seen) > MOST_REFERENCES:
                raise ValueError(f"more than {MOST_REFERENCES} references")
            found = self._version(subject, version)
            texts += [found.schema_str or "", *self._referenced(found, seen)]
        return texts

    def _version(self, subject: str, version: int) -> Schema:
        action = f"version {version} of {subject}"
        found = self._call(action, lambda client: client.get_version(subject, version))
        if found.schema is None:
            raise ValueError(f"{action} has no schema")
        return found.schema

    def ids(self) -> list[int]:
        """Return the ids of the schemas that were requested and found, increasing."""
        return sorted(key for key in self._texts if isinstance(key, int))

    def subjects(self) -> list[str]:
        """Return the subjects; the cheapest request to check that the registry answers."""
        return list(self._call("subjects", lambda client: client.get_subjects()))

    def register(self, subject: str, schema_text: str, level: str) -> int:
        """Register a schema and return its id; idempotent.

        A subject's creator sets its compatibility level, so ``level`` is set only for a subject
        that this call creates, and that has no level yet.

        level  : BACKWARD, FULL, ... as the registry names them
        raises : SchemaRefused where the registry refuses the schema, ConfigError where it refuses
                 the level; TransportError
        """
        schema = _library().Schema(schema_text, "AVRO")
        is_new = not self.versions(subject)
        existing_level = self._own_level(subject) if is_new else None
        action = f"registering {_origin(schema_text)} under {subject}"
        try:
            schema_id = self._call(action, lambda client: client.register_schema(subject, schema))
        except _Incompatible as error:
            subject_level = self.level(subject)
            raise SchemaRefused(
                f"{subject}: {self.address} refuses {_origin(schema_text)}, because it is not"
                " compatible with the subject's schemas at its compatibility level"
                f" {subject_level}: {error.reason}",
                subject,
                subject_level,
            ) from error
        except _Refused as error:
            raise ConfigError(
                f"{subject}: {self.address} refuses {_origin(schema_text)}: {error.reason}"
            ) from error
        if is_new and existing_level is None and len(self.versions(subject)) == 1:
            self._set_first_level(subject, level)
        return int(schema_id)

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject; none for an unknown subject.

        raises : TransportError
        """
        try:
            return sorted(
                self._call(f"versions of {subject}", lambda client: client.get_versions(subject))
            )
        except _NotFound:
            return []

    def latest(self, subject: str) -> str | None:
        """Return the text of a subject's newest schema; None where there is none in Avro.

        raises : TransportError
        """
        try:
            found = self._call(
                f"newest version of {subject}", lambda client: client.get_latest_version(subject)
            )
        except _NotFound:
            return None
        if not found.schema or found.schema.schema_type != "AVRO":
            return None
        return found.schema.schema_str

    def level(self, subject: str) -> str:
        """Return the compatibility level of a subject: its own, else the registry's.

        raises : TransportError
        """
        own = self._own_level(subject)
        return self._global_level() if own is None else own

    def lookup(self, subject: str, schema_text: str) -> int:
        """Return the id of exactly this schema under a subject.

        raises : ConfigError where it is not registered; TransportError
        """
        schema = _library().Schema(schema_text, "AVRO")
        action = f"looking up {_origin(schema_text)} under {subject}"
        try:
            found = self._call(action, lambda client: client.lookup_schema(subject, schema))
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
            raise TransportError(f"{self.address}: {action}: the answer has no id", retriable=False)
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
        """Set the level of a new subject, unless another process has set it meanwhile."""
        found = self._own_level(subject)
        # Apicurio returns its global level as every subject's own level.
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
            if self.settings.ca_file:
                _check_readable(self.settings.ca_file)
                conf["ssl.ca.location"] = self.settings.ca_file
            if self.settings.basic_auth:
                conf["basic.auth.user.info"] = self.settings.basic_auth
            try:
                self._opened = _library().SchemaRegistryClient(conf)
            except ValueError as error:
                raise ConfigError(f"registry.url and registry.basic_auth: {error}") from error
        return self._opened

    def _call(self, action: str, request: Callable[[SchemaRegistryClient], T]) -> T:
        """Make a request; an error is translated, with the address and the action."""
        client = self._client()
        try:
            # In a thread, because a name lookup may hang longer than the client's timeout.
            return within(self.settings.timeout_s, lambda: request(client), "schema-registry")
        except _library().SchemaRegistryError as error:
            raise self._translate(
                action, error.http_status_code, error.error_code, str(error.error_message)
            ) from error
        except TimeoutError as error:
            self._opened = None  # the call that hangs keeps the old client
            raise TransportError(
                f"{self.address}: {action}: no answer within {self.settings.timeout_s:g} s"
            ) from error
        except _http_errors() as error:
            if _UNTRUSTED in str(error):
                raise NotAuthenticated(
                    f"{self.address}: {action}: {error}; registry.ca_file names the authorities"
                    " that may sign its certificate"
                ) from error
            raise TransportError(
                f"{self.address}: {action}: {error or type(error).__name__}"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{self.address}: {action}: the answer is not a schema registry's ({error})"
            raise TransportError(message, retriable=False) from error

    def _translate(self, action: str, status: int, code: int | None, reason: str) -> TransportError:
        where = f"{self.address}: {action}"
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
            message = f"{where}: HTTP {status}, {reason}; {hint}"
            return NotAuthorized(message) if status == 403 else NotAuthenticated(message)
        if status == 404:
            hint = "is there a path missing, such as /apis/ccompat/v7?"
            return _NoSuchPath(
                f"{where}: HTTP 404, no schema registry answers here; {hint}", retriable=False
            )
        return TransportError(
            f"{where}: HTTP {status}, {reason}",
            retriable=status >= 500 or status in _RETRIABLE_STATUS,
        )


class _Answer(TransportError):
    """The registry answered with an error; ``reason`` is its message."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}", retriable=False)
        self.reason = reason


class _NoSuchPath(TransportError):
    """No registry answers here, or it does not have this kind of request."""


class _NotFound(_Answer):
    """The subject, version or schema does not exist."""


class _Refused(_Answer):
    """The registry does not accept the schema or setting."""


class _Incompatible(_Refused):
    """The schema is not compatible with the subject's at its level."""


def _check_readable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"registry.ca_file: {path} cannot be read: {error.strerror}") from error


@cache
def _library() -> Any:
    """Import the registry client at its first use: that takes half a second and emits warnings.

    Warnings are caught only once, because ``catch_warnings`` is not thread-safe.
    """
    with warnings.catch_warnings(record=True):
        import confluent_kafka.schema_registry as library
    return library


def _http_errors() -> tuple[type[Exception], ...]:
    """Return the base errors of the HTTP libraries that the registry client may have loaded."""
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)


def _origin(schema_text: str) -> str:
    """Return which schema a text is: a file of this project, or else the record's name."""
    for name in schemas.ALL:
        if schemas.text(name) == schema_text:
            return f"schemas/{name}.avsc"
    try:
        schema = json.loads(schema_text)
    except ValueError:
        return "a text that is not JSON"
    if isinstance(schema, dict) and "name" in schema:
        return f"the record {schema['name']}"
    return "a schema without a name"


def _without_secret(url: str) -> str:
    parts = urlsplit(url.strip())
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
