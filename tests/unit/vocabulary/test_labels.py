"""Label files: every form, every error with its place; what alarms make of windows."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from shared.errors import DataError
from shared.kernels.units import HOUR_MS
from shared.labels import (
    Outcome,
    Window,
    evaluate_alarms,
    find,
    read_labels,
    result_csv,
    result_scores,
    runs,
)

START_MS = 1_400_000_400_000


def moment(hour):
    return datetime.fromtimestamp((START_MS + hour * HOUR_MS) / 1000, UTC).strftime(
        "%Y-%m-%d %H:%M:%S"
    )


def at(hour):
    return START_MS + hour * HOUR_MS


# -- reading ---------------------------------------------------------------------------------------


def test_nab_windows_are_read_in_order_of_time():
    text = json.dumps(
        {"cat/a.csv": [[moment(5), moment(6)], [moment(1), moment(2) + ".500000"]], "cat/b.csv": []}
    )
    found = read_labels(text, "w.json")
    assert found == {
        "cat/a.csv": (
            Window(at(1), at(2) + 500, "cat/a.csv 1"),
            Window(at(5), at(6), "cat/a.csv 2"),
        ),
        "cat/b.csv": (),
    }


def test_windows_may_stand_under_their_name_and_be_milliseconds():
    assert read_labels(json.dumps({"windows": {"a": [[at(1), at(2)]]}}), "w.json") == {
        "a": (Window(at(1), at(2), "a 1"),)
    }


def test_anomalies_with_kinds_win():
    one = {"entity": "a", "kind": "spike", "metrics": ["cpu"], "start": moment(1), "end": moment(1)}
    text = json.dumps({"windows": {"a": [[moment(1), moment(1)]]}, "anomalies": [one]})
    assert read_labels(text, "w.json") == {"a": (Window(at(1), at(1), "a 1", "spike"),)}


def test_csv_in_any_order_of_columns():
    text = (
        "\ufeffend,"
        f" kind,entity,start\n{moment(2)},drop,a,{at(1)}\n\n{moment(4)}+00:00,,b/c,{moment(3)}Z\n"
    )
    assert read_labels(text, "w.csv") == {
        "a": (Window(at(1), at(2), "a 1", "drop"),),
        "b/c": (Window(at(3), at(4), "b/c 1"),),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "w: it has no labels"),
        ("{", "w: it is not JSON"),
        ("[]", "w: it is neither"),
        ('{"a": 3}', "w: a: a list of [start, end] is required, found 3"),
        ('{"a": [["2014-01-01"]]}', "w: a, window 1 is ['2014-01-01']; [start, end] is required"),
        ('{"a": [["2014-01-01", "x"]]}', "w: a, window 1: end is 'x'; allowed is ISO 8601"),
        (
            '{"a": [["2014-01-02", "2014-01-01"]]}',
            "w: a, window 1: its end (2014-01-01) is before its start (2014-01-02)",
        ),
        ('{"a": [[true, 1]]}', "w: a, window 1: start is True"),
        ('{"anomalies": [{"entity": "a", "start": 1}]}', "w: anomaly 1 is"),
        ("entity,start\n", "w, line 1: no column 'end'"),
        (
            "entity,start,end\na,2014-01-01,2014-01-02\nb,1\n",
            "w, line 3: 2 cells, the header has 3",
        ),
        ("entity,start,end\n,2014-01-01,2014-01-02\n", "w, line 2: entity is empty"),
        ("entity,start,end\na,yesterday,2014-01-02\n", "w, line 2: start is 'yesterday'"),
        ('entity,start,end\n"a,2014-01-01,2014-01-02\n', "w, line 2: "),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    if not text:
        text = "entity,start,end\n"
    with pytest.raises(DataError) as caught:
        read_labels(text, "w")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("key", "entity", "known"),
    [
        ("a", "a", True),
        ("cat/a.csv", "a", True),
        ("a.csv", "cat/a", True),
        ("cat/a.csv", "other/a", False),
        ("cat/a", "a", False),
        ("cat/ba.csv", "a", False),
    ],
)
def test_a_file_stands_for_its_entity(key, entity, known):
    windows = (Window(0, 1),)
    assert find({key: windows}, entity) == (windows if known else None)


# -- evaluating alarms ----------------------------------------------------------------------------


def evaluated(alarms, windows, ready_from=0, n=20):
    alarm, ready = np.zeros(n, bool), np.arange(n) >= ready_from
    alarm[list(alarms)] = True
    times = START_MS + np.arange(n) * HOUR_MS
    return evaluate_alarms(times, alarm, ready, [Window(at(a), at(b)) for a, b in windows])


def test_hits_misses_and_false_alarms():
    found = evaluated({3, 6, 7, 12, 13, 15}, [(5, 8), (10, 11)])
    assert [outcome.outcome for outcome in found.outcomes] == [Outcome.HIT, Outcome.MISSED]
    assert found.outcomes[0].alarm_ms == at(6)
    assert found.outcomes[0].delay_ms == HOUR_MS
    assert found.outcomes[1].delay_ms is None
    assert (found.false_alarms, found.false_rows) == (3, 4)


def test_a_run_is_cut_where_a_window_begins():
    found = evaluated({3, 4, 5, 6, 9, 10}, [(5, 8)])
    assert (found.false_alarms, found.false_rows) == (2, 4)


def test_edges_of_a_window_are_inside():
    assert [
        outcome.outcome for outcome in evaluated({5, 8}, [(5, 5), (8, 8), (9, 9)]).outcomes
    ] == [
        Outcome.HIT,
        Outcome.HIT,
        Outcome.MISSED,
    ]


def test_windows_of_the_warm_up_and_without_data_are_not_evaluated():
    found = evaluated({2}, [(1, 4), (30, 40)], ready_from=5)
    assert [outcome.outcome for outcome in found.outcomes] == [Outcome.WARMING, Outcome.NO_DATA]
    assert found.outcomes[0].alarm_ms == at(2)
    assert found.false_alarms == 0


def test_overlapping_windows_count_each():
    assert [outcome.outcome for outcome in evaluated({6}, [(5, 8), (6, 10)]).outcomes] == [
        Outcome.HIT,
        Outcome.HIT,
    ]


def test_runs():
    assert runs(np.array([], bool)) == 0
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], bool)) == 3


# -- result files ----------------------------------------------------------------------------------


def test_scores_reach_a_half_where_and_only_where_it_is_an_alarm():
    severity, alarm = (
        np.array([np.nan, 0.2, 0.7, 0.7, 0.1, np.nan]),
        np.array([0, 0, 0, 1, 1, 1], bool),
    )
    scores = result_scores(severity, alarm)
    assert scores.tolist() == [0.0, 0.2, 0.499, 0.7, 0.5, 0.5]
    assert ((scores >= 0.5) == alarm).all()


def test_a_result_file_reads_as_nab_writes_it():
    times = np.array([at(0), at(1) + 250, at(2)])
    text = result_csv(
        times,
        np.array([1.5, np.nan, 1e9]),
        np.array([0.0, 0.5, 0.123456789]),
        [Window(at(1), at(2))],
    )
    assert text.splitlines() == [
        "timestamp,value,anomaly_score,label",
        f"{moment(0)},1.5,0.0,0",
        f"{moment(1)}.250,,0.5,1",
        f"{moment(2)},1000000000.0,0.123456789,1",
    ]
