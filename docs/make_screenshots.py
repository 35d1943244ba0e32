"""Takes the page's screenshots from a real run: ``python docs/make_screenshots.py [NAB folder]``.

Starts ``lapwing demo`` (without a folder: the generated fleet), waits until the live part has
raised anomalies, and writes docs/page/VIEW-THEME-WIDTH.png. Takes about two minutes; needs what
``make page`` installs. With ``--url URL`` it takes them from a page that is running already.

Invariant: nothing in a picture is made up; each shows what the page showed in this run.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "page"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"wide": (1280, 860), "narrow": (390, 780)}
WHOLE = {"anomaly": {"wide": 1400, "narrow": 1900}, "incident": {"wide": 1100, "narrow": 1500}}
"""Views that are shown to their end, and the most pixels of height; of others one screen."""

THEMES = ("light", "dark")
COLOURS = 192
"""Colours of a picture; the page has few, and files stay small."""

PATIENCE_S = 600.0
OPEN_PATIENCE_S = 120.0
OPEN_INCIDENTS = 3
SETTLE_S = 1.5
HOUR_MS = 3_600_000
LIVE_S = 25.0
"""Seconds of the live part before the first picture."""


def main() -> int:
    """Run the demo, or use a running page, and write all pictures."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--url"]:
        take_all(arguments[1].rstrip("/"))
        return 0
    series = ["--data", str(Path(arguments[0]).resolve())] if arguments else ["--fleet", "20"]
    with running_demo(series) as url:
        take_all(url)
    return 0


@contextmanager
def running_demo(series: list[str]) -> Iterator[str]:
    """Start the demo; yield the page's address when its live part has run for a while."""
    command = [sys.executable, "-m", "lapwing", "demo", *series]
    demo = subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "100"}
    )
    try:
        yield address_when_live(demo)
    finally:
        demo.send_signal(signal.SIGINT)
        try:
            demo.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            demo.kill()


def address_when_live(demo: subprocess.Popen[str]) -> str:
    """Read the demo's lines until its live part has begun; return the page's address."""
    url = ""
    until_s = time.monotonic() + PATIENCE_S
    for line in demo.stdout or ():
        words = line.strip()
        if words.startswith("page: "):
            url = words.removeprefix("page: ").rstrip("/")
        if words.startswith("live: ") and url:
            time.sleep(LIVE_S)
            return url
        if time.monotonic() > until_s:
            break
    raise SystemExit("the demo did not reach its live part")


def take_all(url: str) -> None:
    """Write the pictures of all views, themes and widths."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    wait_for_open_incidents(url)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(f"one of {', '.join(BROWSERS)} is needed")
    paths = views(url)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        pages = {}
        for theme in THEMES:
            for width, (pixels, height) in WIDTHS.items():
                size = {"width": pixels, "height": height}
                page = browser.new_page(viewport=size, color_scheme=theme)
                page.set_default_timeout(PATIENCE_S * 1000)
                page.add_init_script("localStorage.setItem('lapwing.guide', 'seen')")
                pages[f"{theme}-{width}"] = page
        for view, path in paths.items():
            for name, page in pages.items():
                page.goto(url + path)
                page.wait_for_selector("h1")
                time.sleep(SETTLE_S)
                most = WHOLE.get(view, {}).get(name.partition("-")[2])
                picture = page.screenshot(full_page=most is not None)
                (FOLDER / f"{view}-{name}.png").write_bytes(smaller(picture, most))
        browser.close()
    total = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    print(f"{len(list(FOLDER.glob('*.png')))} pictures, {total / 1e6:.2f} MB")  # noqa: T201


def views(url: str) -> dict[str, str]:
    """Choose what the views show: the most severe anomaly and the largest incident of the run."""
    events = get(url, "/v1/anomalies?limit=500")["anomalies"]
    shown = [event for event in events if event["phase"] == "open" and event["metric"]]
    if not shown:
        raise SystemExit("the run raised no anomaly")
    ended = [event for event in shown if event["episode"]["end_ms"] is not None] or shown
    ended.sort(key=lambda one: (is_outside(one), one["severity"], one["event_time"]), reverse=True)
    event = next((one for one in ended if has_similar(url, one)), ended[0])
    start_ms, end_ms = event["event_time"] - 48 * HOUR_MS, event["event_time"] + 24 * HOUR_MS
    paths = {
        "fleet": "/",
        "entity": f"/entity/{quote(event['entity'])}?from={start_ms}&to={end_ms}",
        "anomaly": f"/anomaly/{event['event_id']}",
        "incidents": "/incidents",
    }
    incidents = get(url, "/v1/incidents?limit=500")["incidents"]
    if incidents:
        largest = max(incidents, key=lambda one: (one["episode_count"], one["severity"]))
        paths["incident"] = f"/incident/{largest['incident_id']}"
    return paths | {"pipeline": "/pipeline", "models": "/models"}


def is_outside(event: Any) -> bool:
    """Return whether the value lies outside its band, which a picture shows best."""
    lower, value, upper = event["lower"], event["value"], event["upper"]
    return None not in (lower, value, upper) and not lower <= value <= upper


def has_similar(url: str, event: Any) -> bool:
    """Return whether the view of an anomaly has similar past ones to show."""
    return bool(get(url, f"/v1/anomalies/{event['event_id']}/similar")["similar"])


def wait_for_open_incidents(url: str) -> None:
    """Wait for a moment at which the fleet view has something to show; not for ever."""
    until_s = time.monotonic() + OPEN_PATIENCE_S
    while time.monotonic() < until_s:
        if get(url, "/v1/incidents?state=open")["total"] >= OPEN_INCIDENTS:
            return
        time.sleep(0.5)


def get(url: str, path: str) -> Any:
    """Return an answer of the page's API."""
    with urllib.request.urlopen(url + path, timeout=10) as answer:  # noqa: S310 - our own page
        return json.load(answer)


def smaller(png: bytes, most: int | None) -> bytes:
    """Reduce a picture's colours, and cut it after ``most`` pixels of height."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if most is not None:
        picture = picture.crop((0, 0, picture.width, min(picture.height, most)))
    out = io.BytesIO()
    # Of all methods this one keeps the few pixels of a rare colour, such as a mark of severity.
    method = Image.Quantize.MAXCOVERAGE
    picture.quantize(COLOURS, method, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
