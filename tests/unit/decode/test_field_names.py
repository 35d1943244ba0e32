"""Which names say that a number is a time, and which field a setting means."""

from __future__ import annotations

import pytest

from shared.decode.field_names import find, first_time_name, says_identifier, says_time

MOMENTS = """
timestamp TS eventTime EVENT_TIME created_at createdAt INGESTED_AT ts_ms __ts_ms __source_ts_ms time
TIME time_ms event_ts updatedAtMs epoch epoch_ms unix_time WINDOWSTART ROWTIME window_start_time
start_time date event_date lastSeen timestampUtc TimeStamp eventTimestamp timestamp_us datetime
"""
MEASURES = """
cpu response_time responseTime cpu_time uptime latency_ms duration_ms run_time
time_to_first_byte load1 ts_count status rate wait_time_ms s ms format flat at value hits beat
runtime lifetime_s bytes_sent points latency heat data _ __ 7
"""


@pytest.mark.parametrize("name", MOMENTS.split())
def test_names_of_times(name: str) -> None:
    assert says_time(name)


@pytest.mark.parametrize("name", MEASURES.split())
def test_names_of_metrics(name: str) -> None:
    assert not says_time(name)


def test_names_of_identifiers() -> None:
    assert all(map(says_identifier, ("id", "ID", "device_id", "deviceId", "rowGuid", "pk")))
    assert not any(map(says_identifier, ("idle", "paid", "void", "cpu", "grid", "_")))


def test_the_very_same_name_wins_over_one_in_another_case() -> None:
    names = ["HOST", "host", "Cpu"]
    assert find("host", names) == ("host",)
    assert find("Host", names) == ("HOST", "host")
    assert (find("cpu", names), find("disk", names)) == (("Cpu",), ())


def test_the_first_time_name() -> None:
    assert first_time_name(["TS", "time", "x"]) == ("time",)
    assert first_time_name(["TS", "Time"]) == ("Time",)
    assert first_time_name(["Ts", "TS"]) == ("Ts", "TS")
    assert first_time_name(["x", "created_at"]) == ()
