"""Columns of files besides identifiers: further times, options, separators, decimal signs."""

from __future__ import annotations

from datetime import UTC, timedelta

import numpy as np
import pytest

from producer.files.columns import ColumnChoice, ColumnRules
from shared.errors import ConfigError
from shared.wording import second
from tests.support.csv_files import START, STEP, Reader, clock, rows_of, value


@pytest.fixture
def read(tmp_path):
    return Reader(tmp_path).read


@pytest.fixture
def refused(tmp_path):
    return Reader(tmp_path).refused


# -- further times ---------------------------------------------------------------------------------


EPOCHS = [1, 10**3, 10**6, 10**9]
WRITTEN = [
    (name, unit)
    for name in ("ingested_at", "received", "load_ts", "eventTime", "x")
    for unit in [*EPOCHS, "iso"]
]
WRITTEN += [("ingested_at", "digits"), ("load_date", "digits")]


@pytest.mark.parametrize(("name", "unit"), WRITTEN)
def test_a_second_column_of_times_is_left_out(read, name, unit):
    def written(row):
        late = timedelta(hours=6) if 100 < row < 130 else timedelta(seconds=row % 17)  # a backfill
        time = START + STEP * row + late
        if unit == "iso":
            return time.isoformat()
        return (
            f"{time:%Y%m%d%H%M%S}"
            if unit == "digits"
            else int(time.replace(tzinfo=UTC).timestamp() * unit)
        )

    one = read(f"timestamp,{name},cpu", rows_of(clock(300), written, value))
    assert one.metrics == ("cpu",)
    assert one.values.shape == (300, 1)
    assert one.columns.left_out[0].column == name
    assert "a second column of times" in one.columns.notes[0]


def test_a_constant_time_of_creation_is_left_out_and_zeros_stand_for_none(read):
    one = read(
        "timestamp,created_at,cpu",
        rows_of(clock(50), lambda row: 0 if row % 9 == 0 else 1_700_000_000, value),
    )
    assert one.metrics == ("cpu",)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("response_time", lambda row: 100 + row % 17),
        ("uptime", lambda row: 300 * row),
        ("memory", lambda row: 1_709_500_000 + row * row * 7919 % 9_000_000),
        ("bytes_total", lambda row: 1_600_000_000 + 40_000 * row),
        ("date_total", lambda row: row % 5),
    ],
)
def test_numbers_that_are_no_times_stay_metrics(read, name, make):
    assert read(f"timestamp,{name},cpu", rows_of(clock(300), make, value)).metrics == (name, "cpu")


def test_a_file_of_times_alone_has_no_metric(refused):
    refused(
        "timestamp,ingested_at", rows_of(clock(9), lambda row: 1_709_500_000_000 + row),
        "no metric column beside timestamp, ingested_at; column ingested_at is left out: a second"
        " column of times",
    )  # fmt: skip


# -- options ---------------------------------------------------------------------------------------


def test_options_name_columns(read, refused):
    rows = [
        f"{t},{t + timedelta(hours=1)},{key},{value(row)}"
        for row, t in enumerate(clock(20))
        for key in "ab"
    ]
    header = "timestamp,When,Key,temp"
    one = read(header, rows, entity=("key",), time=("when",))
    assert (one.columns.time, one.columns.entity) == (("When",), ("Key",))
    assert second(int(one.time_ms[0])) == "2024-03-04 01:00:00"
    assert one.metrics == ("temp",)
    refused(
        header,
        rows,
        "--entity nope: there is no such column; it has timestamp, When, Key, temp",
        entity=("nope",),
    )
    refused(
        header,
        rows,
        "--time nope: there is no such column; it has timestamp, When, Key, temp",
        time=("nope",),
    )
    refused(
        header, rows, "column 'Key' cannot be both time and entity", entity=("Key",), time=("Key",)
    )


def test_options_are_checked():
    parsed = ColumnChoice.parse("a, b", "date,time", "s", "comma")
    assert parsed == ColumnChoice(("a", "b"), ("date", "time"), "s", ",")
    words = parsed.arguments()
    assert words == [
        "--entity",
        "a,b",
        "--time",
        "date,time",
        "--time-format",
        "s",
        "--decimal",
        "comma",
    ]
    assert ColumnChoice.parse("", None, None, None).arguments() == ["--entity", ""]
    assert ColumnChoice.parse(None, None, None, None).arguments() == []
    with pytest.raises(
        ConfigError, match="--entity describes columns of files, so it needs --data"
    ):
        ColumnChoice(entity=("a",)).check(files=False)
    with pytest.raises(ConfigError, match="--time: name one column"):
        ColumnChoice.parse(None, " , ", None, None).check(files=True)
    with pytest.raises(ConfigError, match="--decimal dot: point or comma"):
        ColumnChoice.parse(None, None, None, "dot")


