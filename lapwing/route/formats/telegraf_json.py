"""Telegraf's JSON: one metric, or a batch of them (``use_batch_format``).

Invariant: a metric is a row; its tags are the labels, its fields the metrics. Text and booleans are
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lapwing.route.formats.event_time import time_reader, time_refusal
from lapwing.route.formats.json_text import parse_json
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample
from shared.decode.json.document import kind_of


class TelegrafJson:
    """A ``RowDecoder`` of Telegraf's ``data_format = "json"``.

    unit : ``json_timestamp_units``; iso for an RFC 3339 ``json_timestamp_format``
    """

    format = "telegraf"

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._time = time_reader(unit)

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"metrics[{row}]"

    def rows(self, value: bytes) -> Iterable[Row]:
        """See RowDecoder."""
        document = parse_json(value)
        if type(document) is dict:
            if "metrics" not in document:
                return self._rows([document])
            document = document["metrics"]
        if type(document) is not list:
            raise RecordRefused(
                Refused.MALFORMED,
                f"it is {kind_of(document)}; it must be a metric, or a batch in 'metrics'",
            )
        return self._rows(document)

    def _rows(self, metrics: list[Any]) -> Iterator[Row]:
        read_time = self._time
        for metric in metrics:
            try:
                name, fields, time = metric["name"], metric["fields"], metric["timestamp"]
                tags = metric.get("tags", _NO_TAGS)
                time_ms = read_time(time)
            except (KeyError, TypeError):
                yield _unfit(metric)
                continue
            if type(fields) is not dict or type(tags) is not dict or type(name) is not str:
                yield _unfit(metric)
            elif time_ms is None:
                yield Refusal(Refused.TIME_INVALID, time_refusal("timestamp", time, self._unit))
            else:
                yield Sample(name, tags, time_ms, fields)


_NO_TAGS: dict[str, object] = {}
_MEMBERS = (("name", str, "text"), ("fields", dict, "an object"), ("tags", dict, "an object"))


def _unfit(metric: object) -> Refusal:
    """Return which member of a metric is missing or of another type."""
    if type(metric) is not dict:
        return Refusal(Refused.ROW_UNFIT, f"it is {kind_of(metric)}, not an object")
    for name, kind, wanted in _MEMBERS:
        value = metric.get(name, _NO_TAGS if name == "tags" else None)
        if type(value) is not kind:
            return Refusal(Refused.ROW_UNFIT, f"{name} is {kind_of(value)}; it must be {wanted}")
    return Refusal(Refused.ROW_UNFIT, "it has no timestamp")
