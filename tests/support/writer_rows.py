"""Records of ``tests/writer_rows`` and ``tests/writer_json``, and the settings that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
ROWS, CONNECT = TESTS / "writer_rows", TESTS / "writer_json"

SETTINGS: dict[str, dict[str, Any]] = {
    "telegraf": {"format": "telegraf", "entity": "{host}[/{cpu}]"},
    "influx": {"format": "influx", "entity": "{host}[/{cpu}]"},
    "collectd": {"format": "collectd", "entity": "{host}[/{plugin_instance}]"},
    "cloudwatch": {
        "format": "cloudwatch",
        "entity": "{namespace}/{InstanceId}",
        "statistics": ["mean", "max", "count", "p99"],
    },
    "connect": {"format": "connect", "time_field": "measured", "time_unit": "ms"},
    "otlp": {"format": "otlp", "entity": "{host.name}[/{cpu}]"},
    "otlp_json": {"format": "otlp_json", "entity": "{host.name}[/{cpu}]"},
    "remote_write": {"format": "remote_write", "entity": "{instance}"},
}
"""Value of route.format -> settings."""

FILES: dict[str, tuple[str, ...]] = {
    "telegraf": ("telegraf_single.json", "telegraf_batch.json"),
    "influx": ("telegraf_influx.txt",),
    "collectd": ("collectd_load.json", "collectd_df.json", "collectd_cpu.json"),
    "cloudwatch": ("cloudwatch.json",),
    "connect": ("connect_json.json", "connect_json_schemas.json"),
    "otlp": ("otlp.bin", "otlp_collector.bin"),
    "otlp_json": ("otlp.json", "otlp_collector.json"),
    "remote_write": (
        "remote_write_v1.bin",
        "remote_write_v2.bin",
        "remote_write_prometheus.bin",
    ),
}


def record(name: str) -> bytes:
    """Return a file as one record."""
    path = (CONNECT if name.startswith("connect") else ROWS) / name
    return path.read_bytes()


def records_of(format_: str) -> list[bytes]:
    """Return the records of a format."""
    return [record(name) for name in FILES[format_]]
