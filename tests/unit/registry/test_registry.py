"""The registry client against the embedded registry, and servers that fail or do not answer."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import Schema

import schemas
from lapwing.embedded import registry as registry_server
from lapwing.embedded.registry import EmbeddedRegistry, Request, SchemaStore, serve
from shared.errors import ConfigError, SchemaRefused, TransportError
from shared.registry import Registry
from shared.settings import RegistrySettings
from tests.support.programs import run_code

ROOT = Path(__file__).parents[3]
EVENT = schemas.text(schemas.METRIC_EVENT)
SCORE = schemas.text(schemas.SCORE_EVENT)


@pytest.fixture
def embedded() -> Iterator[EmbeddedRegistry]:
    with serve() as server:
        yield server


def with_a_metric(name: str) -> str:
    schema = json.loads(EVENT)
    schema["fields"].append({"name": name, "type": ["null", "double"], "default": None})
    return json.dumps(schema)


def registry_at(url: str, **settings: object) -> Registry:
    return Registry(RegistrySettings(url=url, **settings))


@contextmanager
def answering(
    answer: Callable[[BaseHTTPRequestHandler], tuple[int, bytes]],
) -> Iterator[tuple[str, list[str]]]:
    """Start a server that gives this answer to every request, and list the requests."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = answer(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_register_look_up_and_read_back(embedded: EmbeddedRegistry) -> None:
    registry = registry_at(embedded.url)
    assert registry.subjects() == []
    first = registry.register("a-value", EVENT, "BACKWARD")
    assert registry.register("a-value", EVENT, "BACKWARD") == first
    second = registry.register("b-value", SCORE, "FULL")
    assert registry.lookup("a-value", EVENT) == first != second
    other = registry_at(embedded.url)
    assert (other.schema(first), other.schema(second)) == (EVENT, SCORE)
    assert (other.ids(), other.subjects()) == ([first, second], ["a-value", "b-value"])
    client = other._client()
    assert (client.get_compatibility("a-value"), client.get_compatibility("b-value")) == (
        "BACKWARD",
        "FULL",
    )


def test_the_level_of_a_subject_that_exists_is_never_changed(embedded: EmbeddedRegistry) -> None:
    registry = registry_at(embedded.url)
    registry.register("a-value", EVENT, "FULL")
    registry.register("a-value", EVENT, "BACKWARD")
    registry.register("a-value", with_a_metric("swap"), "BACKWARD")
    assert (registry.level("a-value"), registry.versions("a-value")) == ("FULL", [1, 2])
    owner = registry._client()
    owner.register_schema("b-value", Schema(EVENT, "AVRO"))
    registry.register("b-value", with_a_metric("swap"), "FULL")
    assert registry.level("b-value") == registry.level("nobody-value") == "BACKWARD"
    owner.set_compatibility(level="NONE")
    assert registry.level("b-value") == "NONE"


def test_a_level_that_was_given_in_advance_stays(embedded: EmbeddedRegistry) -> None:
    registry = registry_at(embedded.url)
    registry._client().set_compatibility("a-value", "NONE")
    registry.register("a-value", EVENT, "FULL")
    assert registry.level("a-value") == "NONE"


