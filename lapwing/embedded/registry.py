"""A Schema Registry in memory, with the part of Confluent's REST API that the real client needs.

Invariant: status, error code and compatibility result equal those of the reference registry; its
content ends with the process.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from lapwing.embedded.compatibility import LEVELS, violations, wrong_defaults
from shared.decode.avro.schema import AvroType, SchemaInvalid, parse_schema
from shared.errors import ConfigError

MAX_BODY_BYTES = 4 * 1024 * 1024
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


def serve(host: str = "127.0.0.1", port: int = 0) -> EmbeddedRegistry:
    """Start a registry in a separate thread.

    port   : 0 = any free port
    raises : ConfigError if host and port are not available
    """
    return EmbeddedRegistry(host, port)


class EmbeddedRegistry:
    """A running registry; clients connect to ``url``."""

    def __init__(self, host: str, port: int) -> None:
        self.schemas = SchemaStore()
        try:
            self._server = _Server((host, port), _handler_of(self.schemas))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"the embedded registry cannot listen on {host}:{port}: {error}; choose another"
                " port"
            ) from error
        shown = "127.0.0.1" if host in ("", "0.0.0.0") else host  # noqa: S104 - compared, not bound
        self.url = f"http://{shown}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="registry", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> EmbeddedRegistry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RestError(Exception):
    """An error response: HTTP status and the registry's error code."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """Query parameters and JSON body of a request; None = no body."""

    query: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    schema_id: int
    text: str
    avro: AvroType


