"""Numbers and times as a person would say them."""

import numpy as np
import pytest

from shared.wording import (
    days,
    duration,
    iso,
    minute,
    moment,
    relative_to_usual,
    second,
    short,
    time_of_day,
)

TUESDAY_0310 = 1_397_531_400_000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 ms"),
        (45_000, "45 s"),
        (300_000, "5 min"),
        (330_000, "5 min 30 s"),
        (11_400_000, "3 h 10 min"),
        (93_600_000, "1 d 2 h"),
        (14 * 86_400_000, "14 d"),
    ],
)
def test_durations_have_two_units_at_most(ms, text):
    assert duration(ms) == text


def test_days_are_whole_from_two_on():
    assert days(14.9 * 86_400_000) == "14 days"
    assert days(1.5 * 86_400_000) == "1 d 12 h"


def test_the_time_of_day_names_its_half_hour():
    assert time_of_day(TUESDAY_0310, weekly=False) == "03:00"
    assert time_of_day(TUESDAY_0310 + 25 * 60_000, weekly=True) == "Tuesdays 03:30"


@pytest.mark.parametrize(
    ("time_ms", "texts"),
    [
        (
            TUESDAY_0310,
            ("2014-04-15 03:10", "2014-04-15 03:10", "2014-04-15 03:10:00"),
        ),
        (
            TUESDAY_0310 + 7_000,
            ("2014-04-15 03:10", "2014-04-15 03:10:07", "2014-04-15 03:10:07"),
        ),
        (
            TUESDAY_0310 + 7_008,
            ("2014-04-15 03:10", "2014-04-15 03:10:07", "2014-04-15 03:10:07.008"),
        ),
        (-1, ("1969-12-31 23:59", "1969-12-31 23:59:59", "1969-12-31 23:59:59.999")),
    ],
)
def test_times_are_written_as_finely_as_asked(time_ms, texts):
    assert (minute(time_ms), moment(time_ms), second(time_ms)) == texts


def test_iso_times_end_in_z():
    assert iso(TUESDAY_0310) == "2014-04-15T03:10:00.000Z"
    assert iso(np.int64(TUESDAY_0310 + 8)) == "2014-04-15T03:10:00.008Z"
    assert iso(TUESDAY_0310, finest="seconds") == "2014-04-15T03:10:00Z"
    with pytest.raises(OverflowError):
        iso(2**60)


@pytest.mark.parametrize(
    ("value", "usual", "text"),
    [
        (3.1, 1.0, "3.1x its usual 1"),
        (0.2, 1.0, "0.2 of its usual 1"),
        (1.0, 1.0, "usually 1"),
        (-1.0, 5.0, "usually 5"),
        (1.0, float("nan"), "never seen before"),
    ],
)
def test_values_are_compared_with_the_usual(value, usual, text):
    assert relative_to_usual(value, usual) == text


def test_numbers_are_short():
    assert [short(value) for value in (0.0, 1234.5, 2e-5, 3e14)] == [
        "0",
        "1,234",
        "2.00e-05",
        "3.00e+14",
    ]