def test_a_registry_that_shows_its_own_level_as_the_subjects(
    embedded: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apicurio reports no level for an unknown subject, later the global or a preset one."""

    def of_subject(store: SchemaStore, request: Request, subject: str) -> dict[str, str]:
        store._of(subject)
        return {"compatibilityLevel": store._levels.get(subject, store._level)}

    table = [
        (m, p, of_subject if p.pattern == r"/config/([^/]+)" and m == "GET" else a)
        for m, p, a in registry_server._ROUTES
    ]
    monkeypatch.setattr(registry_server, "_ROUTES", table)
    registry = registry_at(embedded.url)
    registry.register("a-value", EVENT, "FULL")
    registry._client().set_compatibility("b-value", "NONE")
    registry.register("b-value", EVENT, "FULL")
    assert (registry.level("a-value"), registry.level("b-value")) == ("FULL", "NONE")


def test_the_newest_schema_of_a_subject(embedded: EmbeddedRegistry) -> None:
    registry = registry_at(embedded.url)
    assert (registry.latest("a-value"), registry.versions("a-value")) == (None, [])
    registry.register("a-value", EVENT, "FULL")
    registry.register("a-value", with_a_metric("swap"), "FULL")
    assert registry_at(embedded.url).latest("a-value") == with_a_metric("swap")


def test_an_incompatible_schema_is_refused_with_the_reason(embedded: EmbeddedRegistry) -> None:
    registry = registry_at(embedded.url)
    registry.register(
        "a-value",
        EVENT.replace('"cpu"', '"load"').replace('["null", "double"], "default": null', '"double"'),
        "BACKWARD",
    )
    with pytest.raises(ConfigError) as caught:
        registry.register(
            "a-value", EVENT.replace('["null", "double"], "default": null', '"double"'), "BACKWARD"
        )
    assert "a-value" in str(caught.value)
    assert "the record MetricEvent" in str(caught.value)
    assert "its compatibility level BACKWARD" in str(caught.value)
    assert isinstance(caught.value, SchemaRefused)
    assert (caught.value.subject, caught.value.level) == ("a-value", "BACKWARD")
    assert "MetricEvent.cpu: has no default" in str(caught.value)


def test_our_own_files_are_named(embedded: EmbeddedRegistry) -> None:
    registry = registry_at(embedded.url)
    with pytest.raises(
        ConfigError,
        match=r"a-value: .* does not have schemas/metric_event\.avsc .*run `lapwing topics ensure`",
    ):
        registry.lookup("a-value", EVENT)
    registry.register("a-value", EVENT, "BACKWARD")
    with pytest.raises(
        ConfigError,
        match=(
            r"a-value: .* refuses schemas/score_event\.avsc, .* level BACKWARD: .*record"
            r" lapwing\.ScoreEvent"
        ),
    ):
        registry.register("a-value", SCORE, "BACKWARD")
    with pytest.raises(ConfigError, match=r"does not have schemas/score_event\.avsc"):
        registry.lookup("a-value", SCORE)


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "not JSON"), ('{"type": "array"}', "without a name"), ('{"name": "X"}', "record X")],
)
def test_what_is_no_schema_is_refused(embedded: EmbeddedRegistry, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named}.*Invalid schema"):
        registry_at(embedded.url).register("a-value", text, "BACKWARD")


def test_a_level_that_does_not_exist_is_refused(embedded: EmbeddedRegistry) -> None:
    with pytest.raises(ConfigError, match=r"SIDEWAYS.*BACKWARD_TRANSITIVE"):
        registry_at(embedded.url).register("a-value", EVENT, "SIDEWAYS")


def test_an_unknown_id_is_an_answer_and_may_be_known_later() -> None:
    unknown = (404, b'{"error_code": 40403, "message": "Schema 5 not found"}')
    answers = iter([unknown, unknown, (200, json.dumps({"schema": EVENT}).encode())])
    with answering(lambda _: next(answers)) as (url, asked):
        registry = registry_at(url)
        assert [registry.schema(5) for _ in range(2)] == [None, None]
        assert registry.ids() == []
        assert [registry.schema(5) for _ in range(2)] == [EVENT, EVENT]
        assert asked == ["/schemas/ids/5"] * 3
        assert registry.ids() == [5]


@pytest.mark.parametrize("schema_id", [0, 2**31, 2**32 - 1])
def test_an_impossible_id_is_unknown_without_asking(schema_id: int) -> None:
    assert registry_at("http://127.0.0.1:1").schema(schema_id) is None


def test_a_schema_is_asked_for_once() -> None:
    with answering(lambda _: (200, json.dumps({"schema": EVENT}).encode())) as (url, asked):
        registry = registry_at(url)
        assert [registry.schema(7) for _ in range(3)] == [EVENT] * 3
        assert len(asked) == 1


BAD_ANSWERS = [
    (500, b'{"error_code": 50001, "message": "store timeout"}', True, "HTTP 500, store timeout"),
    (503, b"<html>", True, "HTTP 503"),
    (429, b"{}", True, "HTTP 429"),
    (408, b"", True, "HTTP 408"),
    (
        401,
        b'{"error_code": 401, "message": "Unauthorized"}',
        False,
        "HTTP 401, Unauthorized; set registry.basic_auth",
    ),
    (403, b"", False, "HTTP 403"),
    (
        404,
        b"<html>nothing here</html>",
        False,
        "no schema registry answers here; is there a path missing",
    ),
    (
        404,
        b'{"error_code": 404, "message": "HTTP 404 Not Found"}',
        False,
        "no schema registry answers here",
    ),
    (400, b"{}", False, "HTTP 400"),
    (200, b"<html>welcome</html>", False, "not a schema registry's"),
    (200, b"[1]", False, "not a schema registry's"),
]


@pytest.mark.parametrize(("status", "body", "retriable", "why"), BAD_ANSWERS)
def test_a_bad_answer_is_never_an_unknown_schema(
    status: int, body: bytes, retriable: bool, why: str
) -> None:
    with answering(lambda _: (status, body)) as (url, asked):
        registry = registry_at(url)
        for attempt in (1, 2):
            with pytest.raises(TransportError) as caught:
                registry.schema(5)
            assert (caught.value.retriable, len(asked)) == (retriable, attempt)
            assert why in str(caught.value)
            assert url in str(caught.value)


def test_a_closed_port_is_retriable_and_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TransportError, match=f"{url}: schema 5: .*refused") as caught:
            registry_at(url).schema(5)
    assert caught.value.retriable


def test_a_silent_or_dripping_server_is_given_up_in_time() -> None:
    """One byte every 50 ms would satisfy a timeout that counts from the last byte."""

    def drip(handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        for _ in range(1_200):
            handler.wfile.write(b"H")
            handler.wfile.flush()
            time.sleep(0.05)
        return 200, b""

    with answering(drip) as (url, _):
        registry = registry_at(url, timeout_s=0.3)
        registry._client()  # importing it takes its own time
        began_s = time.monotonic()
        with pytest.raises(TransportError, match=r"no answer within 0\.3 s") as caught:
            registry.subjects()
        assert time.monotonic() - began_s < 30
        assert caught.value.retriable


def test_basic_auth_and_a_path() -> None:
    given: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        given.append(handler.headers["Authorization"])
        return 200, b'["x-value"]'

    with answering(answer) as (url, asked):
        assert registry_at(f"{url}/apis/ccompat/v7", basic_auth="me:a:b").subjects() == ["x-value"]
        assert registry_at(f"{url.replace('//', '//me:a%3Ab@')}/apis/ccompat/v7/").subjects() == [
            "x-value"
        ]
    assert [path.partition("?")[0] for path in asked] == ["/apis/ccompat/v7/subjects"] * 2
    assert given == ["Basic " + base64.b64encode(b"me:a:b").decode()] * 2


def test_a_password_is_never_shown() -> None:
    with pytest.raises(TransportError) as caught:
        registry_at("http://me:secret@127.0.0.1:1/path").subjects()
    assert "http://127.0.0.1:1/path" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"url": "localhost:8081"}, "'localhost:8081' is not a URL"),
        ({"url": "mock://x"}, "not a URL"),
        ({"url": "http://"}, "not a URL"),
        ({"url": "http://localhost", "basic_auth": "nopassword"}, "basic_auth"),
        ({"url": "http://me:pw@localhost", "basic_auth": "you:pw"}, "basic_auth"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, str], why: str) -> None:
    given = RegistrySettings.model_construct(**{"timeout_s": 5.0, "basic_auth": "", **settings})
    with pytest.raises(ConfigError, match=why):
        Registry(given).subjects()


def test_the_client_is_not_loaded_before_the_first_call() -> None:
    code = (
        "import sys; from shared.registry import Registry; from shared.settings import"
        " RegistrySettings;Registry(RegistrySettings()); print('confluent_kafka' in sys.modules)"
    )
    ran = run_code(code)
    assert (ran.stdout, ran.stderr) == ("False\n", "")


def test_loading_the_client_says_nothing() -> None:
    code = (
        "from shared.registry import Registry; from shared.settings import RegistrySettings;from"
        " shared.errors import TransportError\ntry:"
        " Registry(RegistrySettings(url='http://127.0.0.1:1')).subjects()\nexcept TransportError:"
        " print('ok')"
    )
    ran = run_code(code)
    assert (ran.stdout, ran.stderr) == ("ok\n", "")
