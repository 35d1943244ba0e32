"""A router without a registry, and its records read back by fastavro."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lapwing.route.formats.choice import open_row_decoder
from lapwing.route.row_records import long_schema, wide_schema
from lapwing.route.row_router import RecordRefusals, Routed, RouteRules, RowRouter
from shared.encode.records import decode_records, schema_id_of
from shared.settings import Settings


class Schemas:
    """Gives schemas their ids in order from 1, as a registry does."""

    def __init__(self, rules: RouteRules) -> None:
        self.rules = rules
        self.texts: dict[int, str] = {}

    def __call__(self, metrics: Sequence[str]) -> int:
        rules = self.rules
        text = (
            wide_schema(rules.entity_field, metrics)
            if metrics
            else long_schema(rules.entity_field, rules.metric_field, rules.value_field)
        )
        known = {text: number for number, text in self.texts.items()}
        number = known.get(text, len(known) + 1)
        self.texts[number] = text
        return number

    def read(self, values: Sequence[bytes]) -> list[dict[str, Any]]:
        return decode_records(values, [self.texts[schema_id_of(one) or 0] for one in values])


def new_router(long: bool = False, **route: Any) -> tuple[RowRouter, Schemas]:
    """Return a router and its schemas; long form has the fields metric and value."""
    form = {"metric_field": "metric", "value_field": "value"} if long else {}
    settings = Settings.model_validate({"route": route, "input": form})
    rules = RouteRules.of(settings)
    schemas = Schemas(rules)
    return RowRouter(open_row_decoder(settings.route), rules, schemas), schemas


def routed(
    value: bytes, long: bool = False, **route: Any
) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]], Routed]:
    """Route one record; return its events, its refusals (row, code, detail), and the counts."""
    router, schemas = new_router(long, **route)
    out = Routed()
    refusals = router.route(value, out)
    events = schemas.read(out.values)
    assert [event["host"].encode() for event in events] == out.keys
    return events, plain(refusals), out


def plain(refusals: RecordRefusals | None) -> list[tuple[int, str, str]]:
    """Return refusals as tuples (row, code, detail)."""
    if refusals is None:
        return []
    return [(row, code.value, detail) for row, (code, detail) in refusals.first]
