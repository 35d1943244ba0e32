"""Formats of times: a column is read as written or refused as ambiguous, like the slow twin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producer.files.columns import Doubt
from producer.files.time_choice import TimeColumn
from producer.files.time_forms import FORMS, Kind, explain, find_form, kind_of, parse_times
from shared.errors import ConfigError
from shared.wording import second
from tests.reference import times as reference

WRITTEN = {
    "YYYYMMDD": "%Y%m%d",
    "YYYYMMDDHH": "%Y%m%d%H",
    "YYYYMMDDHHMM": "%Y%m%d%H%M",
    "YYYYMMDDHHMMSS": "%Y%m%d%H%M%S",
    "YYMMDDHH": "%y%m%d%H",
    "YYMMDDHHMM": "%y%m%d%H%M",
    "YYMMDDHHMMSS": "%y%m%d%H%M%S",
    "DD/MM/YYYY": "%d/%m/%Y %H:%M",
    "MM/DD/YYYY": "%m/%d/%Y %I:%M:%S %p",
    "iso": "%Y-%m-%d %H:%M:%S",
}
RESOLUTION_S = {
    "YYYYMMDD": 86_400,
    "YYYYMMDDHH": 3600,
    "YYMMDDHH": 3600,
    "YYYYMMDDHHMM": 60,
    "YYMMDDHHMM": 60,
}
RESOLUTION_S |= {"DD/MM/YYYY": 60}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
STEPS_S = st.sampled_from(
    [1, 5, 10, 15, 20, 30, 60, 100, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400, 604_800]
)
STARTS = st.datetimes(datetime(2001, 9, 10), datetime(2031, 12, 31))


def choose(cells, blocks=1):
    column = TimeColumn()
    for part in np.array_split(np.array(cells, object), blocks):
        column.add(part.tolist())
    return column.choose()


def written(form, times):
    if form in PER_SECOND:
        return [str(int(time.replace(tzinfo=UTC).timestamp()) * PER_SECOND[form]) for time in times]
    return [time.strftime(WRITTEN[form]) for time in times]


@settings(deadline=None, max_examples=400)
@given(
    form=st.sampled_from([*WRITTEN, *PER_SECOND]),
    start=STARTS,
    step_s=STEPS_S,
    n=st.integers(1, 400),
    missing=st.floats(0, 0.5),
    seed=st.integers(0, 9),
)
@example("YYMMDDHHMM", datetime(2020, 10, 12, 1), 3600, 20, 0.0, 0)
@example("YYMMDDHHMM", datetime(2019, 1, 1, 1), 60, 1, 0.0, 0)
@example("YYYYMMDDHH", datetime(2010, 12, 1), 3600, 300, 0.0, 0)
@example("s", datetime(2024, 1, 1, 9, 6, 40), 1, 10, 0.0, 0)
@example("DD/MM/YYYY", datetime(2024, 1, 1), 3600, 264, 0.0, 0)
def test_what_is_read_is_what_was_written_or_it_is_refused(form, start, step_s, n, missing, seed):
    least = RESOLUTION_S.get(form, 1)
    step_s = -(-step_s // least) * least
    start = datetime.fromtimestamp(
        start.replace(tzinfo=UTC).timestamp() // least * least, UTC
    ).replace(tzinfo=None)
    kept = np.flatnonzero(np.random.default_rng(seed).random(n) >= missing).tolist() or [0]
    times = [start + timedelta(seconds=step_s * row) for row in kept]
    cells = written(form, times)
    chosen = choose(cells)
    if isinstance(chosen, Doubt):
        assert FORMS[form].kind is not Kind.ISO
        assert f"--time-format {form}" in chosen.text
        chosen = find_form(form)
    time_ms, valid = parse_times(cells, chosen)
    truth = [int(time.replace(tzinfo=UTC).timestamp()) * 1000 for time in times]
    assert time_ms[valid].tolist() == [
        time for time, read in zip(truth, valid, strict=True) if read
    ]
    for row in np.flatnonzero(~valid).tolist():  # refused with its line
        assert form in PER_SECOND
        assert truth[row] >= 1_970_000_000_000
        assert f"--time-format {form} takes it as an epoch" in explain(cells[row], chosen)


@pytest.mark.parametrize("year", [1999, 2005, 2010, 2014, 2017, 2020, 2024, 2031])
@pytest.mark.parametrize(
    ("form", "step_s", "n"),
    [
        ("YYYYMMDDHH", 3600, 600),
        ("YYYYMMDDHHMM", 300, 600),
        ("YYMMDDHHMM", 300, 600),
        ("YYMMDDHHMM", 60, 120),
        ("YYMMDDHHMM", 3600, 80),
    ],
)
def test_a_usual_column_of_digits_is_read_not_refused(year, form, step_s, n):
    times = [datetime(year, 3, 5) + timedelta(seconds=step_s * row) for row in range(n)]
    assert choose(written(form, times)).name == form


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("step_s", [1, 60, 300, 3600, 86_400])
def test_a_usual_column_of_epochs_is_read_not_refused(unit, step_s):
    for start in (1_000_000_000, 1_397_088_240, 1_500_000_003, 1_704_067_200, 1_769_904_000):
        times = [
            datetime.fromtimestamp(start + step_s * row, UTC).replace(tzinfo=None)
            for row in range(200)
        ]
        assert choose(written(unit, times)).name == unit


CELLS = st.one_of(
    STARTS.map(lambda t: t.strftime("%Y%m%d%H")),
    STARTS.map(lambda t: t.strftime("%y%m%d%H%M")),
    STARTS.map(lambda t: t.strftime("%y%m%d%H%M").lstrip("0")),
    STARTS.map(lambda t: t.strftime("%d/%m/%Y %H:%M")),
    STARTS.map(lambda t: t.strftime("%d.%m.%Y %H:%M")),
    STARTS.map(lambda t: t.isoformat(" ")),
    st.integers(10**8, 10**10).map(str),
    st.integers(1_704_100_000, 1_704_100_059).map(str),
    st.integers(10**12, 2 * 10**12).map(str),
    st.integers(-(10**10), 10**17).map(str),
    st.integers(10**9, 10**10).map("{}.250".format),
    st.sampled_from(
        [
            "",
            "soon",
            "2014041005.0",
            "2010120100",
            "201012010000",
            "00010100",
            "1.5",
            "\u0662\u0660\u0661\u0664041005",
            "20140431",
        ]
    ),
)
COLUMNS = st.one_of(
    st.lists(CELLS, max_size=12),
    CELLS.flatmap(lambda cell: st.lists(st.just(cell), min_size=1, max_size=3)),
    st.tuples(
        st.integers(1_704_099_900, 1_704_100_100), st.integers(1, 90), st.integers(1, 40)
    ).map(lambda t: [str(t[0] + t[1] * i) for i in range(t[2])]),
    st.tuples(
        STARTS, st.sampled_from(["%Y%m%d%H", "%y%m%d%H", "%Y%m%d"]), st.integers(1, 60), CELLS
    ).map(lambda t: [(t[0] + timedelta(hours=i)).strftime(t[1]) for i in range(t[2])] + [t[3]]),
)


@settings(deadline=None, max_examples=400)
@given(cells=COLUMNS, blocks=st.integers(1, 4))
def test_choice_and_reading_equal_the_slow_ones_however_the_column_is_cut(cells, blocks):
    chosen, truth = choose(cells, blocks), reference.choose(cells)
    if isinstance(truth, set):
        assert isinstance(chosen, Doubt)
        assert all(f"--time-format {form}" in chosen.text for form in truth)
        return
    assert chosen.name == truth
    column = TimeColumn()
    for part in np.array_split(np.array(cells, object), blocks):
        column.add(part.tolist())
    for time_ms, valid in (parse_times(cells, chosen), column.times(chosen)):
        expected = [reference.read(cell, truth) for cell in cells]
        assert [int(t) if ok else None for t, ok in zip(time_ms, valid, strict=True)] == expected


@pytest.mark.parametrize(
    ("cell", "form", "time"),
    [
        ("3/4/2024", "DD/MM/YYYY", "2024-04-03 00:00:00"),
        ("3/4/2024", "MM/DD/YYYY", "2024-03-04 00:00:00"),
        ("03-04-2024 5:06", "DD/MM/YYYY", "2024-04-03 05:06:00"),
        ("03.04.2024 05:06:07,5", "DD/MM/YYYY", "2024-04-03 05:06:07.500"),
        ("03/04/2024, 12:00 am", "MM/DD/YYYY", "2024-03-04 00:00:00"),
        ("03/04/2024 12:30:00 PM", "MM/DD/YYYY", "2024-03-04 12:30:00"),
        ("03/04/2024 14:30 +02:00", "MM/DD/YYYY", "2024-03-04 12:30:00"),
        ("03.04.2024", "MM/DD/YYYY", None),
        ("03/04-2024", "DD/MM/YYYY", None),
        ("03/04/2024 13:00 PM", "DD/MM/YYYY", None),
        ("31/02/2024", "DD/MM/YYYY", None),
        ("03/04/24", "DD/MM/YYYY", None),
        ("501010000", "YYMMDDHHMM", "2005-01-01 00:00:00"),
        ("6901010000", "YYMMDDHHMM", "1969-01-01 00:00:00"),
        ("6812312359", "YYMMDDHHMM", "2068-12-31 23:59:00"),
        ("2014041005.00", "YYYYMMDDHH", "2014-04-10 05:00:00"),
        ("2014041005.5", "YYYYMMDDHH", None),
        ("2014041024", "YYYYMMDDHH", None),
        ("1899041023", "YYYYMMDDHH", None),
        ("1397088240123456", "us", "2014-04-10 00:04:00.123"),
        ("1397088240123456789", "ns", "2014-04-10 00:04:00.123"),
        ("9999999999999999999", "ns", None),
        ("2014041005", "s", None),
    ],
)
def test_a_cell_in_a_form(cell, form, time):
    time_ms, valid = parse_times([cell], FORMS[form])
    assert (second(int(time_ms[0])) if valid[0] else None) == time


def test_an_epoch_that_was_asked_for_is_taken_at_its_word():
    (time_ms,), (valid,) = parse_times(["2014041005"], find_form("S"))
    assert valid
    assert second(int(time_ms)) == "2033-10-27 15:50:05"
    with pytest.raises(
        ConfigError,
        match=r"--time-format weekly: one of iso, s, ms, us, ns, YYYYMMDD, .*MM/DD/YYYY",
    ):
        find_form("weekly")


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (
            ["1704100000", "1704100001"],
            "2024-01-01 09:06:40 as epoch seconds or 2017-04-10 00:00:00 as YYMMDDHHMM",
        ),
        (
            ["2010120100", "2010120101"],
            "2010-12-01 00:00:00 as YYYYMMDDHH or 2020-10-12 01:00:00 as YYMMDDHHMM",
        ),
        (["03/04/2024", "04/04/2024"], "can be 2024-04-03 00:00:00 or 2024-03-04 00:00:00"),
        (
            [f"14041{day}{hour:02}00" for day in range(3) for hour in range(25)],
            (
                "1404102400 is 2014-06-30 04:26:40 as epoch seconds and no date as YYMMDDHHMM, but"
                " 72 of the 75 cells"
            ),
        ),
    ],
)
def test_what_two_forms_fit_is_reported_with_both_and_the_option(cells, says):
    doubt = choose(cells)
    assert isinstance(doubt, Doubt)
    assert says in doubt.text
    assert "--time-format" in doubt.text
    row = choose(["soon", *cells])
    assert (row.row, row.text) == (doubt.row + 1, doubt.text.replace("of the 75", "of the 76"))


def test_a_bad_cell_is_explained_by_the_columns_form():
    assert explain("soon", FORMS["iso"]).startswith("'soon' is not a timestamp: ISO 8601")
    assert "'1397088240' is not ISO 8601, the format of this column" in explain(
        "1397088240", FORMS["iso"]
    )
    assert (
        explain("2014043105", FORMS["YYYYMMDDHH"])
        == "'2014043105' is not a timestamp: the other cells have the format YYYYMMDDHH;"
        " --time-format s takes it as an epoch"
    )
    assert "--time DATE,TIME joins two columns" in explain("00:05:00", FORMS["iso"])
    assert "in the format epoch milliseconds of --time-format" in explain(
        "2014-04-10", find_form("ms")
    )


def test_kinds():
    assert kind_of("2014-04-10") is Kind.ISO
    assert kind_of("13/04/2014") is Kind.LOCAL
    assert kind_of("1397088240") is Kind.DIGITS
    never = (
        "",
        "5",
        "123456",
        "32/13/2014",
        "soon",
        "12345678901234567890",
        "20140431",
        "1999999999",
    )
    assert [kind_of(cell) for cell in never] == [None] * len(never)
