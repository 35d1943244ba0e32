"""Result files: what is written reads back bit for bit, and published ones are read too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.nab.results import read_result, read_scores, result_path, write_results
from shared.errors import DataError
from tests.support.nab_corpora import make_series


def test_a_result_file_is_what_nab_writes(tmp_path):
    one = make_series(5, [(1, 2)], minutes=[0, 5, 10, 10, 15])
    one.values[3] = np.nan
    paths = write_results(tmp_path, "lapwing", [one], [np.array([0.0, 0.1, 1e-300, 2.5, 1.0])])
    assert paths == [tmp_path / "lapwing" / "cloud" / "lapwing_cpu.csv"]
    assert paths[0].read_text().splitlines() == [
        "timestamp,value,anomaly_score,label",
        "2014-03-09 00:00:00,0.0,0.0,0",
        "2014-03-09 00:05:00,1.0,0.1,1",
        "2014-03-09 00:10:00,2.0,1e-300,1",
        "2014-03-09 00:10:00,,2.5,1",
        "2014-03-09 00:15:00,4.0,1.0,0",
    ]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_what_is_written_reads_back_bit_for_bit(tmp_path_factory, numbers):
    out, one = tmp_path_factory.mktemp("out"), make_series(6, [(2, 4)])
    one.values[:] = numbers[::-1]
    one.values[1] = np.nan
    write_results(out, "d", [one], [np.array(numbers)])
    result = read_result(result_path(out, "d", one))
    assert result.scores.tobytes() == np.array(numbers).tobytes()
    assert result.values.tobytes() == one.values.tobytes()
    assert result.labels.tolist() == [0, 0, 1, 1, 1, 0]
    assert read_scores(out, "d", [one])[0].tobytes() == result.scores.tobytes()


def test_a_published_file_has_more_columns_and_whole_labels_as_floats(tmp_path):
    one = make_series(2)
    path = result_path(tmp_path, "numenta", one)
    path.parent.mkdir(parents=True)
    path.write_text(
        "timestamp,value,anomaly_score,raw_score,label,S(t)_standard\n"
        "2014-03-09 00:00:00,52.0,0.0301,1.0,0,0.0\n"
        "2014-03-09 00:05:00,52.0,0.5,0.25,1.0,-0.11\n"
    )
    result = read_result(path)
    assert result.scores.tolist() == [0.0301, 0.5]
    assert result.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            "2014-03-09 00:00:00,1,0,0\n2014-03-09 00:06:00,1,0,0\n",
            r"its timestamps are not those of cloud/cpu\.csv",
        ),
        ("2014-03-09 00:00:00,1,0,0\n", "its timestamps are not those of"),
        ("2014-03-09 00:00:00,1,0,0\n2014-03-09 00:05:00,1,,0\n", "row 1: no anomaly_score"),
        (
            "2014-03-09 00:00:00,1,0,0\n2014-03-09 00:05:00,1,0,2\n",
            "row 1: label is '2'; 0 or 1 is allowed",
        ),
        ("", "no rows"),
    ],
)
def test_a_result_of_another_series_is_refused(tmp_path, rows, complaint):
    one = make_series(2)
    path = result_path(tmp_path, "d", one)
    path.parent.mkdir(parents=True)
    path.write_text("timestamp,value,anomaly_score,label\n" + rows)
    with pytest.raises(DataError, match=complaint):
        read_scores(tmp_path, "d", [one])


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(DataError, match=r"d_cpu\.csv"):
        read_scores(tmp_path, "d", [make_series(2)])
