"""Valid records with nested records, labels and decimals, and of the long form, for the fuzzer.

Invariant: every record decodes without a reject.
"""

from __future__ import annotations

import json
import random

from shared.encode.records import encode_records
from shared.settings import InputSettings

T0 = 1_400_000_000_000

_MONEY = {"logicalType": "decimal", "precision": 12, "scale": 3}
_NESTED = [
    {"name": "labels", "type": ["null", {"type": "map", "values": ["null", "string"]}]},
    {
        "name": "load",
        "type": [
            "null",
            {
                "type": "record",
                "name": "Load",
                "fields": [
                    {"name": "one", "type": ["null", "double"]},
                    {"name": "cost", "type": {"type": "bytes"} | _MONEY},
                    {"name": "note", "type": "string"},
                ],
            },
        ],
    },
    {"name": "fee", "type": {"type": "fixed", "name": "Fee", "size": 6} | _MONEY},
    {"name": "meta", "type": {"type": "record", "name": "Meta", "fields": [
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    ]}},
    {"name": "loads", "type": {"type": "array", "items": "Load"}},
]  # fmt: skip
_LONG = [
    {"name": "name", "type": ["null", "string"]},
    {"name": "labels", "type": {"type": "map", "values": "string"}},
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "value", "type": ["null", "double"]},
]
NESTED_TEXTS = {1: json.dumps({"type": "record", "name": "Nested", "fields": _NESTED})}
NESTED_INPUT = InputSettings(
    entity_fields="labels.host,labels.zone", time_field="meta.ts", include="load.one,load.cost,fee"
)
LONG_TEXTS = {1: json.dumps({"type": "record", "name": "Long", "fields": _LONG})}
LONG_INPUT = InputSettings(entity_fields="labels.host", metric_field="name", value_field="value")


def nested_records(rng: random.Random, count: int) -> list[bytes]:
    """Records with nested records, labels and decimals that decode without a reject."""
    found = []
    for _ in range(count):
        load = {
            "one": rng.choice([None, rng.random()]),
            "cost": rng.randrange(-(10**9), 10**9).to_bytes(rng.randint(4, 9), "big", signed=True),
            "note": "ä",
        }
        labels = {"host": f"h{rng.randrange(50)}", "zone": "z", "app": None}
        row = {
            "labels": dict(rng.sample(sorted(labels.items()), 3)),
            "load": rng.choice([None, load]),
            "fee": rng.randrange(-(10**9), 10**9).to_bytes(6, "big", signed=True),
            "meta": {"ts": (T0 + rng.randrange(10**9)) * 1000},
            "loads": [load] * rng.randrange(3),
        }
        found += encode_records(NESTED_TEXTS[1], 1, [row])
    return found


def long_records(rng: random.Random, count: int) -> list[bytes]:
    """Records with one metric each that decode without a reject."""
    return [
        encode_records(
            LONG_TEXTS[1],
            1,
            [
                {
                    "name": rng.choice(["cpu", "mem", "äther"]),
                    "labels": {"x": "y", "host": f"h{rng.randrange(50)}"},
                    "ts": T0 + rng.randrange(10**9),
                    "value": rng.choice([None, rng.random()]),
                }
            ],
        )[0]
        for _ in range(count)
    ]
