"""The page in a real browser: live, by keyboard, with hostile names, narrow and dark."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
import time
from urllib.parse import quote

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from dashboard.history.queries import History
from dashboard.history.results import Arrived
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.server import history_file, make_app
from shared.settings import load_settings
from tests.support.page_records import (
    STEP_MS,
    activation,
    anomaly,
    arrived,
    closed,
    event_id,
    incident,
    score,
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>/'\"&%25"
PIPELINE = {
    "topics": [],
    "lag": {"partitions": {"0": 5}, "problem": ""},
    "latency": {"problem": "", "records": 64, "p50_ms": 80, "p95_ms": 1200, "p99_ms": 1500},
    "problem": "",
    "rebuilt": "",
    "clients": 1,
    "dropped_clients": 0,
}
VIEWS = (
    "/",
    "/entity/web-00003",
    f"/anomaly/{event_id(1_000_100)}",
    "/incidents",
    "/pipeline",
    "/models",
)
WCAG_AA = {"runOnly": ["wcag2a", "wcag2aa"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
expect.set_options(timeout=20_000)


class Site:
    """A page on a history that the test writes, without a broker."""

    def __init__(self, folder, port=0):
        models_dir = folder / "models"
        models_dir.mkdir(parents=True, exist_ok=True)
        self.sha256 = publish(models_dir)
        settings = load_settings({"state_dir": folder, "models_dir": models_dir}, environ={})
        self.store = Store(history_file(settings), Retention(30, 10**9))
        self.hub = Hub(50)
        history = History(self.store.path, self.store)
        app = make_app(settings, history, self.hub, lambda: PIPELINE, lambda: "", self.say)
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        self.written = 0

    def write(self, stream, records):
        self.written += len(records)
        self.hub.publish(self.store.apply([arrived(stream, records, self.written)]))

    def say(self, incident_id, record):
        """Write feedback, as it comes back from its topic."""
        said = record or {"incident_id": incident_id, "was": None}
        self.store.apply([Arrived("feedback", 0, 0, [0], feedback=[said])])

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)
        self.listener.close()
        self.store.close()


def publish(models_dir):
    """A model with a report and a picture."""
    facts = {
        "detector": "one_class_svm",
        "version": "2014-04-16T00:00:00Z",
        "threshold": 0.5,
        "metrics": ["cpu"],
        "evaluation": {
            "rows": {"train": 300, "test": 200},
            "flagged_share": {"train": 0.02, "test": 0.025},
            "alarms_per_entity_and_day": {"train": 1.0, "test": 1.5},
            "threshold": 0.5,
            "score_quantiles": {"levels": [0.5, 1.0], "train": [-1.0, 2.0], "test": [-1.1, 2.5]},
        },
    }
    manifest = json.dumps(facts).encode()
    sha256 = hashlib.sha256(manifest).hexdigest()
    report = models_dir / sha256 / "report"
    report.mkdir(parents=True, exist_ok=True)
    (models_dir / sha256 / "manifest.json").write_bytes(manifest)
    (models_dir / "CURRENT").write_text(sha256)
    part = {"alarms": 2, "days": 1.0}
    entry = {"peak_severity": 0.9, "train": part, "test": part}
    figures = {"per_entity": {"web-00001": entry}, "pictures": {"web-00001": "web-00001.svg"}}
    (report / "report.json").write_text(json.dumps(figures))
    style = "<style>rect{fill:#0a0}</style>"
    box = "xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 6' width='932' height='672'"
    box += " preserveAspectRatio='none'"
    (report / "web-00001.svg").write_text(f"<svg {box}>{style}<rect width='9' height='6'/></svg>")
    return sha256


def fill(site):
    names = [HOSTILE, *(f"web-{number:05d}" for number in range(40))]
    site.write("scores", [score(row, entity=name) for row in range(300) for name in names])
    reason = f"<b>bold</b> {HOSTILE}"
    site.write("anomalies", [anomaly(290, entity=HOSTILE, reason=reason)])
    old = anomaly(100, entity="web-00003")
    site.write("anomalies", [old, closed(old, 130)])
    site.write("activations", [activation(number, 0, site.sha256) for number in range(3)])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The folder of a site with results in it, which nobody serves."""
    folder = tmp_path_factory.mktemp("filled") / "site"
    site = Site(folder)
    fill(site)
    site.close()
    return folder


