"""The export to OpenSearch against a double of its bulk interface, and its templates."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lapwing.export.opensearch_client import MOST_BYTES, OpenSearchClient
from lapwing.export.opensearch_documents import Action, action_of, template_of
from shared.errors import ConfigError, TransportError
from shared.settings import OpenSearchSettings

DEPLOY = Path(__file__).parents[3] / "deploy" / "opensearch"
EVENT = {"event_id": "e1", "entity": "web", "attributions": {"cpu.jump": 1.0}, "event_time": 5}
TOO_BUSY = {"type": "rejected_execution_exception", "reason": "queue is full"}
UNFIT = {
    "type": "mapper_parsing_exception",
    "reason": "failed to parse field [value]",
    "caused_by": {"reason": "For input string: x"},
}


class Double:
    """Answers bulk requests from a script: an HTTP status, or the status of each item."""

    def __init__(self, script: list[Any]) -> None:
        self.script = script
        self.bodies: list[bytes] = []
        self.authorization: list[str | None] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                double.bodies.append(body)
                double.authorization.append(self.headers["Authorization"])
                step = double.script.pop(0)
                if isinstance(step, int):
                    self._answer(step, b"no")
                    return
                items = [{kind: {"status": status, "error": error}} for kind, status, error in step]
                self._answer(200, json.dumps({"errors": True, "items": items}).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def ids(self) -> list[list[str]]:
        """Return the ids that each request named."""
        return [
            [
                next(iter(json.loads(line).values()))["_id"]
                for line in body.splitlines()
                if line.startswith((b'{"index"', b'{"delete"'))
            ]
            for body in self.bodies
        ]


@pytest.fixture
def double(request: pytest.FixtureRequest) -> Iterator[Double]:
    double = Double(list(request.param))
    yield double
    double.server.shutdown()
    double.server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        self.now_s += pause_s


def client_of(double: Double, clock: Clock, **given: Any) -> OpenSearchClient:
    settings = OpenSearchSettings(url=double.url, **given)
    return OpenSearchClient(settings, clock=clock, sleep=clock.sleep)


def actions(*names: str) -> list[Action]:
    return [
        action_of("i", "anomalies", b"k", EVENT | {"event_id": name}, f"t[0]@{number}")
        for number, name in enumerate(names)
    ]


OK = ("index", 201, None)


@pytest.mark.parametrize("double", [[[OK, ("index", 429, TOO_BUSY), OK], [OK]]], indirect=True)
def test_only_what_was_too_much_is_sent_again(double: Double) -> None:
    clock = Clock()
    assert client_of(double, clock).bulk(actions("a", "b", "c")) == []
    assert double.ids == [["a", "b", "c"], ["b"]]
    assert clock.slept == [0.2]


@pytest.mark.parametrize(
    "double", [[[OK, ("index", 400, UNFIT), ("index", 409, {})]]], indirect=True
)
def test_an_item_that_never_fits_is_named_and_not_sent_again(double: Double) -> None:
    (refused,) = client_of(double, Clock()).bulk(actions("a", "b", "c"))
    assert (refused.action.coordinates, refused.status) == ("t[0]@1", 400)
    assert refused.why == (
        "mapper_parsing_exception: failed to parse field [value] (For input string: x)"
    )
    assert len(double.bodies) == 1


@pytest.mark.parametrize("double", [[503, 502, [OK]]], indirect=True)
def test_a_server_that_is_away_is_asked_again(double: Double) -> None:
    clock = Clock()
    assert client_of(double, clock, user="u", password="p").bulk(actions("a")) == []
    assert clock.slept == [0.2, 0.4]
    assert double.authorization == ["Basic dTpw"] * 3


@pytest.mark.parametrize("double", [[503] * 50], indirect=True)
def test_it_gives_up_and_names_the_server(double: Double) -> None:
    clock = Clock()
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:\d+ has not taken .* HTTP 503: no"):
        client_of(double, clock, give_up_after_s=20).bulk(actions("a"))
    assert 20 <= clock.now_s < 40


@pytest.mark.parametrize("double", [[401]], indirect=True)
def test_a_refusal_is_not_repeated(double: Double) -> None:
    with pytest.raises(ConfigError, match=r"opensearch\.url: .* refuses /_bulk: HTTP 401"):
        client_of(double, Clock()).bulk(actions("a"))


@pytest.mark.parametrize("double", [[[OK], [OK]]], indirect=True)
def test_a_large_batch_is_sent_in_parts_in_order(double: Double) -> None:
    big = [Action(name, b"x" * (MOST_BYTES - 10) + b"\n", "t[0]@0") for name in "ab"]
    assert client_of(double, Clock()).bulk(big) == []
    assert len(double.bodies) == 2


def test_no_server_is_named() -> None:
    clock = Clock()
    settings = OpenSearchSettings(url="http://127.0.0.1:9", give_up_after_s=1)
    client = OpenSearchClient(settings, clock=clock, sleep=clock.sleep)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:9 .*ConnectionRefusedError"):
        client.bulk(actions("a"))


def test_the_actions_of_records() -> None:
    head, body = map(json.loads, action_of("i", "anomalies", b"k", EVENT, "c").lines.splitlines())
    assert head == {"index": {"_index": "i", "_id": "e1"}}
    assert body == EVENT | {"attributions_json": '{"cpu.jump":1.0}'}
    incident = {"incident_id": "x", "revision": 3}
    head, _ = map(json.loads, action_of("i", "incidents", b"x", incident, "c").lines.splitlines())
    assert head["index"] == {
        "_index": "i", "_id": "x", "version": 3, "version_type": "external_gte",
    }  # fmt: skip
    gone = action_of("i", "incidents", b"x", None, "c")
    assert json.loads(gone.lines) == {"delete": {"_index": "i", "_id": "x"}}
    with pytest.raises(ValueError, match="it has no event_id"):
        action_of("i", "scores", b"k", {"entity": "web"}, "c")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "localhost:9200"}, "not a URL"),
        ({"url": "http://u:p@localhost:9200"}, "settings of their own"),
        ({"results": ("anomaly",)}, "anomaly; allowed are anomalies, incidents, scores"),
        ({"index": "Lapwing"}, "index"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OpenSearchSettings.model_validate(given)


def test_missing_certificates_are_named() -> None:
    settings = OpenSearchSettings(url="https://localhost:9200", ca_file="/nowhere/ca.pem")
    with pytest.raises(ConfigError, match=r"opensearch\.ca_file /nowhere/ca\.pem"):
        OpenSearchClient(settings)


def test_the_files_of_templates_are_current() -> None:
    for results in ("anomalies", "incidents", "scores"):
        written = json.loads((DEPLOY / f"{results}.json").read_text("utf-8"))
        assert written == template_of("lapwing", results)


def test_every_field_that_a_saved_object_names_is_in_the_template() -> None:
    lines = (DEPLOY / "dashboards.ndjson").read_text("utf-8").splitlines()
    saved = {one["id"]: one for one in map(json.loads, lines)}
    patterns = {key: one for key, one in saved.items() if one["type"] == "index-pattern"}
    mapped = {
        key: template_of("lapwing", key.removeprefix("lapwing-"))["template"]["mappings"][
            "properties"
        ]
        for key in patterns
    }
    for key, pattern in patterns.items():
        assert mapped[key][pattern["attributes"]["timeFieldName"]]["type"] == "date"
    named = 0
    for one in saved.values():
        for reference in one["references"]:
            assert reference["id"] in saved
        fields = list(named_fields(one))
        own = [each["id"] for each in one["references"] if each["type"] == "index-pattern"]
        for name, kind in fields:
            (of,) = own
            properties = mapped[of]
            parent, _, inner = name.partition(".")
            found = properties[parent]["fields"][inner] if inner else properties[parent]
            if kind == "terms":
                assert found["type"] in ("keyword", "boolean"), name
            if kind in ("max", "avg"):
                assert found["type"] in ("double", "integer", "long"), name
            if kind == "date_histogram":
                assert found["type"] == "date", name
            named += 1
    assert named > 10


def named_fields(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a saved object, each with what it is used for."""
    attributes = one["attributes"]
    for column in attributes.get("columns", ()):
        yield column, "column"
    for name, _ in attributes.get("sort", ()):
        yield name, "sort"
    for part in json.loads(attributes.get("visState", "{}")).get("aggs", ()):
        if "field" in part["params"]:
            yield part["params"]["field"], part["type"]
