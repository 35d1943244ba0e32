"""Chooses the decoder of ``route.format``.

Invariant: the libraries of a format are imported with its decoder; without them a ConfigError names
the extra.
"""

from __future__ import annotations

from typing import get_args

from lapwing.route.label_template import NAME, LabelTemplate
from lapwing.route.rows import RecordRefused, RowDecoder, Sample
from shared.errors import ConfigError
from shared.settings import RouteSettings

DEFAULT_UNITS = {
    "telegraf": "s",
    "influx": "ns",
    "collectd": "s",
    "cloudwatch": "ms",
}
"""Unit of times in a format whose records do not say it."""

DEFAULT_STATISTICS = {"cloudwatch": ("mean", "max")}
OTHER_STATISTICS = ("count", "sum", "p50", "p99")


def open_row_decoder(settings: RouteSettings) -> RowDecoder:
    """Return the decoder; raises ConfigError for a missing library or setting."""
    try:
        return _decoder(settings)
    except ImportError as error:
        raise ConfigError(
            f"lapwing route needs the package {error.name}: install lapwing[route]"
        ) from error


def formats_that_read(settings: RouteSettings, value: bytes) -> list[str]:
    """Return the formats that find a row in a record, with the other settings as they are."""
    found = []
    for name in get_args(RouteSettings.model_fields["format"].annotation):
        try:
            decoder = open_row_decoder(settings.model_copy(update={"format": name}))
            if any(isinstance(row, Sample) for row in decoder.rows(value)):
                found.append(name)
        except (ConfigError, RecordRefused):  # a library or a setting that is missing; not of it
            continue
    return found


def _decoder(settings: RouteSettings) -> RowDecoder:
    name = settings.format
    unit = settings.time_unit or DEFAULT_UNITS.get(name, "")
    statistics = settings.statistics or DEFAULT_STATISTICS.get(name, OTHER_STATISTICS)
    if name == "telegraf":
        from lapwing.route.formats.telegraf_json import TelegrafJson

        return TelegrafJson(unit)
    if name == "influx":
        from lapwing.route.formats.influx_line import InfluxLine

        return InfluxLine(unit)
    if name == "collectd":
        from lapwing.route.formats.collectd_json import CollectdJson

        return CollectdJson(unit)
    if name == "cloudwatch":
        from lapwing.route.formats.cloudwatch_json import CloudWatchJson

        return CloudWatchJson(unit, statistics)
    if name == "connect":
        return _connect(settings)
    if name == "otlp":
        from lapwing.route.formats.otlp.otlp_proto import OtlpProto

        return OtlpProto(statistics)
    if name == "otlp_json":
        from lapwing.route.formats.otlp.otlp_json import OtlpJson

        return OtlpJson(statistics)
    from lapwing.route.formats.remote_write import RemoteWrite

    return RemoteWrite(settings.max_decompressed_bytes)


def _connect(settings: RouteSettings) -> RowDecoder:
    from lapwing.route.formats.connect_json import ConnectJson

    if not settings.time_field:
        raise ConfigError(
            "route.format=connect needs route.time_field (LAPWING_ROUTE__TIME_FIELD): the column"
            " with the event time"
        )
    entity = LabelTemplate(settings.entity, "route.entity")
    metric = LabelTemplate(settings.metric, "route.metric")
    labels = {*entity.labels, *metric.labels} - {NAME}
    return ConnectJson(settings.time_field, settings.time_unit, labels)