class SchemaStore:
    """Subjects, their versions and levels; one method per kind of request."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._texts: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._subjects: dict[str, list[_Version]] = {}
        self._numbers: dict[str, int] = {}
        self._levels: dict[str, str] = {}
        self._level = "BACKWARD"

    def answer(self, method: str, path: str, request: Request) -> Any:
        """Answer one request; raises RestError for an error response."""
        for wanted, pattern, answer in _ROUTES:
            found = pattern.fullmatch(path)
            if found and wanted == method:
                with self._lock:
                    return answer(self, request, *map(unquote, found.groups()))
        raise RestError(404, 404, "HTTP 404 Not Found")

    def _list_subjects(self, request: Request) -> list[str]:
        return sorted(self._subjects)

    def _list_versions(self, request: Request, subject: str) -> list[int]:
        return [version.number for version in self._of(subject)]

    def _get_version(self, request: Request, subject: str, number: str) -> dict[str, Any]:
        return _described(subject, self._version(subject, number))

    def _version_text(self, request: Request, subject: str, number: str) -> Any:
        return json.loads(self._version(subject, number).text)

    def _register(self, request: Request, subject: str) -> dict[str, int | str]:
        text, avro = _schema_of(request.body)
        versions = self._subjects.get(subject, [])
        found = _same(versions, text)
        if found is not None:
            return {"id": found.schema_id, "guid": _guid(found.text)}
        level = self._levels.get(subject, self._level)
        problems = violations(level, avro, [version.avro for version in versions])
        if problems:
            details = "; ".join(problems)
            raise RestError(
                409,
                409,
                "Schema being registered is incompatible with an earlier schema for subject"
                f' "{subject}", details: [{details}], compatibility: {level}',
            )
        schema_id = self._ids.setdefault(_identity(text), len(self._ids) + 1)
        self._texts.setdefault(schema_id, text)
        self._numbers[subject] = self._numbers.get(subject, 0) + 1
        self._subjects[subject] = [
            *versions,
            _Version(self._numbers[subject], schema_id, text, avro),
        ]
        return {"id": schema_id, "guid": _guid(text)}

    def _lookup(self, request: Request, subject: str) -> dict[str, Any]:
        versions = self._of(subject)
        text, _ = _schema_of(request.body)
        found = _same(versions, text)
        if found is None:
            raise RestError(404, 40403, "Schema not found")
        return _described(subject, found)

    def _delete_subject(self, request: Request, subject: str) -> list[int]:
        numbers = [version.number for version in self._of(subject)]
        del self._subjects[subject]
        self._levels.pop(subject, None)
        return numbers

    def _delete_version(self, request: Request, subject: str, number: str) -> int:
        deleted = self._version(subject, number)
        left = [version for version in self._of(subject) if version is not deleted]
        if left:
            self._subjects[subject] = left
        else:
            del self._subjects[subject]
        return deleted.number

    def _get_schema(self, request: Request, schema_id: str) -> dict[str, Any]:
        return {"schema": self._text(schema_id)}

    def _by_guid(self, request: Request, guid: str) -> dict[str, Any]:
        for text in self._texts.values():
            if _guid(text) == guid.lower():
                return {"schema": text, "guid": guid.lower()}
        raise RestError(404, 40403, f"Schema {guid} not found")

    def _schema_text(self, request: Request, schema_id: str) -> Any:
        return json.loads(self._text(schema_id))

    def _uses(self, request: Request, schema_id: str) -> list[dict[str, Any]]:
        self._text(schema_id)
        return [
            {"subject": subject, "version": version.number}
            for subject, versions in sorted(self._subjects.items())
            for version in versions
            if version.schema_id == int(schema_id)
        ]

    def _using_subjects(self, request: Request, schema_id: str) -> list[str]:
        return [use["subject"] for use in self._uses(request, schema_id)]

    def _check(self, request: Request, subject: str, number: str = "") -> dict[str, Any]:
        _, avro = _schema_of(request.body)
        level = self._levels.get(subject, self._level)
        earlier = [self._version(subject, number)] if number else self._of(subject)
        problems = violations(level, avro, [version.avro for version in earlier])
        answer: dict[str, Any] = {"is_compatible": not problems}
        return answer | {"messages": problems} if request.query.get("verbose") == "true" else answer

    def _level_of(self, request: Request, subject: str = "") -> dict[str, str]:
        if (
            subject
            and subject not in self._levels
            and request.query.get("defaultToGlobal") != "true"
        ):
            raise RestError(
                404,
                40408,
                f"Subject '{subject}' does not have subject-level compatibility configured",
            )
        return {"compatibilityLevel": self._levels.get(subject, self._level)}

    def _set_level(self, request: Request, subject: str = "") -> dict[str, str]:
        level = request.body.get("compatibility") if isinstance(request.body, dict) else None
        if level not in LEVELS:
            raise RestError(
                422,
                42203,
                f"Invalid compatibility level {level!r}: valid values are {', '.join(LEVELS)}",
            )
        if subject:
            self._levels[subject] = level
        else:
            self._level = level
        return {"compatibility": level}

    def _delete_level(self, request: Request, subject: str) -> dict[str, str]:
        answer = self._level_of(Request({}, None), subject)
        del self._levels[subject]
        return answer

    def _of(self, subject: str) -> list[_Version]:
        if subject not in self._subjects:
            raise RestError(404, 40401, f"Subject '{subject}' not found.")
        return self._subjects[subject]

    def _version(self, subject: str, number: str) -> _Version:
        versions = self._of(subject)
        if number in ("latest", "-1"):
            return versions[-1]
        if not re.fullmatch(r"[1-9]\d{0,17}", number, re.ASCII):
            raise RestError(
                422, 42202, f"The specified version '{number}' is not a valid version id."
            )
        for version in versions:
            if version.number == int(number):
                return version
        raise RestError(404, 40402, f"Version {number} not found.")

    def _text(self, schema_id: str) -> str:
        if int(schema_id) not in self._texts:
            raise RestError(404, 40403, f"Schema {schema_id} not found")
        return self._texts[int(schema_id)]


_SUBJECT, _NUMBER, _ID = r"/subjects/([^/]+)", r"/versions/([^/]+)", r"/schemas/ids/(\d{1,18})"

_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
    (method, re.compile(pattern), answer)
    for method, pattern, answer in (
        ("GET", r"/?", lambda *_: {}),
        ("GET", r"/mode", lambda *_: {"mode": "READWRITE"}),
        ("GET", r"/schemas/types", lambda *_: ["AVRO"]),
        ("GET", _ID, SchemaStore._get_schema),
        ("GET", r"/schemas/guids/([0-9a-fA-F-]{36})", SchemaStore._by_guid),
        ("GET", _ID + r"/schema", SchemaStore._schema_text),
        ("GET", _ID + r"/versions", SchemaStore._uses),
        ("GET", _ID + r"/subjects", SchemaStore._using_subjects),
        ("GET", r"/subjects", SchemaStore._list_subjects),
        ("POST", _SUBJECT, SchemaStore._lookup),
        ("DELETE", _SUBJECT, SchemaStore._delete_subject),
        ("GET", _SUBJECT + r"/versions", SchemaStore._list_versions),
        ("POST", _SUBJECT + r"/versions", SchemaStore._register),
        ("GET", _SUBJECT + _NUMBER, SchemaStore._get_version),
        ("DELETE", _SUBJECT + _NUMBER, SchemaStore._delete_version),
        ("GET", _SUBJECT + _NUMBER + r"/schema", SchemaStore._version_text),
        ("POST", r"/compatibility" + _SUBJECT + r"/versions", SchemaStore._check),
        ("POST", r"/compatibility" + _SUBJECT + _NUMBER, SchemaStore._check),
        ("GET", r"/config", SchemaStore._level_of),
        ("PUT", r"/config", SchemaStore._set_level),
        ("GET", r"/config/([^/]+)", SchemaStore._level_of),
        ("PUT", r"/config/([^/]+)", SchemaStore._set_level),
        ("DELETE", r"/config/([^/]+)", SchemaStore._delete_level),
    )
]


def _schema_of(body: Any) -> tuple[str, AvroType]:
    """Return text and type of the schema in a request; error 42201 if it is not valid."""
    if not isinstance(body, dict) or not isinstance(body.get("schema"), str):
        raise RestError(422, 42201, "Empty schema: the request has no string 'schema'")
    if body.get("schemaType", "AVRO") not in ("AVRO", None) or body.get("references"):
        raise RestError(
            422,
            42201,
            "Invalid schema: the embedded registry takes Avro schemas without references only",
        )
    try:
        avro = parse_schema(body["schema"])
    except SchemaInvalid as error:
        raise RestError(422, 42201, f"Invalid schema: {error}") from error
    wrong = wrong_defaults(avro)
    if wrong:
        raise RestError(422, 42201, f"Invalid schema: invalid default for {'; '.join(wrong)}")
    return body["schema"], avro


def _identity(text: str) -> str:
    """Return a canonical text: without white space, with sorted attributes."""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def _guid(text: str) -> str:
    """Return a schema's GUID, the same in every registry of this kind."""
    return str(uuid5(NAMESPACE_URL, _identity(text)))


