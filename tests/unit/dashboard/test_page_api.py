"""The API and the page's answers: bounds, refusals, access, and names that look like markup."""

from __future__ import annotations

import ipaddress
import re
from html.parser import HTMLParser
from urllib.parse import quote

import numpy as np
import pytest
from starlette.testclient import TestClient

from dashboard.access import is_own_name
from dashboard.history.queries import History, _shortened
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.server import STATIC, history_file, make_app
from shared.errors import ConfigError
from shared.settings import load_settings
from tests.support.page_records import START_MS, STEP_MS, anomaly, arrived, event_id, score

HOSTILE = "<img src=x onerror=alert(1)>/\"'&"
TOKEN = "a-token-of-some-length"


def make_client(tmp_path, **dashboard):
    settings = load_settings({"state_dir": tmp_path, "dashboard": dashboard}, environ={})
    store = Store(history_file(settings), Retention(30, 10**9))
    names = ("web-1", HOSTILE)
    for number, name in enumerate(names):
        records = [score(row, entity=name) for row in range(200)]
        store.apply([arrived("scores", records, 200 * number)])
    events = [anomaly(7), anomaly(150, entity=HOSTILE, reason=f"cpu of {HOSTILE} is 98")]
    store.apply([arrived("anomalies", events)])
    hub = Hub(settings.dashboard.max_clients)
    app = make_app(settings, History(store.path, store), hub, lambda: {"topics": []}, lambda: "")
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return make_client(tmp_path_factory.mktemp("state"))


def test_entities_are_listed_with_charts(client):
    found = client.get("/v1/entities", params={"spark_hours": 6}).json()
    assert found["total"] == 2
    assert found["fleet"]["anomalous"] == 2
    chart = found["entities"][0]["chart"]
    assert len(chart["value"]) == 74  # 72 intervals, and one point before the range
    assert found["entities"][0]["open_episodes"] == 1
    assert client.get("/v1/entities", params={"q": "WEB"}).json()["total"] == 1
    page = client.get("/v1/entities", params={"limit": 1, "offset": 1, "order": "name"}).json()
    assert [row["name"] for row in page["entities"]] == ["web-1"]


def test_numbers_of_a_series_keep_their_digits_and_missing_ones_are_null(tmp_path):
    client = make_client(tmp_path)
    store = Store(tmp_path / "dashboard" / "history.sqlite3", Retention(30, 10**9))
    values = [0.1, None, 1_700_000_000.25]
    records = [score(row, entity="new", value=value) for row, value in enumerate(values)]
    for record in records:
        record["metrics"][0]["expected"] = 0.3
    store.apply([arrived("scores", records, 400)])
    store.seal()
    (chart,) = client.get("/v1/series", params={"entity": "new"}).json()["metrics"]
    assert chart["value"] == values
    assert chart["expected"] == [0.3] * 3, (
        "stored with seven digits, shown with as few as give them"
    )
    assert chart["time_ms"] == [record["event_time"] for record in records]


def test_a_small_chart_is_shortened_only_where_it_looks_the_same():
    wide, narrow = np.array([0.0, np.nan, 1.1]), 1.7e9 + np.arange(3.0)
    huge, none = np.array([0.0, 1e300]), np.array([])
    assert _shortened(wide).dtype == np.float32
    for values in (narrow, huge, none, np.array([np.nan]), np.zeros(3)):
        assert np.array_equal(_shortened(values), values, equal_nan=True)


def test_a_series_is_decimated_and_zoomed(client):
    found = client.get("/v1/series", params={"entity": "web-1", "width": 16}).json()
    (chart,) = found["metrics"]
    assert len(chart["value"]) <= 66
    assert chart["points"] == 200
    zoom = {"from": START_MS + 10 * STEP_MS, "to": "2014-04-16T02:00:00Z"}
    found = client.get("/v1/series", params={"entity": "web-1", **zoom}).json()
    assert found["from_ms"] == zoom["from"]
    times = found["metrics"][0]["time_ms"]
    assert times[0] == START_MS + 9 * STEP_MS
    assert times[-1] == START_MS + 25 * STEP_MS
    assert found["episodes"][0]["peak_value"] == 98.0


