"""Time features, scale and vectors: against their slow twin, and against what a calendar says."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.features.vectors import Calendar, Scale, feature_names, fit_scale, vectors
from shared.settings import FeatureSettings
from tests.reference import rolling as reference

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def one_vector(time_ms: int, calendar: Calendar) -> np.ndarray:
    scale = Scale(("a",), np.zeros((1, 1, 4)), np.ones((1, 1, 4)))
    return vectors(
        np.zeros((1, 1, 4)), np.zeros(1, np.int32), np.array([time_ms]), scale, calendar
    )[0]


def test_names_match_the_vector():
    names = feature_names(("cpu", "disk"))
    assert names[:5] == ("cpu.value", "cpu.mean", "cpu.spread", "cpu.difference", "disk.value")
    assert names[8:] == ("cpu.missing", "disk.missing", "hour_sin", "hour_cos", "business_hour")
    assert len(names) == 5 * 2 + 3


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2014-04-16 09:00", True),  # a Wednesday
        ("2014-04-16 16:59", True),
        ("2014-04-16 17:00", False),
        ("2014-04-16 08:59", False),
        ("2014-04-19 12:00", False),  # a Saturday
    ],
)
def test_business_hour_is_true_inside_business_hours(moment, inside):
    calendar = Calendar.from_settings(FeatureSettings())
    assert one_vector(milliseconds(moment), calendar)[-1] == float(inside)


def test_business_hour_follows_the_zone_through_daylight_saving():
    calendar = Calendar.from_settings(FeatureSettings(timezone="America/New_York"))
    assert one_vector(milliseconds("2014-03-07 13:30"), calendar)[-1] == 0.0  # 08:30 in winter
    assert one_vector(milliseconds("2014-03-10 13:30"), calendar)[-1] == 1.0  # 09:30 in summer


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=60, deadline=None)
@given(st.integers(946_684_800_000, 4_102_444_799_999))
def test_vector_equals_the_twin(zone, time_ms):
    calendar = CALENDARS[zone]
    rng = np.random.default_rng(time_ms % 1000)
    rolling = rng.normal(size=(1, 2, 4))
    rolling[0, time_ms % 2] = np.nan
    centre, spread = rng.normal(size=(1, 2, 4)), rng.uniform(0.1, 2, size=(1, 2, 4))
    got = vectors(
        rolling, np.zeros(1, np.int32), np.array([time_ms]), Scale(("a",), centre, spread), calendar
    )[0]
    want = reference.build_vector(
        rolling[0], centre[0], spread[0], time_ms, ZoneInfo(zone), 9, 17, (0, 1, 2, 3, 4)
    )
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


CALENDARS = {zone: Calendar.from_settings(FeatureSettings(timezone=zone)) for zone in ZONES}


def test_calendar_survives_arrays():
    calendar = CALENDARS["Europe/Berlin"]
    again = Calendar.from_arrays(calendar.to_arrays())
    for name in Calendar.__slots__:
        np.testing.assert_array_equal(getattr(again, name), getattr(calendar, name))


def test_a_metric_that_the_entity_never_reported_counts_as_missing():
    centre = np.full((1, 2, 4), np.nan)
    centre[0, 0] = 1.0
    scale = Scale(("a",), centre, np.ones((1, 2, 4)))
    X = vectors(
        np.full((1, 2, 4), 3.0),
        np.zeros(1, np.int32),
        np.zeros(1, np.int64),
        scale,
        CALENDARS["UTC"],
    )
    np.testing.assert_array_equal(X[0, :10], [2, 2, 2, 2, 0, 0, 0, 0, 0, 1])


def test_scale_is_learnt_per_entity_and_robustly():
    rng = np.random.default_rng(1)
    rolling = np.full((4000, 1, 4), np.nan)
    rows = np.arange(4000, dtype=np.int32) % 2
    rolling[:, 0, :] = rng.normal(size=(4000, 4)) * np.where(rows == 0, 1.0, 1000.0)[:, None] + 5.0
    rolling[:20, 0, :] = 1e9
    scale = fit_scale(rolling, rows, ["small", "large"])
    np.testing.assert_allclose(scale.centre[0, 0], 5.0, atol=0.2)
    assert scale.spread[1, 0, 0] > 500
    assert np.isfinite(scale.spread).all()


def test_scale_of_constant_missing_and_huge_series_stays_usable():
    rolling = np.zeros((30, 3, 4))
    rolling[:, 1] = np.nan
    rolling[:, 2] = np.where(np.arange(30) % 2, 1e100, -1e100)[:, None]
    scale = fit_scale(rolling, np.zeros(30, np.int32), ["a"])
    assert (scale.spread[0, 0] == 1.0).all()
    assert np.isnan(scale.centre[0, 1]).all()
    assert np.isfinite(scale.spread[0, 2]).all()
    X = vectors(rolling, np.zeros(30, np.int32), np.zeros(30, np.int64), scale, CALENDARS["UTC"])
    assert np.isfinite(X).all()
