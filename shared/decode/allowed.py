"""What a record must be like not to become a dead letter, by the settings.

Invariant: each reason has one sentence, which names the settings that it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from shared.events import Reason
from shared.settings import InputSettings


def allowed(reason: str, settings: InputSettings) -> str:
    """Return what a record must be like not to be rejected for this reason; empty for a reason that
    is not ours.
    """
    include = f", only {', '.join(settings.include)}" if settings.include else ""
    rules: Mapping[Reason, str] = {
        Reason.EMPTY: "a value of at least 6 bytes; deletions (tombstones) mean nothing here",
        Reason.TOO_LARGE: f"at most {settings.max_record_bytes:,} bytes (input.max_record_bytes)",
        Reason.NOT_AVRO: "Confluent's wire format: byte 0, schema id in 4 bytes big-endian, Avro",
        Reason.UNKNOWN_SCHEMA: "an id that the registry (registry.url) knows",
        Reason.SCHEMA_UNFIT: (
            f"a record with {' and '.join(settings.entity_fields)} (input.entity_fields), "
            f"{_time_of(settings)} and numeric fields{include}"
        ),
        Reason.TRUNCATED: "all fields of the writer schema",
        Reason.TRAILING_BYTES: (
            "nothing after the last field of the writer schema; mostly the schema id is wrong"
        ),
        Reason.MALFORMED: "an encoding of the writer schema; mostly the schema id is wrong",
        Reason.NOT_FINITE: "finite numbers; null where nothing was measured",
        Reason.TIME_OUT_OF_RANGE: (
            f"{_iso(settings.min_time_ms)} to {_iso(settings.max_time_ms)} "
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
        Reason.TOO_MANY_ENTITIES: (
            "room for a further entity in its partition (predict.max_entities)"
        ),
    }
    return next((text for one, text in rules.items() if one.code == reason), "")


def _time_of(settings: InputSettings) -> str:
    if settings.time_field:
        return f"the time in {settings.time_field} (input.time_field)"
    return (
        f"a time in {settings.time_unit} (input.time_unit)" if settings.time_unit else "a timestamp"
    )


def _iso(time_ms: int) -> str:
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
