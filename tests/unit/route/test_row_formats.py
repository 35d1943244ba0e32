"""What each format's rows become, from records that the released software wrote."""

from __future__ import annotations

import json
import struct

import cramjam
import pytest

from lapwing.route.formats.choice import open_row_decoder
from shared.errors import ConfigError
from shared.settings import RouteSettings, Settings
from tests.support.routing import routed
from tests.support.writer_rows import SETTINGS, record

T_MS = 1_700_000_000_123


def events_of(name: str, format_: str, long: bool = False, **more: object) -> list[tuple]:
    """Return (entity, time, metrics) of a record without refusals."""
    events, refusals, _ = routed(record(name), long, **(SETTINGS[format_] | more))
    assert refusals == []
    return [(event.pop("host"), event.pop("timestamp"), event) for event in events]


TELEGRAF = [
    ("web-1/cpu0", {"cpu_usage_idle": 91.5, "cpu_usage_system": 1.5, "cpu_usage_user": 3.25}),
    ("web-1", {"disk_free": -1.0, "disk_used": 123456789012.0}),
    ("web-2", {"net_x_bytes_recv": 1024.0}),
]


@pytest.mark.parametrize(
    ("name", "format_"), [("telegraf_batch.json", "telegraf"), ("telegraf_influx.txt", "influx")]
)
def test_telegraf_writes_the_same_as_json_and_as_lines(name, format_):
    found = events_of(name, format_)
    assert [(entity, metrics) for entity, _, metrics in found] == TELEGRAF
    seconds = [time_ms // 1000 for _, time_ms, _ in found]
    assert seconds == [1_700_000_000, 1_700_000_000, 1_700_000_001]
    assert (found[0][1] == T_MS) == (format_ == "influx")  # its JSON has whole seconds


def test_telegraf_single_and_with_a_time_as_text():
    [(entity, time_ms, metrics)] = events_of("telegraf_single.json", "telegraf")
    assert (entity, metrics, time_ms) == (*TELEGRAF[0], 1_700_000_000_000)
    [(_, time_ms, _)] = events_of("telegraf_rfc3339.json", "telegraf", time_unit="iso")
    assert time_ms == T_MS


def test_collectd():
    [(entity, time_ms, metrics)] = events_of("collectd_load.json", "collectd")
    assert (entity, time_ms) == ("web-1", 1_795_831_607_671)
    assert list(metrics) == ["load_longterm", "load_midterm", "load_shortterm"]
    [(entity, _, metrics)] = events_of("collectd_cpu.json", "collectd")
    assert (entity, metrics) == ("web-1/0", {"cpu_idle": 1518089.0})
    [(entity, _, metrics)] = events_of("collectd_df.json", "collectd")
    assert (entity, metrics) == ("web-1/root", {"df_df_complex_free": 45752459264.0})


def test_collectd_writes_null_for_a_missing_value():
    [item] = json.loads(record("collectd_load.json"))
    item["values"][1] = None
    [event], _, _ = routed(json.dumps([item]).encode(), **SETTINGS["collectd"])
    assert event["load_midterm"] is None


def test_cloudwatch_statistics():
    found = events_of("cloudwatch.json", "cloudwatch")
    assert found == [
        (
            "AWS/EC2/i-0abc",
            1_700_000_040_000,
            {
                "CPUUtilization_count": 4.0,
                "CPUUtilization_max": 8.0,
                "CPUUtilization_mean": 5.0,
                "CPUUtilization_p99": 7.9,
            },
        ),
        (
            "AWS/EC2/i-0abc",
            1_700_000_040_000,
            {
                "NetworkIn_count": 0.0,
                "NetworkIn_max": 0.0,
                "NetworkIn_mean": None,
                "NetworkIn_p99": None,
            },
        ),
    ]


def test_connect_without_schema():
    [(entity, time_ms, metrics)] = events_of("connect_json.json", "connect")
    assert (entity, time_ms) == ("web-1", 1_400_000_000_250)
    expected = {"cpu": 0.5, "load_five": 0.5, "load_one": 0.75, "memory": None}
    assert metrics == expected | {"processes": 212.0, "since": 16000.0}


def test_connect_with_schema_says_unit_and_leaves_dates_out():
    [(entity, time_ms, metrics)] = events_of("connect_json_schemas.json", "connect", time_unit="")
    assert (entity, time_ms) == ("web-1", 1_400_000_000_250)
    assert sorted(metrics) == ["cpu", "load_five", "load_one", "memory", "processes"]


def test_connect_columns_of_a_template_are_labels():
    value = b'[{"id":17,"zone":"eu","v":1.5,"at":1700000000},null,3]'
    settings = {"format": "connect", "time_field": "at", "time_unit": "s", "entity": "{zone}/{id}"}
    events, refusals, counts = routed(value, **settings)
    assert events == [{"host": "eu/17", "timestamp": 1_700_000_000_000, "v": 1.5}]
    assert [(row, code) for row, code, _ in refusals] == [(2, "row_unfit")]
    assert counts.left_out == 1


def test_connect_needs_to_know_the_time():
    with pytest.raises(ConfigError, match=r"route\.time_field"):
        open_row_decoder(RouteSettings(format="connect"))
    _, refusals, _ = routed(b'{"host":"a","at":1,"v":1}', format="connect", time_field="at")
    assert refusals[0][1] == "time_invalid"
    assert "set route.time_unit" in refusals[0][2]


OTLP = [
    ("web-1/cpu0", {"system_cpu_utilization": 0.25}),
    ("web-1/cpu1", {"system_cpu_utilization": 1.25}),
    ("web-1/cpu0", {"requests_Cumulative": 9007199254740992.0}),
    ("web-1/cpu0", {"requests_Delta": 9007199254740992.0}),
    (
        "web-1",
        {"latency_count": 10.0, "latency_p50": 4.0, "latency_p99": 28.0, "latency_sum": 42.5},
    ),
    ("web-1", {"size_count": 7.0, "size_p50": 2.25, "size_p99": 3.965, "size_sum": 20.0}),
    ("web-1", {"gc_count": 3.0, "gc_p50": 0.2, "gc_p99": None, "gc_sum": 0.75}),
]


@pytest.mark.parametrize(("name", "format_"), [("otlp.bin", "otlp"), ("otlp.json", "otlp_json")])
def test_otlp(name, format_):
    found = events_of(name, format_)
    assert {time_ms for _, time_ms, _ in found} == {T_MS}
    for (entity, _, metrics), (wanted, expected) in zip(found, OTLP, strict=True):
        assert entity == wanted
        assert metrics == pytest.approx(expected)


def test_otlp_is_the_same_as_protobuf_and_as_json():
    for long in (False, True):
        assert events_of("otlp.bin", "otlp", long) == events_of("otlp.json", "otlp_json", long)


@pytest.mark.parametrize(
    ("name", "format_"), [("otlp_collector.bin", "otlp"), ("otlp_collector.json", "otlp_json")]
)
def test_a_collector_that_reads_its_host(name, format_):
    found = events_of(name, format_, long=True, metric="{__name__}[.{state}]")
    assert {entity for entity, _, _ in found} == {"web-1"}
    metrics = {event["metric"]: event["value"] for _, _, event in found}
    assert len(metrics) == len(found) == 18
    assert metrics["system.cpu.logical.count"] == 2
    assert sorted(name for name in metrics if name.startswith("system.cpu.load")) == [
        f"system.cpu.load_average.{span}" for span in ("15m", "1m", "5m")
    ]
    assert [name for name in metrics if name.startswith("system.cpu.time")] == [
        f"system.cpu.time.{state}"
        for state in ("user", "system", "idle", "interrupt", "nice", "softirq", "steal", "wait")
    ]


def test_otlp_attributes_of_points_may_name_metrics():
    found = events_of("otlp.bin", "otlp", True, entity="{host.name}", metric="{__name__}[.{cpu}]")
    assert [metrics["metric"] for _, _, metrics in found][:3] == [
        "system.cpu.utilization.cpu0",
        "system.cpu.utilization.cpu1",
        "requests.Cumulative.cpu0",
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_remote_write(version):
    name = f"remote_write_v{version}.bin"
    events, refusals, counts = routed(record(name), True, **SETTINGS["remote_write"])
    assert events == [
        {"host": "web-1:9100", "metric": metric, "timestamp": T_MS, "value": value}
        for metric, value in (("node_load1", 0.5), ("http_requests_total", 1027.0))
    ]
    assert (refusals, counts.rows, counts.left_out) == ([], 3, 1)  # the stale marker


def test_remote_write_of_a_server():
    more = {"metric": "{__name__}[.{quantile}][.{handler}][.{code}]"}
    events, refusals, counts = routed(
        record("remote_write_prometheus.bin"), True, **(SETTINGS["remote_write"] | more)
    )
    assert (refusals, counts.rows, counts.left_out) == ([], 15, 0)
    assert {(event["host"], event["timestamp"]) for event in events} == {
        ("web-1:9090", 1_795_869_984_235)
    }
    found = {event["metric"]: event["value"] for event in events}
    assert len(found) == 15
    assert found["go_goroutines"] == 35.0
    assert found["go_gc_duration_seconds.0.75"] == 0.000881931
    assert found["prometheus_http_requests_total./metrics.200"] == 1.0


def test_remote_write_that_is_not_read_is_refused_by_name():
    large = b"\xff\xff\xff\x7f" + b"x" * 10
    for value, code, words in (
        (large, "too_large", "route.max_decompressed_bytes is 16777216"),
        (b"\x05hello", "malformed", "it is not a block of snappy"),
        (b"\xff\xff\xff\xff\xff\xff", "malformed", "does not begin with the length"),
        (compressed(b"\x0a\xff"), "malformed", "not a write request in protobuf"),
    ):
        events, refusals, _ = routed(value, **SETTINGS["remote_write"])
        assert events == []
        assert refusals[0][:2] == (-1, code)
        assert words in refusals[0][2]


def test_remote_write_series_that_cannot_be_read_leave_the_others():
    label = b"\x0a\x08__name__\x12\x01m"
    sample = b"\x09" + struct.pack("<d", 1.0) + b"\x10" + varint(T_MS)
    no_labels = field(1, field(2, sample))
    native = field(1, field(1, label) + field(4, b""))
    good = field(1, field(1, label) + field(2, sample))
    events, refusals, _ = routed(
        compressed(no_labels + native + good), format="remote_write", entity="{__name__}"
    )
    assert [event["host"] for event in events] == ["m"]
    assert [(row, code) for row, code, _ in refusals] == [(0, "row_unfit"), (1, "not_supported")]
    assert "m is a native histogram" in refusals[1][2]


def compressed(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


LINES = rb"""# a comment

cpu,host=a\ b,zone=eu=x idle=1.5,user=2i,n=3u,up=true,text="x \" y, z=1" 1700000000123456789
m\,x,host=b a\=b=-1e3 1700000000123456789
cpu,host=a idle=1.5
cpu,host=a idle=abc 1700000000123456789
cpu,host=a idle=1 17 18
cpu,host= idle=1 1
cpu host=1
mem,host=c used=1 1700000000123456789"""


def test_influx_lines():
    events, refusals, counts = routed(
        LINES.replace(b"zone=eu=x", b"zone=eu"), True, format="influx"
    )
    assert [(event["host"], event["metric"], event["value"]) for event in events] == [
        ("a b", "cpu_idle", 1.5),
        ("a b", "cpu_user", 2.0),
        ("a b", "cpu_n", 3.0),
        ("b", "m,x_a=b", -1000.0),
        ("c", "mem_used", 1.0),
    ]
    assert {event["timestamp"] for event in events} == {T_MS}
    assert [(row, code) for row, code, _ in refusals] == [
        (4, "time_invalid"),
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "time_invalid"),
    ]
    assert counts.left_out == 2
    assert refusals[1][2].startswith("column 17 (offset ")
    assert "is 'a'; it must be a number, text in quotes, true or false" in refusals[1][2]


def test_an_influx_line_that_is_not_utf8_refuses_the_record():
    _, refusals, _ = routed(b"cpu,host=\xff v=1 1", format="influx")
    assert refusals == [(-1, "malformed", "byte 9 is not UTF-8")]


@pytest.mark.parametrize("tail", [b'v="' * 20_000, b"v=" + b"1" * 500_000, b"\\" * 300_000])
def test_hostile_lines_take_no_longer_than_their_length(tail):
    _, refusals, _ = routed(b"cpu,host=a " + tail, format="influx")
    assert refusals


@pytest.mark.parametrize("name", ["p101", "p5.12345", "median", "p"])
def test_an_unknown_statistic_is_refused(name):
    with pytest.raises(ValueError, match="is no statistic"):
        Settings.model_validate({"route": {"statistics": [name]}})
