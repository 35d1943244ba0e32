"""Recorded series, their labels and backtests of them; the page that a backtest writes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np

from lapwing.backtest.command import BacktestOptions, backtest, merged
from lapwing.backtest.feeds import InputOptions
from shared.settings import load_settings

START_MS = 1_700_000_100_000 - 1_700_000_100_000 % 1_800_000
STEP_MS = 1_800_000
ROWS, SPIKE = 160, 120


def text_of(time_ms):
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def wave(n=ROWS, spike=SPIKE, phase=0.0):
    """A smooth curve of distinct values, and one outlier."""
    row = np.arange(n)
    values = 10 + np.sin(row / 7 + phase) + 0.3 * np.sin(row * 2.399963)
    values[spike] = 90
    return values


def write_series(folder, name, values):
    rows = "".join(
        f"{text_of(START_MS + row * STEP_MS)},{value:.6f}\n" for row, value in enumerate(values)
    )
    path = folder / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("timestamp,value\n" + rows)


def write_two_series(folder):
    write_series(folder, "web/a_cpu_utilization", wave())
    write_series(folder, "web/b_cpu_utilization", wave(spike=140, phase=2.0))


def write_labels(path):
    near = [text_of(START_MS + (SPIKE - 5) * STEP_MS), text_of(START_MS + (SPIKE + 5) * STEP_MS)]
    quiet = [text_of(START_MS + 100 * STEP_MS), text_of(START_MS + 105 * STEP_MS)]
    early = [text_of(START_MS), text_of(START_MS + 3 * STEP_MS)]
    path.write_text(
        json.dumps({"web/a_cpu_utilization.csv": [near, quiet, early], "elsewhere/c.csv": [near]})
    )


def load(flags):
    return load_settings(merged({"detection": {"warmup_days": 0.2}}, flags), environ={})


def run(capsys=None, **options):
    out = io.StringIO()
    summary = backtest(load, BacktestOptions(**options), out)
    return summary, out.getvalue()


def of(folder, **more):
    return InputOptions(data=folder, **more)


class Outline(HTMLParser):
    """Tags that are open, and what is loaded from elsewhere."""

    VOID = ("meta",)

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.ids, self.links, self.text = [], [], set(), set(), []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loaded += [given[name] for name in ("src", "xlink:href") if name in given]
        if tag == "link":
            self.loaded.append(given)
        if "id" in given:
            assert given["id"] not in self.ids
            self.ids.add(given["id"])
        if given.get("href", "").startswith("#"):
            self.links.add(given["href"][1:])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(path):
    found = Outline()
    found.feed(path.read_text("utf-8"))
    found.close()
    assert found.open == []
    return found