def test_anomalies_are_paged_and_told_in_full(client):
    first = client.get("/v1/anomalies", params={"limit": 1}).json()
    second = client.get("/v1/anomalies", params={"limit": 1, "before": first["next"]}).json()
    assert [first["anomalies"][0]["entity"], second["anomalies"][0]["entity"]] == [HOSTILE, "web-1"]
    one = client.get(f"/v1/anomalies/{event_id(1_000_007)}").json()
    assert one["reason"] == "cpu is 98, usually about 12"
    assert one["attributions"] == {"cpu.value": 1.0}
    assert one["episode"]["end_ms"] is None


@pytest.mark.parametrize(
    ("path", "field", "allowed"),
    [
        ("/v1/entities?limit=0", "limit", "greater than or equal to 1"),
        ("/v1/entities?limit=501", "limit", "less than or equal to 500"),
        ("/v1/entities?limit=200&spark_hours=6", "limit", "at most 100"),
        ("/v1/entities?order=size", "order", "'severity', 'name' or 'newest'"),
        ("/v1/entities?q=" + "x" * 300, "q", "at most 256"),
        ("/v1/series?entity=web-1&width=9999", "width", "less than or equal to 4000"),
        ("/v1/series?entity=web-1&from=yesterday", "from", "ISO 8601"),
        ("/v1/series?entity=web-1&from=99999999999999999999", "from", "milliseconds"),
        ("/v1/series?entity=web-1&from=20&to=10", "from", "a time before to"),
        ("/v1/series?entity=web-1&metric=disk", "metric", "one of cpu"),
        ("/v1/series", "entity", "required"),
        ("/v1/anomalies?severity=awful", "severity.0", "'info', 'minor', 'major' or 'critical'"),
        ("/v1/anomalies?before=x", "before", "match pattern"),
        ("/v1/anomalies/42", "event_id", "match pattern"),
        ("/v1/incidents?state=ended", "state", "'open' or 'closed'"),
        ("/v1/incidents?order=size", "order", "'newest' or 'severity'"),
        ("/v1/incidents/42", "incident_id", "match pattern"),
        ("/v1/models/42", "sha256", "match pattern"),
        ("/v1/stream?view=all", "view", "'anomaly', 'incidents', 'pipeline' or 'models'"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(client, path, field, allowed):
    answer = client.get(path)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert allowed in answer.json()["errors"][0]["allowed"]
    assert answer.json()["problem"].startswith(f"{field}: ")


def test_what_the_history_does_not_hold_is_said(client):
    for path in ("/v1/entities/nobody", "/v1/series?entity=nobody", f"/v1/anomalies/{'0' * 32}"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "dashboard.keep_days" in answer.json()["problem"]


def test_hostile_names_are_data(client):
    encoded = quote(HOSTILE, safe="")
    assert client.get(f"/v1/entities/{encoded}").json()["name"] == HOSTILE
    answer = client.get(f"/v1/series?entity={encoded}")
    assert answer.headers["content-type"] == "application/json"
    page = client.get(f"/entity/{encoded}")
    assert page.text == (STATIC / "index.html").read_text("utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]


def test_no_module_of_the_page_writes_markup_or_asks_elsewhere():
    modules = sorted(STATIC.glob("*.js"))
    assert len(modules) >= 8
    for module in modules:
        text = module.read_text("utf-8")
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert forbidden not in text, f"{module.name}: {forbidden}"
        assert re.findall(r"https?://[^\s\"']+", text) in ([], ["http://www.w3.org/2000/svg"])
    for name, owner in {
        "fetch(": "api.js",
        "EventSource(": "stream.js",
        "uPlot": "chart.js",
    }.items():
        users = {module.name for module in modules if name in module.read_text("utf-8")}
        assert users == {owner}


def test_the_page_has_no_inline_script_or_style_and_its_files_exist(client):
    found = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    Tags().feed(client.get("/").text)
    for tag, attributes in found:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if tag == "script":
            assert attributes["type"] == "module"
        for name in ("src", "href"):
            link = attributes.get(name, "")
            if link.startswith("/"):
                assert client.get(link).status_code == 200, link
    early = {one.get("href") or one.get("src") for _, one in found}
    for module in STATIC.glob("*.js"):
        assert f"/static/{module.name}" in early, "asked for at once, not module by module"
        for name in re.findall(r"from \"\./([^\"]+)\"", module.read_text("utf-8")):
            assert (STATIC / name).is_file(), f"{module.name}: {name}"


def test_the_vendored_chart_is_the_one_that_is_stated():
    import hashlib

    lines = (STATIC / "vendor" / "SHA256SUMS").read_text("utf-8").splitlines()
    files = {name: digest for digest, name in (line.split() for line in lines)}
    assert set(files) == {"uplot.js", "uplot.css", "uplot-LICENSE.txt"}
    for name, digest in files.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest


def test_the_interface_describes_itself(client):
    paths = client.get("/v1/openapi.json").json()["paths"]
    assert {"/v1/entities", "/v1/series", "/v1/anomalies", "/v1/pipeline", "/v1/stream"} <= set(
        paths
    )
    writing = {path: set(methods) - {"get"} for path, methods in paths.items()}
    assert {path: methods for path, methods in writing.items() if methods} == {
        "/v1/session": {"post"},
        "/v1/feedback": {"post"},
        "/v1/feedback/{incident_id}": {"delete"},
    }


# -- access ----------------------------------------------------------------------------------------


def test_with_a_token_nothing_is_told_without_it(tmp_path):
    client = make_client(tmp_path, token=TOKEN)
    paths = ("/v1/entities", "/v1/anomalies", "/v1/pipeline", "/v1/stream", "/v1/openapi.json")
    for path in paths:
        assert client.get(path).status_code == 401
        wrong = client.get(path, headers={"Authorization": f"Bearer {TOKEN}x"})
        assert wrong.status_code == 401
        assert "web-1" not in wrong.text
    assert client.get("/v1/entities", headers={"Authorization": f"Bearer {TOKEN}"}).json()["total"]
    assert client.get("/health/live").status_code == 204
    assert client.get("/").status_code == 200


def test_the_page_signs_in_with_a_cookie_that_is_not_the_token(tmp_path):
    client = make_client(tmp_path, token=TOKEN)
    assert client.post("/v1/session", json={"token": "wrong"}).status_code == 401
    other_site = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/v1/session", json={"token": TOKEN}, headers=other_site).status_code == 403
    answer = client.post("/v1/session", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/v1/entities").status_code == 200


def test_without_a_token_another_sites_name_is_refused(client):
    refused = client.get("/v1/entities", headers={"Host": "evil.example:8000"})
    assert refused.status_code == 421
    assert "dashboard.token" in refused.json()["problem"]
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "10.1.2.3:80", "box"):
        assert is_own_name(host, "box")
    for host in ("", "localhost.evil.example", "127.0.0.1.evil.example", "box.example"):
        assert not is_own_name(host, "box")


def test_the_page_listens_on_loopback_unless_told_otherwise():
    assert ipaddress.ip_address(load_settings(environ={}).dashboard.host).is_loopback


def test_a_wrong_token_setting_is_refused_without_printing_it():
    with pytest.raises(ConfigError, match=r"dashboard\.token") as raised:
        load_settings({"dashboard": {"token": "short"}}, environ={})
    assert "short'" not in str(raised.value)


def test_readiness_says_why_not(tmp_path):
    settings = load_settings({"state_dir": tmp_path}, environ={})
    store = Store(history_file(settings), Retention(30, 10**9))
    why = "there is no topic metrics.cloudwatch.scores"
    app = make_app(settings, History(store.path, store), Hub(1), dict, lambda: why)
    answer = TestClient(app, base_url="http://localhost").get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"problem": why})