@pytest.fixture
def site(tmp_path, filled):
    site = Site(shutil.copytree(filled, tmp_path / "site"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"make page needs one of {', '.join(BROWSERS)}"
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page whose errors, messages and requests to other places fail the test."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            problems.append(request.url)
            if "//127.0.0.1:" not in request.url and not request.url.startswith("data:")
            else None
        ),
    )
    yield page
    page.close()
    assert [text for text in problems if "ERR_" not in text] == []


def test_a_new_anomaly_appears_without_a_reload_and_is_announced(site, page):
    page.goto(site.url)
    expect(page.locator(".card canvas").first).to_be_visible()
    expect(page.locator(".strip a")).to_have_count(1)
    began_s = time.monotonic()
    site.write("anomalies", [anomaly(299, entity="web-00001", reason="a new one came")])
    expect(page.locator(".strip")).to_contain_text("a new one came")
    assert time.monotonic() - began_s < 5
    expect(page.locator("#announce")).to_have_text(
        "New critical anomaly on web-00001: a new one came"
    )


def test_similar_past_anomalies_are_listed_and_opened(site, page):
    reason = "cpu of <i>x</i> was 98"
    past, now = anomaly(50, entity=HOSTILE, reason=reason), anomaly(200, entity="web-00002")
    site.write("anomalies", [past, now])
    site.write("incidents", [incident([past], 2, end_row=80), incident([now])])
    page.goto(f"{site.url}/anomaly/{now['event_id']}")
    row = page.locator("section", has_text="Similar past anomalies").locator("a")
    expect(row).to_have_count(1)
    for text in (HOSTILE, reason, "almost the same; recovered after 2 h 30 min"):
        expect(row).to_contain_text(text)
    row.click()
    expect(page).to_have_url(f"{site.url}/anomaly/{past['event_id']}")
    expect(page.get_by_text("None of 2 episodes that are kept.")).to_be_visible()
    assert page.evaluate("window.pwned") is None


def test_feedback_is_given_kept_while_typing_and_taken_back(site, page):
    event = anomaly(200, entity="web-00002")
    site.write("anomalies", [event])
    site.write("incidents", [incident([event])])
    page.goto(f"{site.url}/incident/{event['event_id']}")
    expect(page.get_by_text("Nobody has said yet")).to_be_visible()
    page.get_by_label("Note").press_sequentially("<b>load", delay=5)
    site.write("incidents", [incident([event], 2, end_row=250)])
    expect(page.locator(".numbers")).to_contain_text("recovered")
    page.keyboard.type(" test</b>")
    page.get_by_role("button", name="It was noise").click()
    expect(page.get_by_role("status").filter(has_text="It was noise, said on")).to_be_visible()
    page.goto(f"{site.url}/anomaly/{event['event_id']}")
    expect(page.get_by_label("Note")).to_have_value("<b>load test</b>")
    expect(page.get_by_role("button", name="It was noise")).to_have_attribute(
        "aria-pressed", "true"
    )
    found = Axe().run(page, options=WCAG_AA | {"iframes": False}).response
    assert found["violations"] == []
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Nobody has said yet")).to_be_visible()


def test_hostile_names_are_shown_and_do_nothing(site, page):
    page.goto(site.url)
    expect(page.locator(".strip a")).to_contain_text(HOSTILE)
    page.goto(f"{site.url}/entity/{quote(HOSTILE, safe='')}")
    expect(page.locator("h1")).to_have_text(HOSTILE)
    expect(page.locator(".uplot")).to_have_count(1)
    page.locator(".rows a").first.click()
    expect(page.locator(".sentence")).to_contain_text(f"<b>bold</b> {HOSTILE}")
    assert page.evaluate("() => window.pwned === undefined")
    assert page.locator("main img, main script, .sentence b").count() == 0


