"""The page in a real browser: live, by keyboard, with hostile names, narrow and dark."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from urllib.parse import quote

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

from dashboard.history.queries import History
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.server import history_file, make_app
from shared.settings import load_settings
from tests.support.page_records import anomaly, arrived, closed, event_id, score

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>/'\"&%25"
PIPELINE = {
    "topics": [],
    "lag": {"partitions": {"0": 5}, "problem": ""},
    "problem": "",
    "rebuilt": "",
    "clients": 1,
    "dropped_clients": 0,
}
expect.set_options(timeout=20_000)


class Site:
    """A page on a history that the test writes, without a broker."""

    def __init__(self, folder, port=0):
        settings = load_settings({"state_dir": folder}, environ={})
        self.store = Store(history_file(settings), Retention(30, 10**9))
        self.hub = Hub(50)
        history = History(self.store.path, self.store)
        app = make_app(settings, history, self.hub, lambda: PIPELINE, lambda: "")
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

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)
        self.listener.close()
        self.store.close()


def fill(site):
    names = [HOSTILE, *(f"web-{number:05d}" for number in range(40))]
    for name in names:
        site.write("scores", [score(row, entity=name) for row in range(300)])
    reason = f"<b>bold</b> {HOSTILE}"
    site.write("anomalies", [anomaly(290, entity=HOSTILE, reason=reason)])
    old = anomaly(100, entity="web-00003")
    site.write("anomalies", [old, closed(old, 130)])


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    fill(site)
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


def test_the_page_goes_on_when_its_server_is_back(tmp_path, chromium):
    site = Site(tmp_path / "first")
    fill(site)
    page = chromium.new_page()
    page.goto(site.url)
    expect(page.locator("#live")).to_contain_text("live")
    site.close()
    expect(page.locator("#live")).to_contain_text("reconnecting")
    site = Site(tmp_path / "second", site.port)
    try:
        fill(site)
        expect(page.locator("#live")).to_contain_text("live")
        site.write("anomalies", [anomaly(299, entity="web-00002", reason="after the restart")])
        expect(page.locator(".strip")).to_contain_text("after the restart")
    finally:
        page.close()
        site.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_need_no_sideways_scrolling(site, chromium, scheme):
    page = chromium.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    for path in ("/", "/entity/web-00003", f"/anomaly/{event_id(1_000_100)}", "/pipeline"):
        page.goto(site.url + path)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
    page.close()
