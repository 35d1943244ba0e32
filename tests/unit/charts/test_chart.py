"""Charts: nothing is lost in a long series, nothing breaks in an unusual one."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.charts.chart import Lines, Mark, Span, compact, draw, strip

START_MS, STEP_MS = 1_700_000_100_000, 300_000


def lines(values, step_ms=STEP_MS):
    values = np.asarray(values, float)
    return Lines(
        START_MS + np.arange(len(values)) * step_ms, values, values, values - 1, values + 1
    )


def points(svg, style):
    path = re.search(rf'<path class="{style}" d="([^"]*)"', svg)
    return [
        tuple(map(float, pair.split(","))) for pair in re.findall(r"-?[\d.]+,-?[\d.]+", path[1])
    ]


def test_no_spike_is_lost_however_long_the_series():
    values = np.sin(np.arange(50_000) / 100)
    values[31_313], values[7] = 50.0, -40.0
    svg = draw(lines(values))
    ys = [y for _, y in points(svg, "measured")]
    assert len(ys) <= 2 * 840
    peak = 1.0 - (50.0 - -40.0) * 0.07 / (90.0 * 1.14)
    assert min(ys) == pytest.approx(8 + (1 - peak) * 140, abs=0.2)
    assert max(ys) == pytest.approx(8 + peak * 140, abs=0.2)
    assert len(svg) < 60_000


def test_a_short_series_is_drawn_point_by_point():
    assert len(points(draw(lines([1, 2, 3, 2])), "measured")) == 4


def test_no_line_is_drawn_across_a_silence():
    one = lines(np.arange(40.0))
    times = one.time_ms.copy()
    times[20:] += 100 * STEP_MS
    svg = draw(replace(one, time_ms=times))
    assert re.search(r'class="measured" d="M[^"M]*M', svg)
    assert not re.search(r'class="measured" d="M[^"M]*M', draw(one))


@pytest.mark.parametrize(
    "values",
    [
        [],
        [np.nan] * 9,
        [5],
        [5] * 30,
        [0] * 30,
        [1e308, -1e308, 0] * 5,
        [5e-324, 0] * 9,
        [np.nan, 3, np.nan],
        [-1, -2],
        [1e-310] * 4,
    ],
)
def test_awkward_series_are_drawn_with_finite_numbers(values):
    one = lines(values)
    marks = [
        Mark(int(time), value, "minor", "x")
        for time, value in zip(one.time_ms, one.values, strict=True)
    ]
    svg = draw(one, marks)
    assert "nan" not in svg
    assert "inf" not in svg
    assert (svg == "") == (not values)


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=40),
    st.integers(1, 10**9),
)
def test_every_point_lies_in_the_picture(values, step_ms):
    svg = draw(lines(values, step_ms))
    assert "nan" not in svg
    for style in ("measured", "expected", "band"):
        if f'class="{style}"' in svg:
            assert all(52 <= x <= 892.05 and 7.9 <= y <= 148.1 for x, y in points(svg, style))


def test_marks_spans_and_ticks_say_what_they_are():
    one = lines(np.arange(30.0))
    at = int(one.time_ms[10])
    svg = draw(
        one,
        [Mark(at, 10.0, "critical", "<b> & why", "e1a2"),
            Mark(at - 10**9, 1.0, "minor", "outside")],
            [Span(at, at + STEP_MS, "label missed", "a window"), Span(0, 1, "label", "long ago")],
            [(at, "a gap")], label='x "y"',
    )  # fmt: skip
    assert '<a href="#e1a2"><path class="mark critical"' in svg
    assert "&lt;b&gt; &amp; why" in svg
    assert '<rect class="span label missed"' in svg
    assert "a gap" in svg
    assert "outside" not in svg
    assert "long ago" not in svg
    assert 'aria-label="x &quot;y&quot;"' in svg


def test_the_strip_shows_the_severest_of_a_column():
    svg = strip(0, 1000, [(500, "minor"), (501, "critical"), (0, "major")])
    assert svg.count("<rect") == 3
    assert 'class="critical"' in svg
    assert 'class="minor"' not in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (-1500, "-1.5 k"),
        (2.5e8, "250 M"),
        (1e13, "10 T"),
        (1e300, "1.00e+300"),
    ],
)
def test_axis_numbers(value, text):
    assert compact(value) == text