def test_keys_search_walk_open_and_go_back(site, page):
    page.goto(f"{site.url}/pipeline")
    expect(page.locator("h1")).to_have_text("Pipeline")
    page.keyboard.press("/")
    expect(page.locator("input[type=search]")).to_be_focused()
    page.keyboard.type("web-0000")
    expect(page.locator(".card")).to_have_count(10)
    assert page.url.endswith("/?q=web-0000")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator(".strip a").first).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("web-0000")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{site.url}/?q=web-0000")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def test_a_chart_zooms_into_the_address_and_back(site, page):
    page.goto(f"{site.url}/entity/web-00003?hours=168")
    over = page.locator(".u-over")
    expect(over).to_be_visible()
    box = over.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 60, steps=5)
    page.mouse.up()
    expect(page.get_by_text("Undo zoom")).to_be_visible()
    zoomed = page.url
    assert "from=" in zoomed
    assert "to=" in zoomed
    page.goto(zoomed)  # what is passed on shows the same
    expect(page.get_by_text("Undo zoom")).to_be_visible()
    expect(over).to_be_visible()
    over.dblclick()
    expect(page.get_by_text("Undo zoom")).to_be_hidden()


def test_an_anomaly_is_told_in_full(site, page):
    page.goto(f"{site.url}/anomaly/{event_id(1_000_100)}")
    expect(page.locator(".heading")).to_contain_text("recovered after 2 h 30 min")
    expect(page.locator(".numbers")).to_contain_text("3.5, threshold 1")
    expect(page.locator(".shares")).to_contain_text("cpu.value")
    expect(page.locator("table")).to_contain_text("ended")
    expect(page.locator(".facts")).to_contain_text("metrics.cloudwatch.raw[0]@100")
    expect(page.locator(".uplot")).to_have_count(1)


def test_the_page_goes_on_when_its_server_is_back(tmp_path, filled, chromium):
    site = Site(shutil.copytree(filled, tmp_path / "first"))
    page = chromium.new_page()
    page.goto(site.url)
    expect(page.locator("#live")).to_contain_text("live")
    site.close()
    expect(page.locator("#live")).to_contain_text("reconnecting")
    said = page.evaluate(
        "import('/static/api.js').then((api) => api.send('POST', '/v1/feedback', {}))"
        ".catch((error) => error.message)"
    )
    assert "the server does not answer; the page goes on" in said
    site = Site(shutil.copytree(filled, tmp_path / "second"), site.port)
    try:
        expect(page.locator("#live")).to_contain_text("live")
        site.write("anomalies", [anomaly(299, entity="web-00002", reason="after the restart")])
        expect(page.locator(".strip")).to_contain_text("after the restart")
    finally:
        page.close()
        site.close()


def test_active_incidents_come_first_live_and_lead_to_their_episodes(site, page):
    page.goto(site.url)
    expect(page.locator(".strip a")).to_have_count(1)  # an open episode, without an incident
    opened = [anomaly(280 + number, entity=f"web-0000{number}") for number in (1, 2)]
    opened[1] |= {"severity": 0.75, "peak_severity": 0.75}
    site.write("anomalies", opened)
    site.write("incidents", [incident(opened)])
    expect(page.get_by_role("heading", name="Active incidents")).to_be_visible()
    expect(page.locator(".strip a")).to_contain_text("2 entities")
    page.locator(".strip a").click()
    expect(page.locator("h1")).to_contain_text("web-00001")
    expect(page.locator(".episodes a")).to_have_count(2)
    expect(page.locator(".uplot")).to_have_count(2)
    site.write("incidents", [incident(opened, 2, end_row=298)])
    expect(page.locator(".numbers")).to_contain_text("recovered")
    page.locator(".episodes a").first.click()
    expect(page.get_by_text("its incident")).to_be_visible()
    expect(page.locator(".command code")).to_have_text(f"lapwing explain {opened[0]['event_id']}")


def test_the_first_visit_shows_three_things_to_try(site, page):
    page.goto(site.url)
    expect(page.locator(".guide li")).to_have_count(3)
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".guide")).to_have_count(0)
    page.reload()
    expect(page.locator(".card canvas").first).to_be_visible()
    expect(page.locator(".guide")).to_have_count(0)


