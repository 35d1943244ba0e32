"""The embedded registry as the real client sees it, and status by status."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import schemas
from lapwing.embedded.registry import EmbeddedRegistry, serve
from shared.errors import ConfigError
from shared.registry import _library

EVENT = schemas.text(schemas.METRIC_EVENT)

_client = _library()  # without its warning of its own dependencies
Schema, SchemaRegistryClient, SchemaRegistryError = (
    _client.Schema,
    _client.SchemaRegistryClient,
    _client.SchemaRegistryError,
)


@pytest.fixture
def server() -> Iterator[EmbeddedRegistry]:
    with serve() as running:
        yield running


@pytest.fixture
def client(server: EmbeddedRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": server.url, "timeout": 5, "max.retries": 0}) as opened:
        yield opened


def avro(**fields: Any) -> Schema:
    named = [
        {"name": name, "type": kind} | ({"default": None} if isinstance(kind, list) else {})
        for name, kind in fields.items()
    ]
    return Schema(json.dumps({"type": "record", "name": "R", "fields": named}), "AVRO")


def ask(server: EmbeddedRegistry, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error_code"]


def test_subjects_versions_and_ids(client: SchemaRegistryClient) -> None:
    one, two = avro(a="int"), avro(a="int", b=["null", "int"])
    first = client.register_schema("s", one)
    second = client.register_schema("s", two)
    assert client.register_schema("other/with slash", one) == first != second
    assert client.get_subjects() == ["other/with slash", "s"]
    assert client.get_versions("s") == [1, 2]
    assert client.get_schema(second).schema_str == two.schema_str
    assert client.lookup_schema("s", one).schema_id == first
    assert client.lookup_schema("s", two).version == 2
    assert client.get_latest_version("s").schema_id == second
    assert client.get_version("s", 1).schema.schema_str == one.schema_str
    assert [(use.subject, use.version) for use in client.get_schema_versions(first)] == [
        ("other/with slash", 1),
        ("s", 1),
    ]
    assert client.get_subjects_by_schema_id(second) == ["s"]
    assert client.get_schema_types() == ["AVRO"]


def test_white_space_and_key_order_make_no_new_schema(client: SchemaRegistryClient) -> None:
    document = json.loads(EVENT)
    turned = json.dumps(dict(reversed(document.items())), indent=7)
    assert client.register_schema("s", Schema(EVENT, "AVRO")) == client.register_schema(
        "s", Schema(turned, "AVRO")
    )
    document["doc"] = "another"
    assert client.register_schema("s", Schema(json.dumps(document), "AVRO")) == 2


def test_levels(client: SchemaRegistryClient) -> None:
    assert client.get_compatibility() == "BACKWARD"
    with pytest.raises(SchemaRegistryError) as caught:
        client.get_compatibility("s")
    assert (caught.value.http_status_code, caught.value.error_code) == (404, 40408)
    client.set_compatibility("s", "FULL_TRANSITIVE")
    client.set_compatibility(level="NONE")
    assert (client.get_compatibility("s"), client.get_compatibility()) == (
        "FULL_TRANSITIVE",
        "NONE",
    )
    client.delete_config("s")
    with pytest.raises(SchemaRegistryError):
        client.get_compatibility("s")


@pytest.mark.parametrize(
    ("level", "added", "removed", "retyped"),
    [
        ("BACKWARD", False, True, False),
        ("FORWARD", True, False, False),
        ("FULL", False, False, False),
        ("NONE", True, True, True),
    ],
)
def test_registering_obeys_the_level(
    client: SchemaRegistryClient, level: str, added: bool, removed: bool, retyped: bool
) -> None:
    """A field without default added, removed, or with another type."""
    client.set_compatibility("s", level)
    client.register_schema("s", avro(a="int", b="int"))
    changes = {
        avro(a="int", b="int", c="int"): added,
        avro(a="int"): removed,
        avro(a="int", b="string"): retyped,
    }
    for schema, allowed in changes.items():
        assert client.test_compatibility("s", schema) is allowed
        if not allowed:
            with pytest.raises(SchemaRegistryError) as caught:
                client.register_schema("s", schema)
            assert (caught.value.http_status_code, caught.value.error_code) == (409, 409)
    assert client.get_versions("s") == [1]


def test_transitive_levels_look_at_all_versions(client: SchemaRegistryClient) -> None:
    client.register_schema("s", avro(a="int"))
    client.set_compatibility("s", "NONE")
    client.register_schema("s", avro(a="int", b="int"))
    wanted = avro(b="int")
    client.set_compatibility("s", "BACKWARD")
    assert client.test_compatibility("s", wanted)
    assert not client.test_compatibility_all_versions("s", avro(b="int", c="int"))
    client.set_compatibility("s", "BACKWARD_TRANSITIVE")
    with pytest.raises(SchemaRegistryError, match="has no default"):
        client.register_schema("s", wanted)


def test_a_deleted_schema_keeps_its_id(client: SchemaRegistryClient) -> None:
    first = client.register_schema("s", avro(a="int"))
    client.register_schema("s", avro(a="int", b=["null", "int"]))
    assert client.delete_version("s", 1) == 1
    assert client.get_versions("s") == [2]
    assert client.delete_subject("s") == [2]
    assert client.get_subjects() == []
    fresh = SchemaRegistryClient({"url": client._rest_client.base_urls[0], "timeout": 5})
    assert fresh.get_schema(first).schema_str == avro(a="int").schema_str
    assert fresh.register_schema("s", avro(a="int")) == first
    assert fresh.get_versions("s") == [3]


WRONG: list[tuple[str, str, Any, int, int]] = [
    ("GET", "/schemas/ids/99", None, 404, 40403),
    ("GET", "/subjects/none/versions", None, 404, 40401),
    ("POST", "/subjects/none", {"schema": '"int"'}, 404, 40401),
    ("POST", "/subjects/there", {"schema": '"long"'}, 404, 40403),
    ("GET", "/subjects/there/versions/2", None, 404, 40402),
    ("GET", "/subjects/there/versions/0", None, 422, 42202),
    ("GET", "/subjects/there/versions/first", None, 422, 42202),
    ("GET", "/subjects/there/versions/" + "9" * 5000, None, 422, 42202),
    ("POST", "/compatibility/subjects/none/versions/latest", {"schema": '"int"'}, 404, 40401),
    ("POST", "/subjects/there/versions", {"schema": '"string"'}, 409, 409),
    ("POST", "/subjects/there/versions", {"schema": "{"}, 422, 42201),
    ("POST", "/subjects/there/versions", {"schema": '{"type": "record", "name": "R"}'}, 422, 42201),
    (
        "POST",
        "/subjects/there/versions",
        {"schema": avro(a=["int", "string"]).schema_str},
        422,
        42201,
    ),
    ("POST", "/subjects/there/versions", {"schema": "{}", "schemaType": "JSON"}, 422, 42201),
    (
        "POST",
        "/subjects/there/versions",
        {"schema": '"int"', "references": [{"name": "x"}]},
        422,
        42201,
    ),
    ("POST", "/subjects/there/versions", {}, 422, 42201),
    ("POST", "/subjects/there/versions", [], 422, 42201),
    ("POST", "/subjects/there/versions", b"{", 400, 400),
    ("POST", "/subjects/there/versions", b"[" * 100_000, 400, 400),
    ("PUT", "/config", {"compatibility": "SIDEWAYS"}, 422, 42203),
    ("PUT", "/config/there", {}, 422, 42203),
    ("DELETE", "/config/there", None, 404, 40408),
    ("GET", "/nonsense", None, 404, 404),
    ("DELETE", "/schemas/ids/1", None, 404, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), WRONG)
def test_errors_have_the_registrys_codes(
    server: EmbeddedRegistry, method: str, path: str, body: Any, status: int, code: int
) -> None:
    answer, found = ask(server, "POST", "/subjects/there/versions", {"schema": '"int"'})
    assert (answer, found["id"], len(found["guid"])) == (200, 1, 36)
    assert ask(server, method, path, body) == (status, code)
    assert ask(server, "GET", "/subjects/there/versions") == (200, [1])


def test_the_global_level_stands_in_where_it_is_asked_for(server: EmbeddedRegistry) -> None:
    assert ask(server, "GET", "/config/none?defaultToGlobal=true") == (
        200,
        {"compatibilityLevel": "BACKWARD"},
    )


def test_a_check_says_why_when_asked_to(server: EmbeddedRegistry) -> None:
    ask(server, "POST", "/subjects/s/versions", {"schema": '"int"'})
    path = "/compatibility/subjects/s/versions/latest?verbose=true"
    status, answer = ask(server, "POST", path, {"schema": '"string"'})
    assert (status, answer["is_compatible"], len(answer["messages"])) == (200, False, 1)


def test_many_clients_at_once_get_one_id(server: EmbeddedRegistry) -> None:
    found: list[Any] = []
    body = {"schema": EVENT}
    threads = [
        threading.Thread(
            target=lambda i=i: found.append(
                ask(server, "POST", f"/subjects/s{i % 2}/versions", body)
            )
        )
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(200, {"id": 1, "guid": found[0][1]["guid"]})] * 12
    assert ask(server, "GET", "/subjects/s0/versions") == (200, [1])


def test_a_port_in_use_is_named(server: EmbeddedRegistry) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: .*in use; choose another port"):
        serve("127.0.0.1", port)
    with pytest.raises(ConfigError, match="70000"):
        serve("127.0.0.1", 70000)


def test_a_closed_registry_frees_its_port() -> None:
    first = serve()
    port = int(first.url.rpartition(":")[2])
    first.close()
    with serve("127.0.0.1", port) as second:
        assert ask(second, "GET", "/subjects") == (200, [])
