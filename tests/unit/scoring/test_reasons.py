"""The sentence of each view, of worse episodes and of each way in which an episode closes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    AS_IT_IS,
    JOINED,
    MINUTE_MEAN,
    MINUTE_RATE,
    RATE,
    TRAINED,
    VIEW_NAMES,
)
from shared.ensemble.kernels.outputs import EVENT_DTYPE
from shared.events import ClosedBecause
from shared.kernels.units import DAY_MS, HOUR_MS, MINUTE_MS
from shared.scoring.reasons import SENTENCES, Speaker

UTC = (np.array([np.iinfo(np.int64).min]), np.array([0]))
AT_MS = 1_736_121_600_000 + 13 * HOUR_MS + 5 * MINUTE_MS
"""2025-01-06 13:05 UTC, a Monday."""

UP = {"value": 97.0, "expected": 41.0, "direction": 1}
DOWN = {"value": 12.0, "expected": 41.0, "direction": -1}


def event_of(view: str = "value", **fields: Any) -> Any:
    """An event of 13:05; other numbers are unknown or ordinary."""
    event = np.zeros((), EVENT_DTYPE)[()]
    for name in EVENT_DTYPE.names or ():
        if EVENT_DTYPE[name].kind == "f":
            event[name] = math.nan
    known = {
        "view": VIEW_NAMES.index(view),
        "measure": AS_IT_IS,
        "time_ms": AT_MS,
        "peak_ms": AT_MS,
        "start_ms": AT_MS,
        "width_ms": 5 * MINUTE_MS,
        "watched_days": 9,
        "lately": 0.0,
        "usual": fields.get("expected", math.nan),
    }
    for name, value in (known | fields).items():
        event[name] = value
    return event


def opened(view: str = "value", metric: str | None = "cpu", zone: Any = UTC, **fields: Any) -> str:
    return Speaker(zone).opened(event_of(view, **fields), metric, 9)


def test_every_view_has_one_sentence():
    assert tuple(sorted(SENTENCES)) == tuple(sorted(VIEW_NAMES))
    assert [VIEW_NAMES[TRAINED], VIEW_NAMES[JOINED]] == ["trained", "joint"]
    assert len(SENTENCES) == ALL_VIEWS + 2


@pytest.mark.parametrize(
    ("view", "fields", "sentence"),
    [
        ("value", UP, "cpu is 97, usually about 41 at 13:05"),
        (
            "value",
            {**UP, "rarest_days": 9},
            (
                "cpu is 97, usually about 41 at 13:05; nothing as high within 15 minutes of this"
                " time of day in the 9 days before"
            ),
        ),
        (
            "value",
            {**DOWN, "rarest_days": 2},
            (
                "cpu is 12, usually about 41 at 13:05; nothing as low within 15 minutes of this"
                " time of day in the 2 days before"
            ),
        ),
        ("value", {**UP, "rarest_days": 1}, "cpu is 97, usually about 41 at 13:05"),
        (
            "value",
            {**UP, "rarest_days": 9, "crowded": 1},
            (
                "cpu is 97, usually about 41 at 13:05; no 5-minute mean as high within 15 minutes"
                " of this time of day in the 9 days before"
            ),
        ),
        (
            "two_rows",
            {**UP, "rarest_days": 9},
            (
                "cpu is 97, usually about 41 at 13:05, unusual for the second time in a row;"
                " nothing as high within 15 minutes of this time of day in the 9 days before"
            ),
        ),
        (
            "quarter_hour",
            {**UP, "span_ms": 15 * MINUTE_MS},
            (
                "cpu has been higher than usual on average over the last 15 min: is 97, usually"
                " about 41 at 13:05"
            ),
        ),
        (
            "hour",
            {**DOWN, "span_ms": HOUR_MS},
            (
                "cpu has been lower than usual on average over the last hour: is 12, usually"
                " about 41 at 13:05"
            ),
        ),
        (
            "four_hours",
            {**UP, "span_ms": 6 * HOUR_MS},
            (
                "cpu has been higher than usual on average over the last 6 h: is 97, usually"
                " about 41 at 13:05"
            ),
        ),
        (
            "jump",
            {**UP, "amount": 40.2},
            (
                "cpu rose to 97 from about 40.2, the middle of the six values before; usually"
                " about 41 at 13:05"
            ),
        ),
        (
            "jump",
            {**DOWN, "amount": -3.5, "value": -40.0, "measure": RATE},
            (
                "cpu fell to -40 per second (it is a total) from about -3.5, the middle of the"
                " six values before; usually about 41 at 13:05"
            ),
        ),
        (
            "missed",
            {"direction": -1, "usual_amount": 90.0, "amount": 12.0, "span_ms": 35 * MINUTE_MS},
            "cpu usually reaches about 90 between 12:30 and 13:05, but stayed at about 12 or below",
        ),
        (
            "missed",
            {
                "direction": 1,
                "usual_amount": 3.0,
                "amount": 41.0,
                "span_ms": 50 * MINUTE_MS,
                "width_ms": 10 * MINUTE_MS,
                "crowded": 1,
            },
            (
                "cpu usually falls to about 3 between 12:10 and 13:00, but stayed at about 41 or"
                " above (10-minute means)"
            ),
        ),
        (
            "level",
            {**UP, "amount": 4.04},
            (
                "cpu has been about 4.04 above its usual values for most of the last 24 hours: is"
                " 97, usually about 41 at 13:05"
            ),
        ),
        (
            "level",
            {**DOWN, "amount": -4.04},
            (
                "cpu has been about 4.04 below its usual values for most of the last 24 hours: is"
                " 12, usually about 41 at 13:05"
            ),
        ),
        (
            "spread",
            {**UP, "amount": 0.9, "usual_amount": 0.1},
            (
                "cpu varies at least 3.0 times as much as usual from one value to the next; cpu"
                " is 97, usually about 41 at 13:05"
            ),
        ),
        (
            "hour",
            {**DOWN, "span_ms": HOUR_MS, "lately": 19.0},
            (
                "cpu has been lower than lately on average over the last hour: is 12, usually"
                " about 41 at 13:05, lately about 19 more"
            ),
        ),
        (
            "spread",
            {**UP, "amount": 2.4, "usual_amount": 1.0},
            (
                "cpu varies about 2.4 times as much as usual from one value to the next; cpu is"
                " 97, usually about 41 at 13:05"
            ),
        ),
        (
            "often",
            {**UP, "amount": 0.456, "usual_amount": 0.02},
            (
                "cpu differs from what is usual about this time much more often than usual: about"
                " 46% of its latest values, usually 2%; cpu is 97, usually about 41 at 13:05"
            ),
        ),
        (
            "often",
            {"value": 10.0, "expected": 1e-17, "amount": 0.456, "usual_amount": 0.001},
            (
                "cpu differs from what is usual about this time much more often than usual: about"
                " 46% of its latest values, usually less than 1%; cpu is 10, usually about 0 at"
                " 13:05"
            ),
        ),
        (
            "stuck",
            {"value": 17.0, "amount": 3 * HOUR_MS + 59_000},
            "cpu has read exactly 17 for 3 h; usually it changes from one value to the next",
        ),
        (
            "stuck",
            {"value": 17.00001, "amount": 95 * MINUTE_MS, "measure": MINUTE_MEAN},
            (
                "cpu has read exactly the same, about 17 as the mean of a minute for 1 h 35 min;"
                " usually it changes from one value to the next"
            ),
        ),
        (
            "course",
            {**UP, "amount": 0.0, "history_ms": 9.0 * DAY_MS + 100},
            (
                "the course of cpu over the last hours is unlike any in the 9 d before: is 97,"
                " usually about 41 at 13:05"
            ),
        ),
        (
            "course",
            {**UP, "amount": 1.0, "history_ms": 9.0 * DAY_MS},
            "cpu has not moved for longer than usual: cpu is 97, usually about 41 at 13:05",
        ),
        (
            "combination",
            UP,
            "cpu does not follow the other metrics as usual: cpu is 97, usually about 41 at 13:05",
        ),
        (
            "joint",
            {**UP, "amount": 4.0},
            (
                "at least 4 of 9 metrics changed unusually at the same time, most of all cpu is"
                " 97, usually about 41 at 13:05"
            ),
        ),
        ("trained", {}, "a trained model finds the metrics together unusual at 13:05"),
        (
            "value",
            {**UP, "cold_start": 1, "lower": -3.14159, "upper": 52.0, "history_ms": 2 * HOUR_MS},
            (
                "cpu is 97, far outside of -3.14 to 52, its usual values in the first 2 h (still"
                " warming up)"
            ),
        ),
    ],
)
def test_a_view_says(view, fields, sentence):
    assert opened(view, **fields) == sentence


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": 97.126}, "is 97.1, usually about 41"),
        ({"value": 0.0001}, "is 1.00e-04, usually about 41"),
        ({"value": 999.7}, "is 1,000, usually about 41"),
        ({"value": 12345.6, "expected": 999.4}, "is 12,346, usually about 999"),
        ({"value": -5.0, "expected": -0.25}, "is -5, usually about -0.25"),
        ({"value": 1e18, "expected": 3.0}, "is 1.00e+18, usually about 0"),
        ({"value": 65535.0, "expected": 0.04}, "is 65,535, usually about 0.04"),
        ({"value": 50.0, "expected": 4e-5}, "is 50, usually about 4.00e-05"),
        ({"value": 50.0, "expected": -1e-300}, "is 50, usually about 0"),
        ({"value": -0.0, "expected": 41.0}, "is 0, usually about 41"),
        ({"value": 0.0, "expected": -0.0}, "is 0, usually about 0"),
        ({"measure": MINUTE_MEAN}, "is 97 as the mean of a minute, usually about 41"),
        ({"measure": RATE}, "is 97 per second (it is a total), usually about 41"),
        (
            {"measure": MINUTE_RATE},
            "is 97 per second over a minute (it is a total), usually about 41",
        ),
    ],
)
def test_numbers_are_rounded_and_say_what_they_measure(fields, message):
    assert opened(**(UP | fields)) == f"cpu {message} at 13:05"


def test_without_a_usual_value_none_is_claimed():
    assert opened(value=97.0) == "cpu is 97"
    assert opened(metric=None, value=97.0) == "the entity is 97"


def test_a_usual_value_that_no_day_showed_at_this_time_is_that_of_about_this_time():
    assert opened(**UP, watched_days=0) == "cpu is 97, usually about 41 within two hours of 13:05"


def test_what_the_last_day_adds_to_the_usual_value_is_said_apart():
    assert opened(**UP | {"expected": 60.0, "usual": 41.0, "lately": 19.0}) == (
        "cpu is 97, usually about 41 at 13:05, lately about 19 more"
    )
    assert opened(**UP | {"expected": 30.0, "usual": 41.0, "lately": -11.0}) == (
        "cpu is 97, usually about 41 at 13:05, lately about 11 less"
    )


def test_a_level_or_unit_that_was_learned_is_not_called_usual_at_once():
    message = "cpu is 97, about 41 expected at 13:05 by what was learned at 2025-01-05 13:05"
    assert opened(**UP, moved_ms=AT_MS - DAY_MS) == message
    assert opened(**UP, moved_ms=AT_MS - 4 * DAY_MS) == "cpu is 97, usually about 41 at 13:05"


@pytest.mark.parametrize(
    ("view", "fields", "message"),
    [
        ("hour", {"span_ms": HOUR_MS}, "cpu has been higher than expected on average"),
        ("level", {"amount": 4.0}, "cpu has been about 4 above the values expected for most of"),
        (
            "missed",
            {"direction": -1, "usual_amount": 90.0, "amount": 12.0, "span_ms": HOUR_MS},
            "cpu was expected at about 90 between 12:05 and 13:05, but stayed at about 12 or below",
        ),
    ],
)
def test_what_is_expected_since_then_is_not_called_usual(view, fields, message):
    assert opened(view, **(UP | fields), moved_ms=AT_MS - DAY_MS).startswith(message)


def test_times_are_local():
    zone = (
        np.array([np.iinfo(np.int64).min, AT_MS - 30 * MINUTE_MS]),
        np.array([HOUR_MS, 2 * HOUR_MS]),
    )
    assert opened(zone=zone, **UP) == "cpu is 97, usually about 41 at 15:05"
    fields = {"direction": -1, "usual_amount": 9.0, "amount": 1.0, "span_ms": HOUR_MS}
    message = opened("missed", zone=zone, **fields)
    assert "between 13:05 and 15:05" in message  # summer time began 30 minutes ago
    before = Speaker(zone).worse(event_of(**UP, start_ms=AT_MS - HOUR_MS), "cpu", 9)
    assert before.endswith("; worse than since 13:05")


def test_a_second_record_says_since_when_and_whether_it_is_the_peak():
    start = {"start_ms": AT_MS - 26 * HOUR_MS}
    message = Speaker(UTC).worse(event_of(**UP, **start), "cpu", 9)
    assert message == "cpu is 97, usually about 41 at 13:05; worse than since 2025-01-05 11:05"
    message = Speaker(UTC).worse(event_of(**UP, **start, peak_ms=AT_MS - HOUR_MS), "cpu", 9)
    assert message.endswith("; worse again in an episode since 2025-01-05 11:05")


BAND = {"value": 42.0, "expected": 41.0, "lower": 30.0, "upper": 52.0, "direction": 1}
SPAN = {
    "start_ms": AT_MS - 4 * HOUR_MS,
    "seen_ms": AT_MS - 3 * HOUR_MS,
    "peak_ms": AT_MS - 200 * MINUTE_MS,
    "peak_value": 97.0,
}


@pytest.mark.parametrize(
    ("because", "metric", "fields", "sentence"),
    [
        (
            "recovered",
            "cpu",
            BAND,
            (
                "cpu is as usual again: 42, usually about 41 at 13:05; the deviation lasted from"
                " 09:05 to 10:05, peak 97 at 09:45"
            ),
        ),
        (
            "recovered",
            "cpu",
            BAND | {"value": 3.0},
            (
                "cpu is no longer unusually high: 3, usually about 41 at 13:05; the deviation"
                " lasted from 09:05 to 10:05, peak 97 at 09:45"
            ),
        ),
        (
            "recovered",
            "cpu",
            BAND | {"value": 300.0, "direction": -1, "start_ms": AT_MS - DAY_MS},
            (
                "cpu is no longer unusually low: 300, usually about 41 at 13:05; the deviation"
                " lasted from 2025-01-05 13:05 to 10:05, peak 97 at 09:45"
            ),
        ),
        (
            "recovered",
            "cpu",
            BAND | {"value": 300.0, "direction": 0, "peak_value": math.nan},
            (
                "cpu is no longer as unusual: 300, usually about 41 at 13:05; the deviation"
                " lasted from 09:05 to 10:05"
            ),
        ),
        (
            "recovered",
            None,
            {"peak_value": math.nan},
            "the entity as a whole is as usual again; the deviation lasted from 09:05 to 10:05",
        ),
        (
            "accepted",
            "cpu",
            BAND | {"value": 60.0, "expected": 61.0, "usual": 41.0, "lately": 20.0},
            (
                "cpu is 60, usually about 41 at 13:05, lately about 20 more; the deviation from"
                " 09:05 to 10:05 has become what is usual, peak 97 at 09:45"
            ),
        ),
        (
            "silent",
            "cpu",
            {},
            "cpu: the episode since 09:05 ends, no data any more, peak 97 at 09:45",
        ),
        (
            "restarted",
            None,
            {"peak_value": math.nan},
            (
                "the entity as a whole: the episode since 09:05 ends, detection goes on with"
                " other settings"
            ),
        ),
    ],
)
def test_an_episode_closes(because, metric, fields, sentence):
    event = event_of(**(SPAN | fields))
    assert Speaker(UTC).closed(event, metric, ClosedBecause(because)) == sentence


def test_each_way_an_episode_closes_has_a_sentence():
    event = event_of(**(SPAN | BAND))
    message = {Speaker(UTC).closed(event, "cpu", because) for because in ClosedBecause}
    assert len(message) == len(ClosedBecause)