def test_incidents_are_filtered_and_the_address_keeps_the_filter(site, page):
    minor = anomaly(20, entity="web-00005", severity=0.6, peak_severity=0.6)
    site.write("incidents", [incident([minor], 2, 40), incident([anomaly(280, entity=HOSTILE)])])
    page.goto(f"{site.url}/incidents")
    expect(page.locator(".rows a")).to_have_count(2)
    page.get_by_role("button", name="Closed").click()
    expect(page.locator(".rows a")).to_have_count(1)
    expect(page.locator(".rows a")).to_contain_text("recovered after 1 h 40 min")
    assert page.url.endswith("/incidents?state=closed")
    page.goto(f"{site.url}/incidents?severity=critical")
    expect(page.locator(".rows a")).to_contain_text(HOSTILE)
    page.locator("input[type=search]").fill("nothing like it")
    expect(page.locator(".empty")).to_contain_text("No incident matches")
    site.write("incidents", [incident([anomaly(290, entity="nothing like it")])])
    expect(page.locator(".rows a")).to_contain_text("nothing like it")


def test_models_show_who_runs_what_and_the_report(site, page):
    page.goto(f"{site.url}/models")
    expect(page.locator("table").first).to_contain_text("0 to 2")
    expect(page.locator("table").last).to_contain_text("300 / 200")
    page.locator("table a").last.click()
    expect(page.locator(".numbers")).to_contain_text("partitions 0 to 2")
    picture = page.locator("figure img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('figure img').naturalWidth > 0")
    colour = page.evaluate(
        """() => {
          const canvas = document.createElement("canvas");
          const context = canvas.getContext("2d");
          context.drawImage(document.querySelector("figure img"), 0, 0);
          return [...context.getImageData(5, 5, 1, 1).data];
        }"""
    )
    assert colour == [0, 170, 0, 255], "the picture's own style applies"


def test_marks_of_data_quality_are_drawn_and_named(site, page):
    """Rows 200 to 230 are missing; of two more rows the value is missing, or came late."""
    name = "marked"
    rows = [score(row, entity=name) for row in range(240) if not 200 <= row < 230]
    rows[150] |= {"imputed": True, "metrics": [rows[150]["metrics"][0] | {"value": None}]}
    rows[160] |= {"late": True}
    site.write("scores", rows)
    gap = {"kind": "gap", "is_anomaly": False, "episode_id": None, "phase": None, "metric": None}
    since = rows[199]["event_time"]
    nothing = {"severity": None, "severity_class": None, "score": None, "attributions": {}}
    verdict = anomaly(230, entity=name, reason="nothing for 2 h 35 min", since=since)
    site.write("anomalies", [verdict | gap | nothing])
    page.goto(f"{site.url}/entity/{name}")
    for text in ("no data", "missing, drawn where it was expected", "came late"):
        expect(page.locator(".legend")).to_contain_text(text)
    expect(page.locator(".legend")).to_contain_text("data-quality verdict")
    over = page.locator(".u-over")
    box = over.bounding_box()
    span = 24 * 3_600_000
    share = 1 - (239 - 215) * STEP_MS / span
    page.mouse.move(box["x"] + share * box["width"], box["y"] + 40)
    # The cursor holds the nearest point, which is an end of the gap.
    expect(page.locator(".readout")).to_contain_text("nothing for 2 h 35 min")


def test_no_view_has_a_serious_accessibility_violation(site, chromium):
    opened = anomaly(280, entity="web-00001")
    site.write("anomalies", [opened])
    site.write("incidents", [incident([opened])])
    violations = []
    page = chromium.new_page(color_scheme="light")
    for path in (*VIEWS, f"/incident/{opened['event_id']}", f"/model/{site.sha256}"):
        page.goto(site.url + path)
        expect(page.locator("h1")).to_be_visible()
        page.wait_for_timeout(300)  # until charts and lists are drawn
        for rules in (WCAG_AA, CONTRAST):
            found = Axe().run(page, options=rules | {"iframes": False}).response
            assert found["passes"]
            violations += [
                (path, one["impact"], one["id"], one["nodes"][0]["html"][:200])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            page.locator("#theme-button").click()  # the rest does not depend on colours
    page.close()
    assert violations == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_need_no_sideways_scrolling(site, chromium, scheme):
    page = chromium.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    for path in VIEWS:
        page.goto(site.url + path)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
    page.close()
