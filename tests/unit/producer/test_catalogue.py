"""Which files make up a host, and what their metrics are called."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from producer.catalogue import Catalogue, assemble, find_files, load_catalogue, read_folder
from producer.files.series import Series
from shared.errors import ConfigError, DataError

NAB = os.environ.get("LAPWING_NAB_DIR")
needs_nab = pytest.mark.skipif(
    not NAB, reason="LAPWING_NAB_DIR does not name a folder with the NAB series"
)


def series(source, values, start=0, step=300_000, metrics=("value",), times=None):
    time_ms = np.array(
        times if times is not None else [start + i * step for i in range(len(values))], np.int64
    )
    block = np.array(values, float).reshape(len(values), -1)
    return Series(source, ("",), metrics, np.zeros(len(values), np.int32), time_ms, block)


def catalogue(**parts):
    return Catalogue.model_validate(parts)


def joining(join, optional=False, **metrics):
    return catalogue(host=[{"name": "web", "join": join, "metrics": metrics, "optional": optional}])


def test_the_shipped_catalogue_knows_the_default_host_and_the_names_of_cloudwatch():
    shipped = load_catalogue()
    assert shipped.host[0].metrics == {
        "network_in": "ec2_network_in_257a54",
        "disk_write": "ec2_disk_write_bytes_c0d644",
        "cpu": "ec2_cpu_utilization_c6585a",
    }
    assert "different machines" in shipped.host[0].note
    names = [
        "ec2_cpu_utilization_1",
        "rds_cpu_utilization_2",
        "iio_x_NetworkIn",
        "ec2_network_in_3",
        "elb_request_count_4",
    ]
    names += ["ec2_disk_write_bytes_5", "grok_asg_anomaly", "temperature"]
    hosts, notes = assemble([series(name, [1.0]) for name in names], shipped)
    assert [host.metrics[0] for host in hosts] == [
        "cpu", "cpu", "network_in", "network_in", "request_count", "disk_write", "group_metric",
        "value",
    ]  # fmt: skip
    assert [host.entities for host in hosts] == [(name,) for name in names]
    assert notes == []


def test_join_by_position_pads_the_shorter_and_takes_the_time_of_the_longest():
    files = [
        series("a", [1, 2]),
        series("b", [5, 6, 7], start=60_000),
        series("c", [9, 9, 9], start=90_000),
    ]
    (host,), notes = assemble(files, joining("position", cpu="a", mem="b", net="c"))
    assert host.entities == ("web",)
    assert host.metrics == ("cpu", "mem", "net")
    assert host.time_ms.tolist() == [60_000, 360_000, 660_000]
    np.testing.assert_array_equal(host.values, [[1, 5, 9], [2, 6, 9], [np.nan, 7, 9]])
    assert "joins cpu = a, mem = b, net = c by position" in notes[0]


def test_join_by_time_puts_equal_times_into_one_row():
    files = [
        series("a", [1, 2, 3, 4], times=[10, 20, 20, 5]),
        series("b", [7, 8, 9], times=[20, 30, 10]),
    ]
    (host,), _ = assemble(files, joining("time", x="a", y="b"))
    assert host.time_ms.tolist() == [5, 10, 20, 20, 30]
    np.testing.assert_array_equal(
        host.values, [[4, np.nan], [1, 9], [2, 7], [3, np.nan], [np.nan, 8]]
    )


def test_files_that_are_not_joined_stay_hosts_of_their_own():
    hosts, _ = assemble(
        [series("b", [1]), series("x/rest", [2]), series("a", [3])],
        joining("position", cpu="a", mem="b"),
    )
    assert [host.entities for host in hosts] == [("web",), ("x/rest",)]


def test_a_wide_file_keeps_its_metrics_and_entities():
    wide = Series(
        "w",
        ("p", "q"),
        ("value", "y"),
        np.array([0, 1], np.int32),
        np.array([1, 2]),
        np.ones((2, 2)),
    )
    (host,), _ = assemble([wide], load_catalogue())
    assert host.entities == ("p", "q")
    assert host.metrics == ("value", "y")


def test_a_host_that_lacks_a_file():
    with pytest.raises(DataError, match=r"host web needs b\.csv, which does not exist"):
        assemble([series("a", [1])], joining("position", cpu="a", mem="b"))
    hosts, notes = assemble(
        [series("a", [1])], joining("position", optional=True, cpu="a", mem="b")
    )
    assert hosts[0].entities == ("a",)
    assert notes == ["host web is skipped, because b.csv does not exist"]
    assert (
        assemble([series("c", [1])], joining("position", optional=True, cpu="a", mem="b"))[1] == []
    )


def test_only_files_of_one_metric_can_be_joined():
    with pytest.raises(DataError, match=r"cannot join a\.csv"):
        assemble([series("a", [[1, 2]], metrics=("x", "y"))], joining("time", cpu="a"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[[host]]\nname = 'x'\njoin = 'by'\nmetrics = {cpu = 'a'}",
            "host.0.join: Input should be 'position' or 'time'",
        ),
        ("[[metric]]\nname = '5xx'\nfiles = ['*']", "metric.0.name: '5xx' is not a metric name"),
        ("[columns]\nwhat = 1", "columns.what: Extra inputs are not permitted"),
        ("[columns.rename]\na = 'b c'", "columns.rename: 'b c' is not a metric name"),
        ("folders = ", "Invalid value"),
    ],
)
def test_a_wrong_catalogue_is_named(tmp_path, text, says):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_catalogue(path)
    assert "own.toml" in str(raised.value)
    assert says in str(raised.value)


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_catalogue(tmp_path / "none.toml")


def folder(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("timestamp,value\n2014-04-10 00:04:00,1\n")
    return tmp_path


def test_a_nab_checkout_is_cut_down_to_its_cloudwatch_category(tmp_path):
    root = folder(
        tmp_path, "data/realAWSCloudwatch/a.csv", "data/artificialNoAnomaly/b.csv", "results/c.csv"
    )
    assert list(find_files(root, ("realAWSCloudwatch",))) == ["a"]
    assert list(find_files(root / "data", ("realAWSCloudwatch",))) == ["a"]
    assert list(find_files(root / "data" / "realAWSCloudwatch", ("realAWSCloudwatch",))) == ["a"]
    assert list(find_files(root / "data" / "artificialNoAnomaly", ("realAWSCloudwatch",))) == ["b"]


def test_any_folder_is_taken_whole_in_sorted_order_and_a_file_alone(tmp_path):
    root = folder(tmp_path, "z.csv", "a/B.CSV", "a/c.csv")
    (root / "notes.txt").write_text("no series")
    assert list(find_files(root)) == ["a/B", "a/c", "z"]
    assert find_files(root / "z.csv") == {"z": root / "z.csv"}


def test_a_folder_without_series_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no \.csv file in it"):
        find_files(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        find_files(tmp_path / "none")


def test_where_nab_would_be_the_command_that_downloads_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="`lapwing data fetch` downloads NAB"):
        find_files(Path("data/nab"))


def test_read_folder_skips_per_file(tmp_path):
    folder(tmp_path, "a.csv", "b.csv")
    (tmp_path / "b.csv").write_text("timestamp,value\nsoon,1\n2014-04-10 00:04:00,1\n")
    with pytest.raises(DataError, match=r"b\.csv, line 2"):
        read_folder(tmp_path, load_catalogue())
    hosts, _ = read_folder(tmp_path, load_catalogue(), skip_bad=True)
    assert [host.skipped for host in hosts] == [0, 1]


@needs_nab
def test_nab_becomes_fifteen_hosts():
    hosts, notes = read_folder(Path(NAB), load_catalogue())
    assert len(hosts) == 15
    assert sum(map(len, hosts)) == 67_740 - 2 * 4032
    assert hosts[0].entities == ("joined-host",)
    assert hosts[0].values[0].tolist() == [251643.0, 0.0, 0.066]
    assert "different machines" in notes[0]
    assert {metric for host in hosts for metric in host.metrics} == {
        "cpu", "network_in", "disk_write", "request_count", "group_metric",
    }  # fmt: skip