def test_the_form_that_was_asked_for_is_taken(read, refused):
    rows = rows_of(["03/04/2024 00:00", "04/04/2024 00:00"], 1)
    refused(
        "timestamp,value",
        rows,
        "line 2: ",
        "--time-format DD/MM/YYYY or --time-format MM/DD/YYYY decides",
    )
    assert (
        second(int(read("timestamp,value", rows, time_format="dd/mm/yyyy").time_ms[0]))
        == "2024-04-03 00:00:00"
    )
    assert (
        second(int(read("timestamp,value", rows, time_format="MM/DD/YYYY").time_ms[0]))
        == "2024-03-04 00:00:00"
    )


# -- separators, decimal signs, headers ------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(read, separator):
    rows = [line.replace(",", separator) for line in rows_of(clock(3), "web-1", 1.5, "")]
    one = read(separator.join(["timestamp", "host", "CPU (%)", "mem [MiB]"]), rows)
    assert one.metrics == ("CPU", "mem_MiB")
    assert one.entities == ("web-1",)
    np.testing.assert_array_equal(one.values[0], [1.5, np.nan])


def test_excel_says_its_separator_and_empty_rows_and_columns_are_nothing(read):
    one = read(
        "sep=;\ntimestamp;value;",
        [f"{line.replace(',', ';')};" for line in rows_of(clock(3), 2)] + [";;", "; ;"],
    )
    assert one.values.tolist() == [[2], [2], [2]]
    assert one.skipped == 0


def test_decimal_commas(read, refused):
    head = "timestamp;a;b"
    assert read(head, ["2024-03-04 00:00;1,5;7", "2024-03-04 00:05;-0,25;1e3"]).values.tolist() == [
        [1.5, 7],
        [-0.25, 1000],
    ]
    assert read("timestamp,a", ['2024-03-04,"0,5"']).values.tolist() == [[0.5]]
    doubtful = ["2024-03-04 00:00;1,500;7", "2024-03-04 00:05;22,250;8"]
    refused(
        head,
        doubtful,
        "line 2: '1,500' can be 1.500 with a decimal comma, or 1500",
        "--decimal comma",
    )
    assert read(head, doubtful, decimal=",").values[:, 0].tolist() == [1.5, 22.25]
    refused(head, doubtful, "line 2: a is '1,500': thousands separators are not read", decimal=".")
    refused(head, ["2024-03-04 00:00;1,5;7.5"], "line 2: a is '1,5', which is not a number")
    refused(
        head,
        ["2024-03-04 00:00;1.234,5;7,5"],
        "line 2: a is '1.234,5': thousands separators are not read",
    )
    refused(
        head,
        ["2024-03-04 00:00;1,234,567;7,5"],
        "line 2: a is '1,234,567': thousands separators are not read",
    )
    refused(
        head,
        ["2024-03-04 00:00;7,5;8", "2024-03-04 00:05;7,5;x"],
        "line 3: b is 'x', which is not a number with a decimal comma",
    )
    refused(
        "timestamp,a",
        ['2024-03-04,"1,234.5"'],
        "line 2: a is '1,234.5': thousands separators are not read",
    )


def test_headers_that_need_more(read, refused):
    assert read("# made by a logger\n# timestamp, value", rows_of(clock(3), 1)).metrics == (
        "value",
    )
    assert read("Time (UTC),value", rows_of(clock(3), 1)).columns.time == ("Time (UTC)",)
    assert read(
        ",timestamp,value", [f"{row},{time},1" for row, time in enumerate(clock(3))]
    ).metrics == ("value",)
    assert read(
        "Unnamed: 0,timestamp,value", [f"{row},{time},1" for row, time in enumerate(clock(3))]
    ).metrics == ("value",)
    refused(
        ",timestamp,value",
        [f"{row * row},{time},1" for row, time in enumerate(clock(4))],
        "column 1 has no name",
    )
    refused(
        "2024-03-04 00:00:00,5",
        ["2024-03-04 00:05:00,6"],
        "line 1: ",
        "there seems to be no header",
    )
    refused(
        "when,value", ["20240304,6"], "found when, value; --time when names the column of times"
    )
    refused("Tag,Uhr,value", ["04.03.2024,00:05,6"], "--time Tag,Uhr names the column of times")
    refused(
        "Full label,x\nLabel,y\nTime,cpu",
        rows_of(clock(3), 1),
        "line 3 looks like the header, so remove the lines above it",
    )


