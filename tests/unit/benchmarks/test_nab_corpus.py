"""Reading a NAB folder: where things may lie, what is refused and how it is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.nab.corpus import check_scores, probation_rows, read_corpus
from shared.errors import DataError
from tests.reference import nab as reference
from tests.support.nab_corpora import make_series

ROWS = (
    "timestamp,value\n2014-04-10 00:04:00,1.5\n2014-04-10 00:09:00,\n2014-04-10"
    " 00:09:00,3\n2014-04-10 00:14:00,-4e-3\n"
)
WINDOW = ["2014-04-10 00:04:00.000000", "2014-04-10 00:09:00.000000"]


@pytest.fixture
def folder(tmp_path):
    def write(files, windows=None, labels=None, *, data="data", at="."):
        for name, text in files.items():
            path = tmp_path / data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / at).mkdir(exist_ok=True)
        if windows is not None:
            (tmp_path / at / "combined_windows.json").write_text(
                windows if isinstance(windows, str) else json.dumps(windows)
            )
        if labels is not None:
            (tmp_path / at / "combined_labels.json").write_text(json.dumps(labels))
        return tmp_path

    return write


@pytest.mark.parametrize("data", ["data", "."])
@pytest.mark.parametrize("at", [".", "labels"])
def test_a_folder_is_read_sorted_whatever_it_is_called(folder, data, at):
    files = {"z/b.csv": ROWS, "z/a.csv": ROWS, "y/c.csv": ROWS}
    windows = {"z/b.csv": [WINDOW], "z/a.csv": [], "y/c.csv": [], "x/not_here.csv": [WINDOW]}
    corpus = read_corpus(folder(files, windows, {"z/b.csv": [WINDOW[1]]}, data=data, at=at))
    assert [one.key for one in corpus] == ["y/c.csv", "z/a.csv", "z/b.csv"]
    one = corpus[2]
    assert one.timestamps[0] == "2014-04-10 00:04:00"
    assert one.time_ms.tolist() == [
        1_397_088_240_000,
        1_397_088_540_000,
        1_397_088_540_000,
        1_397_088_840_000,
    ]
    np.testing.assert_array_equal(one.values, [1.5, np.nan, 3.0, -0.004])
    assert one.windows.tolist() == [[0, 1]]
    assert one.labels.tolist() == [1]
    assert one.window_of.tolist() == [0, 0, -1, -1]
    assert corpus[0].windows.shape == (0, 2)
    assert corpus[0].labels.shape == (0,)


def test_labels_may_be_missing_windows_may_not(folder):
    where = folder({"a/b.csv": ROWS}, {"a/b.csv": [WINDOW]})
    assert read_corpus(where)[0].labels.tolist() == []
    (where / "combined_windows.json").unlink()
    with pytest.raises(DataError, match=r"no combined_windows\.json"):
        read_corpus(where)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,value\n1,2\n", r"b\.csv, line 1: no column 'timestamp'"),
        ("timestamp,value\n", r"b\.csv: no rows"),
        ("", r"b\.csv, line 1: no column"),
        (
            "timestamp,value\n2014-04-10 00:04:00,1\n2014-04-10 00:09:00\n",
            r"b\.csv, line 3: 1 fields, the header has 2",
        ),
        (
            "timestamp,value\n2014-04-10 00:04:00,1\nyesterday,2\n",
            r"b\.csv, row 1: 'yesterday' is not a timestamp",
        ),
        (
            "timestamp,value\n2014-04-10 00:04:00,much\n",
            r"b\.csv, row 0: value is 'much', not a number",
        ),
        (
            "timestamp,value\n2014-04-10 00:04:00,inf\n",
            r"b\.csv, row 0: value is 'inf'; a finite number",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_place(folder, text, complaint):
    with pytest.raises(DataError, match=complaint):
        read_corpus(folder({"a/b.csv": text}, {"a/b.csv": []}))


@pytest.mark.parametrize(
    ("windows", "complaint"),
    [
        ({}, r"has no entry for any series of .*, such as 'a/b\.csv'"),
        ({"b/a.csv": [WINDOW]}, r"has no entry for any series of .*, such as 'a/b\.csv'"),
        ("{", "not JSON"),
        ("[]", "expected an object"),
        (
            {"a/b.csv": [["2014-04-10 00:05:00", WINDOW[1]]]},
            r"a/b\.csv: the label '2014-04-10 00:05:00' is not the timestamp",
        ),
        ({"a/b.csv": [["soon", WINDOW[1]]]}, r"labels of a/b\.csv: 'soon' is not a timestamp"),
        ({"a/b.csv": [WINDOW, WINDOW]}, "overlap or are out of order"),
        ({"a/b.csv": [WINDOW[::-1]]}, "overlap or are out of order"),
    ],
)
def test_bad_windows_are_named(folder, windows, complaint):
    with pytest.raises(DataError, match=complaint):
        read_corpus(folder({"a/b.csv": ROWS}, windows))


def test_a_series_without_an_entry_has_no_windows_and_says_so(folder):
    labelled, unlabelled = read_corpus(
        folder({"a/b.csv": ROWS, "new/c.csv": ROWS}, {"a/b.csv": [WINDOW]})
    )
    assert (labelled.labelled, unlabelled.labelled) == (True, False)
    assert unlabelled.windows.shape == (0, 2)
    assert unlabelled.labels.shape == (0,)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no series"):
        read_corpus(tmp_path)


def test_the_probation_is_a_share_of_the_rows_up_to_750():
    assert [probation_rows(rows) for rows in (1, 6, 7, 100, 4032, 5000, 22_695)] == [
        0,
        0,
        1,
        15,
        604,
        750,
        750,
    ]
    for rows in (*range(1, 200), 999, 4032, 4999, 5000, 5001, 22_695):
        assert probation_rows(rows) == sum(reference.is_probation(row, rows) for row in range(rows))


def test_scores_that_cannot_be_judged_are_refused():
    corpus = [make_series(10)]
    check_scores(corpus, [np.zeros(10)])
    with pytest.raises(ValueError, match="2 arrays of scores for 1 series"):
        check_scores(corpus, [np.zeros(10)] * 2)
    with pytest.raises(ValueError, match=r"cloud/cpu\.csv: scores of shape \(9,\) for 10 rows"):
        check_scores(corpus, [np.zeros(9)])
    for odd in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"cloud/cpu\.csv: the score of row 3 is {odd}"):
            check_scores(corpus, [np.where(np.arange(10) == 3, odd, 0.0)])


def test_the_development_series_are_all_there(nab_dir):
    corpus = [one for one in read_corpus(nab_dir) if one.category == "realAWSCloudwatch"]
    assert len(corpus) == 17
    assert (
        sum(len(one.judged_windows) for one in corpus)
        == sum(len(one.windows) for one in corpus)
        == 30
    )
    assert sum(len(one.labels) for one in corpus) == 31
