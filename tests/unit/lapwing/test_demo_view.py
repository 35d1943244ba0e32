"""What the demo draws holds what the frame holds, fits the terminal, and never shows NaN."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from lapwing.demo.view import (
    AnomalyLine,
    Frame,
    Phase,
    Summary,
    minute,
    picture,
    plain,
    render,
    render_summary,
    spark,
)
from shared.events import SeverityClass

FRAME = Frame(
    "NAB CloudWatch, 15 hosts, 2 predictors",
    2,
    83.4,
    (
        Phase("backfill", "done", "36,512 events"),
        Phase("train", "done", "6.1 s"),
        Phase("live", "running", "300x", 0.62),
    ),
    sent=41_212,
    scored=41_198,
    dead=1,
    anomalies=812,
    rates=(10.0, 300.0, 150.0),
    lag=(0, 2, 0, 11),
    event_ms=1_397_619_300_000,
    p50_ms=12.3,
    p99_ms=48.0,
    model="3f2a91c04b7d9e10, isolation_forest",
    newest=tuple(
        AnomalyLine(1_397_619_300_000, f"host-{s.value}", 0.71, s, "cpu is 98, " + "very " * 40)
        for s in SeverityClass
    ),
)
EMPTY = Frame("generated fleet", 1, 0.0)
SUMMARY = Summary(
    15, 14, 1, 2, 4, 22.31, 1234.4, 12.04, 99.0, 9, 3, 6, "3f2a", {0: (10, 10, 0), 1: (5, 4, 1)}
)


def text(renderable, width=100):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("frame", [FRAME, EMPTY])
def test_every_line_fits(frame, width):
    lines = text(render(frame), width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= 32
    assert "nan" not in "\n".join(lines).lower()


def test_the_frame_is_all_there():
    drawn = text(render(FRAME))
    for part in (
        "01:23", "41,212 in", "41,198 scored", "1 dead letters", "150 / s",
        "13   by partition: 0   2   0   11", "p50 12 ms", "p99 48 ms", "3f2a91c04b7d9e10",
        "2014-04-16 03:35", "in memory only", "no transactions",
    ):  # fmt: skip
        assert part in drawn
    for mark in "·○▲◆":
        assert mark in drawn


def test_rows_limit_the_list():
    assert text(render(FRAME, rows=6)).count("host-") == 2
    assert text(render(FRAME, rows=1)).count("host-") == 1


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_reason_is_shown_to_its_end(width):
    reason = (
        "network_in is 14,312,318, 7.0x its usual 2,058,753 for 20:30; so far from the time of day"
        " never seen in 9 days"
    )
    one = replace(FRAME.newest[0], reason=reason, entity="host-016")
    drawn = text(render(replace(FRAME, newest=(one, one)), 3), width)
    assert reason in " ".join(drawn.split())
    assert "…" not in drawn


def test_spark_scales_to_the_largest():
    assert spark([0, 1, 2, 4, 8], 4) == "▁▂▄█"
    assert spark([0, 0], 4) == "▁▁"
    assert spark([], 4) == ""


def test_a_plain_line():
    assert (
        plain(FRAME)
        == "  83.4 s  live 62%: 41,212 in, 41,198 scored, 1 dead letters, 13 behind, 150/s, 812"
        " anomalies"
    )
    assert plain(EMPTY).endswith("done: 0 in, 0 scored, 0 dead letters, 0 behind, -, 0 anomalies")


def test_the_summary_as_json_has_the_promised_keys_first():
    document = json.loads(json.dumps(SUMMARY.document(), allow_nan=False))
    assert list(document)[:8] == [
        "produced", "scored", "dead_letters", "anomalies", "first_anomaly_s", "events_per_s",
        "p50_ms", "p99_ms",
    ]  # fmt: skip
    assert list(document.values())[:8] == [15, 14, 1, 2, 22.31, 1234.4, 12.0, 99.0]
    assert document["agrees"] is True
    empty = Summary(0, 0, 0, 0, 0, None, 0.0, math.nan, None, 0, 0, 0, "").document()
    assert (empty["first_anomaly_s"], empty["p50_ms"], empty["p99_ms"]) == (None, None, None)


def test_the_summary_says_what_does_not_agree():
    assert "does not agree" not in text(render_summary(SUMMARY))
    wrong = Summary(
        15,
        13,
        1,
        2,
        0,
        None,
        0.0,
        None,
        None,
        0,
        0,
        0,
        "",
        {0: (10, 9, 0), 1: (5, 4, 1)},
        ("partition 0: 10 records",),
    )
    assert not wrong.agrees
    assert text(render_summary(wrong)).count("does not agree") == 3


def test_a_picture_can_be_exported():
    svg = picture(FRAME, SUMMARY)
    assert svg.startswith("<svg")
    assert "41,198" in svg
    assert svg.count("http") == 1, "nothing is loaded from outside"


def test_minutes_are_utc():
    assert minute(1_397_619_300_000) == "2014-04-16 03:35"


def test_the_pages_address_is_shown_once_it_is_known():
    assert "page" not in text(render(FRAME))
    url = "http://127.0.0.1:8000/"
    assert url in text(render(replace(FRAME, page=url)))
