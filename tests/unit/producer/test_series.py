"""CSV files to columns: values, errors, and equality with the slow twin."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.files import csv_rows as module
from producer.files.columns import ColumnRules, metric_name
from producer.files.series import read_series
from producer.files.times import parse_iso, parse_iso_times, parse_time
from shared.errors import DataError
from shared.wording import second
from tests.reference import series as reference

START = 1_397_088_240_000  # 2014-04-10 00:04:00 UTC


@pytest.fixture
def read(tmp_path):
    def read(content, rules=None, *, skip_bad=False, name="cpu.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_series(path, path.stem, rules, skip_bad=skip_bad)

    return read


def test_a_nab_file_becomes_one_column(read):
    one = read(
        "timestamp,value\n2014-04-10 00:04:00,91.958\n2014-04-10 00:09:00,94.79799999999999\n"
    )
    assert one.source == "cpu"
    assert one.entities == ("",)
    assert one.metrics == ("value",)
    assert one.time_ms.tolist() == [START, START + 300_000]
    assert one.time_ms.dtype == np.int64
    assert one.values.tolist() == [[91.958], [94.79799999999999]]
    assert one.entity.dtype == np.int32
    assert one.skipped == 0


def test_a_wide_file_keeps_its_columns_and_entities(read):
    one = read(
        "host,CPU %,timestamp,9th\nb,1,2014-04-10T00:04:00Z,\n"
        "a,,2014-04-10T00:09:00Z,4\nb,3,2014-04-10T00:14:00Z,5\n"
    )
    assert one.metrics == ("CPU", "m_9th")
    assert one.entities == ("b", "a")
    assert one.entity.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(one.values, [[1, np.nan], [np.nan, 4], [3, 5]])


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftimestamp,value\n2014-04-10 00:04:00,1\n",
        b"timestamp,value\r\n2014-04-10 00:04:00,1\r\n",
        b"timestamp,value\r2014-04-10 00:04:00,1\r",
        b"timestamp,value\n2014-04-10 00:04:00,1",
        b"\n  \ntimestamp , value\n\n2014-04-10 00:04:00 , 1\n\n",
        b'"timestamp","value"\n"2014-04-10 00:04:00","1"\n',
        "timestamp,value\n2014-04-10 00:04:00,1\n".encode("utf-16"),
    ],
    ids=["bom", "crlf", "cr", "no last line end", "blank lines and blanks", "quoted", "utf-16"],
)
def test_encodings_line_ends_and_quotes(read, content):
    one = read(content)
    assert one.time_ms.tolist() == [START]
    assert one.values.tolist() == [[1.0]]


def test_a_quoted_entity_may_hold_commas_and_umlauts(read):
    one = read('timestamp,entity,value\n2014-04-10 00:04:00,"Köln, 1",2\n')
    assert one.entities == ("Köln, 1",)


HEAD = "timestamp,value\n2014-04-10 00:04:00,1\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            HEAD + "2014-04-31 00:00:00,1\n",
            "line 3: '2014-04-31 00:00:00' is not a timestamp: ISO 8601",
        ),
        (HEAD + "soon,1\n", "line 3: 'soon' is not a timestamp"),
        (HEAD + ",1\n", "line 3: '' is not a timestamp"),
        (HEAD + "\n2014-04-10 00:09:00,x\n", "line 4: value is 'x', which is not a number"),
        (
            HEAD + "2014-04-10 00:09:00,nan\n",
            "line 3: value is 'nan', which is not a number; an empty cell means missing",
        ),
        (HEAD + "2014-04-10 00:09:00,1_000\n", "line 3: value is '1_000', which is not a number"),
        (HEAD + "2014-04-10 00:09:00,-inf\n", "line 3: value is '-inf', which is infinite"),
        (HEAD + "2014-04-10 00:09:00,1e999\n", "line 3: value is '1e999', which is infinite"),
        (HEAD + "2014-04-10 00:09:00,1,2\n", "line 3: 3 cells where the header has 2"),
        (HEAD + "2014-04-10 00:09:00\n", "line 3: 1 cells where the header has 2"),
        (HEAD + "2014-04-10 00:09:00,x\nsoon,1\n", "line 3: value is 'x'"),
        (HEAD + 'soon,"1\n', "unexpected end of data"),
        ("timestamp,host,value\n2014-04-10 00:04:00,,1\n", "line 2: the entity is empty"),
        (
            "timestamp,host,value\n2014-04-10 00:04:00,a\tb,1\n",
            "line 2: the entity 'a\\tb' holds control characters",
        ),
        (
            "timestamp,host,value\n2014-04-10 00:04:00," + "x" * 257 + ",1\n",
            "line 2: the entity is longer than 256 bytes",
        ),
        (HEAD + "2014-04-10 00:09:00,\0\n", "line 3: a NUL character"),
        (b"timestamp,value\n2014-04-10 00:04:00,\xff\n", "line 2: not UTF-8 text"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("timestamp,value\n", "there is a header but no row"),
        (
            "when,value\n1,2\n",
            (
                "line 1: no timestamp column; one of timestamp, time, datetime is needed, found"
                " when, value"
            ),
        ),
        ("timestamp;value\n1;2\n", "line 2: '1' is not a timestamp"),
        ("timestamp,a,A\n1,2,3\n", "line 1: the header names column 'a' 2 times"),
        ("timestamp,a b,a-b\n1,2,3\n", "line 1: columns 'a b', 'a-b' would both be metric 'a_b'"),
        ("timestamp,value,\n1,2,3\n", "line 1: column 3 has no name"),
        ("timestamp,host\n1,a\n", "line 1: no metric column beside timestamp, host"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(read, content, says):
    with pytest.raises(DataError) as raised:
        read(content)
    assert says in str(raised.value)
    assert "cpu.csv" in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file"):
        read_series(tmp_path / "gone.csv", "gone")


def test_skip_bad_counts_rows_once_each_and_keeps_the_others(read):
    content = (
        HEAD + "soon,x\n2014-04-10 00:09:00,2\n2014-04-10 00:14:00,inf\n2014-04-10"
        " 00:14:00,1,1\n2014-04-10 00:19:00,3\n"
    )
    one = read(content, skip_bad=True)
    assert one.skipped == 3
    assert one.values[:, 0].tolist() == [1, 2, 3]
    assert one.time_ms.tolist() == [START, START + 300_000, START + 900_000]


def test_skip_bad_does_not_forgive_a_header_or_a_file_without_a_good_row(read):
    with pytest.raises(DataError, match="no timestamp column"):
        read("when,value\n1,2\n", skip_bad=True)
    with pytest.raises(
        DataError, match="none of its 2 rows can be used; the first, line 2: 'a' is not"
    ):
        read("timestamp,value\na,1\nb,2\n", skip_bad=True)


def test_rules_say_what_columns_mean(read):
    rules = ColumnRules(
        timestamp=("when",),
        entity=("Instance",),
        ignore=("region",),
        rename={"CPUUtilization": "cpu"},
    )
    one = read("When,instance,Region,cpuutilization,mem\n1397088240,i-1,eu,5,6\n", rules)
    assert one.metrics == ("cpu", "mem")
    assert one.entities == ("i-1",)
    assert one.time_ms.tolist() == [START]


def test_metric_names_are_avro_names():
    assert [metric_name(name) for name in ("cpu", "Net In (B)", "5xx", "%", "a__b")] == [
        "cpu",
        "Net_In_B",
        "m_5xx",
        "",
        "a__b",
    ]


@pytest.mark.parametrize(
    ("cell", "time_ms"),
    [
        ("2014-04-10 00:04:00", START),
        ("2014-04-10T00:04:00Z", START),
        ("2014-04-10T02:04:00+02:00", START),
        ("2014-04-10 00:04:00.1239", START + 123),
        ("2014-04-10", START - 240_000),
        ("1397088240", START),
        ("1397088240.5", START + 500),
        ("1397088240123", START + 123),
        ("1969-12-31 23:59:59", -1000),
        ("2000-02-29 00:00:00", 951_782_400_000),
        ("1900-02-29 00:00:00", None),
        ("2014-13-01 00:00:00", None),
        ("2014-04-10 24:00:00", None),
        ("2014-04-10 00:60:00", None),
        ("0000-01-01 00:00:00", None),
        ("1", None),
        ("", None),
        ("2014-04-10 00:04:00Zx", None),
        ("٢٠١٤-04-10 00:04:00", None),
    ],
)
def test_timestamps(cell, time_ms):
    assert parse_time(cell) == time_ms


@pytest.mark.parametrize(
    ("cell", "time_ms"),
    [
        ("20140410", START - 240_000),
        ("2014041000", START - 240_000),
        ("201404100004", START),
        ("20140410000400", START),
        ("2014043100", None),
        ("201404310004", None),
        ("20140410123", None),
        ("201404100004000", None),
        ("9999", None),
        ("1.5", None),
        ("-1397088240", -1_397_088_240_000),
        ("2014/04/10 00:04", START),
        ("2014/4/10 0:04", START),
        ("2014-04-10 00:04:00 UTC", START),
        ("2014-04-10 02:04:00 +0200", START),
        ("2014-04-10 02:04:00 CEST", None),
        ("10/04/2014 00:04", None),
    ],
)
def test_a_time_alone_is_a_date_where_it_begins_with_a_year(cell, time_ms):
    assert parse_time(cell) == time_ms


TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))
CELLS = st.one_of(
    TIMES.map(lambda t: t.isoformat(" ", "seconds")),
    TIMES.map(lambda t: t.isoformat("T", "seconds") + "Z"),
    TIMES.map(lambda t: t.isoformat() + "+01:30"),
    st.integers(0, 10**13).map(str),
    st.text("0123456789-: TZ+.x", max_size=24),
)


@given(st.lists(CELLS, max_size=8))
def test_whole_columns_of_times_equal_cell_by_cell(cells):
    times, valid = parse_iso_times(cells)
    expected = [parse_iso(cell) for cell in cells]
    assert [int(t) if ok else None for t, ok in zip(times, valid, strict=True)] == expected


@given(TIMES)
def test_a_written_time_is_read_back(time):
    time_ms = (time - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    if time.year >= 1000:  # strftime does not pad years
        assert parse_time(second(time_ms)) == time_ms


NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
DAYS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1))
ROWS = st.lists(
    st.tuples(
        st.one_of(
            DAYS.map(lambda t: t.isoformat(" ", "seconds")),
            st.integers(10**9, 2 * 10**9).map(str),
            DAYS.map(lambda t: t.strftime("%Y%m%d%H")),
            DAYS.map(lambda t: t.strftime("%y%m%d%H%M")),
            st.just("soon"),
        ),
        st.sampled_from(["a", "b", "NA", "null", "host_1", " c", "ü", ""]),
        st.one_of(
            NUMBERS,
            st.sampled_from(
                ["", " 7", "1e999", "nan", "NA", "0x10", "1_0", "1d3", "+5", ".5", "5.", "1,5"]
            ),
        ),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(
    rows=ROWS,
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    last=st.booleans(),
    block=st.integers(1, 4),
    skip=st.booleans(),
)
def test_reading_in_blocks_equals_row_by_row(tmp_path_factory, rows, ends, last, block, skip):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    text = ends.join(["timestamp,entity,v", *(",".join(row) for row in rows)]) + (
        ends if last else ""
    )
    path.write_bytes(text.encode())
    truth = reference.read_rows(text)
    whole, module.BLOCK_ROWS = module.BLOCK_ROWS, block
    try:
        one = read_series(path, "x", skip_bad=skip)
    except DataError as error:
        one, message = None, str(error)
    finally:
        module.BLOCK_ROWS = whole
    if isinstance(truth, set):
        assert one is None
        assert all(f"--time-format {form}" in message for form in truth)
        return
    good, bad = truth
    if one is None and "no metric column" in message:  # words tell the rows of one time apart
        assert all(value is None for _, _, value in good)
        return
    if one is None:
        assert (bad and not skip) or not good
        assert not bad or f"line {bad[0]}" in message
        return
    assert skip or not bad
    names = [one.entities[e] for e in one.entity]
    values = [None if math.isnan(v) else v for v in one.values[:, 0].tolist()]
    assert list(zip(one.time_ms.tolist(), names, values, strict=True)) == good
    assert one.entities == tuple(dict.fromkeys(name for _, name, _ in good))
    assert one.skipped == len(bad)


def test_lines_are_right_after_a_quoted_line_end_and_in_later_blocks(read, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 2)
    good = "1397088240,a,1\n" * 3
    with pytest.raises(DataError, match="line 7: v is 'x'"):
        read('timestamp,entity,v\n1397088240,"a",1\n1397088240,"a",\n' + good + "1397088240,a,x\n")
    with pytest.raises(DataError, match=r"line 3: the entity 'a.*b' holds control"):
        read('timestamp,entity,v\n1397088240,"a\r\nb",1\n')
    one = read(
        'timestamp,entity,v\n1397088240,"a\nb",1\n' + good + "1397088240,a,x\n1397088240,b,2\n",
        skip_bad=True,
    )
    assert one.skipped == 2
    assert one.entities == ("a", "b")


def test_times_are_utc_whatever_the_machine_says(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    assert parse_time("2014-04-10 00:04:00") == int(
        datetime(2014, 4, 10, 0, 4, tzinfo=UTC).timestamp() * 1000
    )