def test_dates_and_times_of_day_in_two_columns(read, refused):
    rows = [f"{time:%Y-%m-%d,%H:%M},1" for time in clock(600)]
    one = read("Date,Time,value", rows, time=("Date", "Time"))
    assert one.time_ms.tolist() == [
        int(time.replace(tzinfo=UTC).timestamp() * 1000) for time in clock(600)
    ]
    refused(
        "Date,Time,value",
        rows,
        "line 2: '00:00' is a time of day without a date; --time DATE,TIME joins two columns",
    )
    refused(
        "date,clock,value",
        rows,
        "column clock holds times of day; --time date,clock joins them to the dates",
    )
    refused(
        "date,hour,value,other",
        [f"{time:%Y-%m-%d,%-H},1,2" for time in clock(600, timedelta(hours=1))],
        "column hour separates rows of equal times, so it seems to be a part of the time",
    )  # fmt: skip


# -- one row per metric, and other tools' files ----------------------------------------------------


@pytest.mark.parametrize("name", ["metric", "name", "__name__", "variable", "parameter", "field"])
def test_one_row_per_metric_is_refused_with_what_is_possible(read, refused, name):
    rows = [
        f"{t},{host},{metric},{value(row)}"
        for row, t in enumerate(clock(40))
        for host in "ab"
        for metric in ("cpu", "mem")
    ]
    header = f"timestamp,host,{name},value"
    refused(
        header,
        rows,
        f"column {name} names the metric of each row",
        "('cpu', 'mem')",
        f"--entity host,{name}",
    )
    assert read(header, rows, entity=("host", name)).entities == (
        "a/cpu",
        "a/mem",
        "b/cpu",
        "b/mem",
    )
    one = read(header, [row for row in rows if "cpu" in row])
    assert one.entities == ("a", "b")


def test_what_influxdb_exports(read, refused):
    annotated = (
        "#group,false,false\n#datatype,string,long\n#default,_result,\n"
        ",result,table,_time,_value,_field,host"
    )
    refused(
        annotated,
        [",,0,2024-03-04T00:00:00Z,1.5,usage,a"],
        "line 1: this is InfluxDB's CSV",
        "pivot(rowKey",
    )
    refused(
        ",result,table,_time,_value,_field,host",
        [",,0,2024-03-04T00:00:00Z,1.5,usage,a"],
        "one row per field",
    )
    rows = [
        f",_result,{place},2024-03-04T00:00:00Z,{time.isoformat()}Z,cpu,{host},1,2"
        for place, host in enumerate("ab")
        for time in clock(20)
    ]
    one = read(",result,table,_start,_time,_measurement,host,usage,idle", rows)
    assert (one.entities, one.metrics) == (("a", "b"), ("usage", "idle"))
    assert {left.column for left in one.columns.left_out} == {
        "",
        "result",
        "table",
        "_start",
        "_measurement",
    }


def test_what_grafana_exports(read, refused):
    header = '"Time","{__name__=""up"", instance=""a""}","cpu b"'
    one = read(header, [f"{1_709_510_400_000 + 15_000 * row},1,{value(row)}" for row in range(20)])
    assert one.metrics == ("name___up_instance_a", "cpu_b")
    assert second(int(one.time_ms[0])) == "2024-03-04 00:00:00"
    rows = [
        f"{name};{time.isoformat()}Z;{value(row)}"
        for name in ("cpu a", "cpu b")
        for row, time in enumerate(clock(20))
    ]
    assert read('"Series";"Time";"Value"', rows).entities == ("cpu a", "cpu b")
    refused(
        '"Time","cpu"',
        ["2024-03-04 00:00:00,50.3 %"],
        "line 2: cpu is '50.3 %', which is not a number",
    )


def test_what_cloudwatch_and_prometheus_export(read):
    one = read(
        "Timestamp,Average,Unit",
        [f"{time.isoformat()}Z,{value(row)},Percent" for row, time in enumerate(clock(20))],
    )
    assert one.metrics == ("Average",)
    rows = [
        f"up,{host}:9100,node,{1_709_510_400 + 15 * row},1" for row in range(40) for host in "ab"
    ]
    assert read("name,instance,job,timestamp,value", rows).entities == ("a:9100", "b:9100")


def test_what_was_read_how_is_a_value(read):
    rows = [
        f"{t:%Y%m%d%H%M},{key},{1_709_500_000 + row},{value(row)}"
        for row, t in enumerate(clock(60))
        for key in (1, 2)
    ]
    columns = read("time,node,seen_at,CPU %", rows, ColumnRules(ignore=("other",))).columns
    assert columns.time == ("time",)
    assert columns.time_form == "YYYYMMDDHHMM"
    assert columns.entity == ("node",)
    assert columns.metrics == (("CPU %", "CPU"),)
    assert [left.column for left in columns.left_out] == ["seen_at"]
    ignored = read("time,node,seen_at,CPU %", rows, ColumnRules(ignore=("seen_at",))).columns
    assert ignored.left_out[0].reason == "the catalogue leaves it out"