def _same(versions: list[_Version], text: str) -> _Version | None:
    wanted = _identity(text)
    return next((version for version in versions if _identity(version.text) == wanted), None)


def _described(subject: str, version: _Version) -> dict[str, Any]:
    return {
        "subject": subject,
        "version": version.number,
        "id": version.schema_id,
        "guid": _guid(version.text),
        "schema": version.text,
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without the base class's reverse name lookup, which may hang."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = (
            str(self.server_address[0]),
            int(self.server_address[1]),
        )


def _handler_of(store: SchemaStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body leave together

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Log nothing; the demo uses the terminal."""

        def _answer(self) -> None:
            url = urlsplit(self.path)
            try:
                answer, status = (
                    store.answer(
                        self.command, url.path, Request(dict(parse_qsl(url.query)), self._body())
                    ),
                    200,
                )
            except RestError as error:
                answer, status = {"error_code": error.code, "message": str(error)}, error.status
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _body(self) -> Any:
            size = self.headers.get("Content-Length", "0")
            if not size.isdecimal() or int(size) > MAX_BODY_BYTES:
                self.close_connection = True
                raise RestError(413, 413, f"a request has at most {MAX_BODY_BYTES} bytes")
            data = self.rfile.read(int(size))
            try:
                return json.loads(data) if data else None
            except (ValueError, RecursionError) as error:
                raise RestError(400, 400, f"the request is not JSON: {error}") from error

    return Handler
