"""The list of windows and false alarms adds up to what the judges count."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from benchmarks.nab.events import count_events
from benchmarks.nab.windows import list_windows, show_windows
from tests.support.nab_corpora import judged_corpora, make_series


@given(judged_corpora())
def test_the_list_adds_up_to_the_events(made):
    corpus, scores = made
    listed, counted = list_windows(corpus, scores, 0.5), count_events(corpus, scores, 0.5)
    windows = [window for one in listed for window in one["windows"]]
    assert (len(windows), sum(window["hit"] for window in windows)) == (
        counted.windows,
        counted.hits,
    )
    assert [len(one["false_alarms"]) for one in listed] == list(counted.false_events_by_series)
    assert [len(one["windows"]) + one["in_probation"] for one in listed] == [
        len(one.windows) for one in corpus
    ]
    assert show_windows(listed).endswith(
        f"{counted.hits} of {counted.windows} windows hit, false alarms: {counted.false_events}"
    )


def test_a_reader_sees_times_delays_and_misses():
    one = make_series(100, [(40, 49), (70, 79)])
    scores = np.zeros(100)
    scores[[20, 21, 47, 49]] = 1.0
    hit = (
        "2014-03-09 03:20:00 to 2014-03-09 04:05:00  at 2014-03-09 03:55:00, +15 min from its"
        " label, 35 min into the window"
    )
    assert show_windows(list_windows([one], [scores], 1.0)).splitlines() == [
        "cloud/cpu.csv: 1 of 2 windows hit, false alarms: 1",
        f"  hit     {hit}",
        "  missed  2014-03-09 05:50:00 to 2014-03-09 06:35:00",
        "  false   2014-03-09 01:40:00",
        "1 of 2 windows hit, false alarms: 1",
    ]


def test_a_window_without_a_label_has_no_delay():
    one = make_series(100, [(40, 49)], labels=[])
    scores = np.zeros(100)
    scores[41] = 1.0
    assert "at 2014-03-09 03:25:00, 5 min into the window" in show_windows(
        list_windows([one], [scores], 1.0)
    )
