"""What a valid record looks like, as dead letters describe it.

Invariant: each reason code has one sentence, which names the settings that it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.events import Reason
from shared.settings import InputSettings
from shared.wording import iso


def allowed(reason: str, settings: InputSettings) -> str:
    """Return what is allowed instead of what was rejected; empty for an unknown reason code."""
    include = f", only {', '.join(settings.include)}" if settings.include else ""
    rules: Mapping[Reason, str] = {
        Reason.EMPTY: "a value of at least 6 bytes; tombstones (deletions) are not supported",
        Reason.TOO_LARGE: f"at most {settings.max_record_bytes:,} bytes (input.max_record_bytes)",
        Reason.NOT_AVRO: (
            "Confluent's wire format: byte 0, schema id in 4 bytes big-endian (8 by Apicurio),"
            " Avro; or Avro with its schema id in headers (input.schema_ids)"
        ),
        Reason.UNKNOWN_SCHEMA: "a schema id that the registry (registry.url) knows",
        Reason.SCHEMA_UNFIT: (
            f"a record with {' and '.join(settings.entity_fields)} (input.entity_fields), "
            f"{_time_of(settings)} and numeric fields{include}"
        ),
        Reason.TRUNCATED: "all fields of the writer schema",
        Reason.TRAILING_BYTES: (
            "no bytes after the last field of the writer schema; usually the schema id is wrong"
        ),
        Reason.MALFORMED: "an encoding of the writer schema; usually the schema id is wrong",
        Reason.NOT_FINITE: "finite numbers; null for a missing value",
        Reason.TIME_OUT_OF_RANGE: (
            f"{iso(settings.min_time_ms)} to {iso(settings.max_time_ms)} "
            "(input.min_time, input.max_time); seconds instead of milliseconds are too early"
        ),
        Reason.ENTITY_INVALID: (
            f"{'/'.join(settings.entity_fields)}: 1 to 256 bytes of UTF-8 without control"
            " characters"
        ),
        Reason.TIME_INVALID: (
            "a time in ISO 8601 such as 2024-01-10T20:40:00Z (input.time_unit=iso), or a finite"
            " number"
        ),
        Reason.NOT_JSON: (
            'one JSON object (input.format=json) such as {"host": "web-1", "cpu": 0.5}; names may'
            " be nested, and are unique"
        ),
        Reason.RECORD_UNFIT: (
            f"an object with {' and '.join(settings.entity_fields)} (input.entity_fields), "
            f"{_time_of(settings)} and numbers without quotes{include}, no arrays"
        ),
        Reason.TOO_MANY_NAMES: (
            "names of metrics that are the same in every record; input.include selects them"
        ),
        Reason.METRIC_INVALID: (
            f"{settings.metric_field}: 1 to 256 bytes of UTF-8 without unprintable characters"
        ),
        Reason.TOO_MANY_ENTITIES: "any number of entities; replay it",
    }
    by_code = {rule.code: text for rule, text in rules.items()}
    return by_code.get(reason, "")


def _time_of(settings: InputSettings) -> str:
    if settings.time_field:
        return f"the time in {settings.time_field} (input.time_field)"
    if settings.time_unit:
        return f"a time in {settings.time_unit} (input.time_unit)"
    return "a timestamp"
