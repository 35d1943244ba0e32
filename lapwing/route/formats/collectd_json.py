"""collectd's JSON, as ``write_kafka`` writes it with ``Format JSON``.

Invariant: a value list is a row. Its name is made of plugin, type and type instance, without
repetition: cpu, cpu, idle give cpu_idle. Its fields are the data sources; ``value`` has no name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lapwing.route.formats.event_time import time_reader, time_refusal
from lapwing.route.formats.json_text import parse_json
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample
from shared.decode.json.document import kind_of

_PARTS = ("host", "plugin", "plugin_instance", "type", "type_instance")
_ONLY = "value"


class CollectdJson:
    """A ``RowDecoder`` of arrays of collectd's value lists.

    unit : of ``time``, s by default
    """

    format = "collectd"

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._time = time_reader(unit)

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"[{row}]"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        document = parse_json(value)
        if type(document) is dict:
            document = [document]
        if type(document) is not list:
            raise RecordRefused(
                Refused.MALFORMED, f"it is {kind_of(document)}; it must be an array of value lists"
            )
        return map(self._row, document)

    def _row(self, item: Any) -> Row:
        if type(item) is not dict:
            return Refusal(Refused.ROW_UNFIT, f"it is {kind_of(item)}, not an object")
        labels = {part: item.get(part) for part in _PARTS}
        for part in ("plugin", "type"):
            if type(labels[part]) is not str or not labels[part]:
                detail = f"{part} is {kind_of(labels[part])}; it must be text"
                return Refusal(Refused.ROW_UNFIT, detail)
        values, names = item.get("values"), item.get("dsnames")
        if type(values) is not list or type(names) is not list or len(values) != len(names):
            return Refusal(
                Refused.ROW_UNFIT, "values and dsnames must be two arrays of the same length"
            )
        if not all(type(name) is str for name in names):
            return Refusal(Refused.ROW_UNFIT, "dsnames must be an array of text")
        time_ms = self._time(item.get("time"))
        if time_ms is None:
            detail = time_refusal("time", item.get("time"), self._unit)
            return Refusal(Refused.TIME_INVALID, detail)
        fields = {
            "" if name == _ONLY else name: one for name, one in zip(names, values, strict=True)
        }
        return Sample(self._name(labels), labels, time_ms, fields)

    def _name(self, labels: dict[str, Any]) -> str:
        parts = [labels["plugin"]]
        if labels["type"] != labels["plugin"]:
            parts.append(labels["type"])
        if type(labels["type_instance"]) is str and labels["type_instance"]:
            parts.append(labels["type_instance"])
        return "_".join(parts)
