"""``python -m tests.fuzz.records``: hostile input; exits 1 on a failure.

Invariant: a damaged record becomes a record or a named reject, and changes no other record.

Every n-th batch is also read by the slow twin in tests/reference/avro.py. Damaged models are in
``tests.fuzz.fuzz_models``.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import schemas
from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.decode.avro.plan import compile_plan
from shared.decode.formats import open_decoder
from shared.directory import Directory
from shared.encode.records import encode_records
from shared.events import Reason
from shared.ports import Decoder
from shared.schema_ids import SchemaKey
from shared.settings import InputSettings
from tests.fuzz.fuzz_models import fuzz_models
from tests.fuzz.fuzz_worlds import (
    LONG_INPUT,
    LONG_TEXTS,
    NESTED_INPUT,
    NESTED_TEXTS,
    long_records,
    nested_records,
)
from tests.reference.avro import Decoded, decode_long_rows, decode_rows

INPUT = InputSettings(time_unit="iso")
BATCH = 2_000
INTACT_EVERY = 10
TWIN_EVERY = 20
T0 = 1_400_000_000_000

_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_RICH = [
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "cpu", "type": ["null", "double"]},
    {"name": "region", "type": {"type": "enum", "name": "Region", "symbols": ["eu", "us"]}},
    {"name": "timestamp", "type": _TIME},
    {"name": "labels", "type": {"type": "map", "values": ["null", "long"]}},
    {"name": "host", "type": "string"},
    {"name": "memory", "type": "float"},
    {"name": "requests", "type": "int"},
    {"name": "blob", "type": "bytes"},
    {
        "name": "inner",
        "type": {"type": "record", "name": "Inner", "fields": [{"name": "up", "type": "boolean"}]},
    },
    {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 4}},
]
_TEXT_TIME = [
    {"name": "TS", "type": ["null", "string"]},
    {"name": "HOST", "type": ["null", "string"]},
    {"name": "CPU", "type": ["null", "double"]},
]
TEXTS = {
    1: schemas.text(schemas.METRIC_EVENT),
    2: json.dumps({"type": "record", "name": "Rich", "fields": _RICH}),
    4: json.dumps(["null", {"type": "record", "name": "TextTime", "fields": _TEXT_TIME}]),
}
"""Three kinds of records; the third may be null as a whole, and its time is text.

There is no schema 3.
"""

LONG_VARINTS = (
    b"\xff" * 9 + b"\1",
    b"\xff" * 10 + b"\1",
    b"\x80" * 9 + b"\2",
    b"\x80" * 12,
    b"\xfe\xff\xff\xff\x0f",
    b"\1",
)
ODD_FLOATS = tuple(
    struct.pack("<d", value) for value in (float("nan"), float("inf"), -0.0, 5e-324, 1e308)
)


@dataclass
class Found:
    """Results for the fuzzed records.

    surprises   : not a record and not a named reject, a neighbour that changed, or another answer
                  than the twin's
    twin        : records that the twin has read as well
    slowest_s   : of one batch of 2,000; grown_bytes: of the peak of resident memory
    """

    records: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    intact: int = 0
    twin: int = 0
    surprises: list[str] = field(default_factory=list)
    decode_s: float = 0.0
    slowest_s: float = 0.0
    largest_bytes: int = 0
    grown_bytes: int = 0


def valid_records(rng: random.Random, count: int) -> list[bytes]:
    """Records of all schemas that decode without a reject."""
    values = []
    for place in range(count):
        host, when = f"host-{rng.randrange(50)}-ä", T0 + rng.randrange(10**9)
        if place % 4 == 2:
            text = datetime.fromtimestamp(when / 1000, UTC).isoformat(
                timespec=rng.choice(("minutes", "seconds", "milliseconds"))
            )
            values += encode_records(TEXTS[4], 4, [{"TS": text, "HOST": host, "CPU": rng.random()}])
        elif place % 2:
            row = {
                "host": host,
                "timestamp": when,
                "cpu": rng.random(),
                "network_in": rng.choice([None, 3.5]),
                "disk_write": None,
            }
            values += encode_records(TEXTS[1], 1, [row])
        else:
            row = {
                "tags": ["a", "bb"][: rng.randrange(3)], "cpu": rng.choice([None, rng.random()]),
                "region": "eu", "timestamp": when,
                "labels": {"x": 1, "y": None} if rng.random() < 0.5 else {}, "host": host,
                "memory": 0.5, "requests": rng.randrange(-9, 10**6),
                "blob": rng.randbytes(rng.randrange(6)),
                "inner": {"up": True}, "key": b"abcd",
            }  # fmt: skip
            values += encode_records(TEXTS[2], 2, [row])
    return values


def mutate(value: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage a record in one of many ways, some of them twice."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        value = rng.choice(DAMAGES)(bytearray(value), other, rng)
    return value


def _flip(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 8) if value else 0):
        value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    return bytes(value)


def _cut(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(value[: rng.randint(0, len(value))])


def _splice(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(value[: rng.randint(0, len(value))]) + other[rng.randint(0, len(other)) :]


def _length(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    """Overwrite one byte, as likely a length as anything, by the varint of any number."""
    at, word, out = (
        rng.randint(5, max(5, len(value))),
        rng.getrandbits(rng.choice((7, 8, 15, 32, 63, 64))),
        bytearray(),
    )
    while word >= 128:
        out.append(word & 127 | 128)
        word >>= 7
    return bytes(value[:at]) + bytes(out) + bytes([word]) + bytes(value[at + 1 :])


def _varint(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    at = rng.randint(min(5, len(value)), len(value))
    return bytes(value[:at]) + rng.choice(LONG_VARINTS) + bytes(value[at + rng.randint(0, 1) :])


def _float(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(value))
    return bytes(value[:at]) + rng.choice(ODD_FLOATS) + bytes(value[at + 8 :])


def _junk(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    head = bytes(value[:5]) if rng.random() < 0.7 else b""
    return head + rng.randbytes(rng.choice((0, 1, 4, 30, 200)))


def _insert(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(value))
    return bytes(value[:at]) + rng.randbytes(rng.randint(1, 4)) + bytes(value[at:])


def _delete(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(value))
    return bytes(value[:at] + value[at + rng.randint(1, 4) :])


def _rename(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    """Another schema's id before the same body."""
    return b"\0" + rng.choice((1, 2, 3, 4, 2**32 - 1)).to_bytes(4, "big") + bytes(value[5:])


def _grow(value: bytearray, other: bytes, rng: random.Random) -> bytes:
    """Now and then beyond the largest allowed size."""
    return (
        bytes(value) * 2 if rng.random() < 0.999 else bytes(value) + bytes(INPUT.max_record_bytes)
    )


Damage = Callable[[bytearray, bytes, random.Random], bytes]
DAMAGES: tuple[Damage, ...] = (
    _flip,
    _flip,
    _flip,
    _cut,
    _splice,
    _length,
    _length,
    _varint,
    _float,
    _junk,
    _insert,
    _delete,
)
DAMAGES += (_rename, _grow)


@dataclass(frozen=True)
class World:
    """A kind of input: its settings, schemas by id, and valid records."""

    settings: InputSettings
    texts: Mapping[int, str]
    valid: Callable[[random.Random, int], list[bytes]]


WORLDS = {
    "rows": World(INPUT, TEXTS, valid_records),
    "nested": World(NESTED_INPUT, NESTED_TEXTS, nested_records),
    "long": World(LONG_INPUT, LONG_TEXTS, long_records),
}


def fuzz_records(count: int, seed: int, twin_every: int = TWIN_EVERY, world: str = "rows") -> Found:
    """Decode damaged records with intact ones between them.

    world : see WORLDS
    """
    rng, found, given = random.Random(seed), Found(), WORLDS[world]
    decoder = _decoder_of(given)
    pool = given.valid(rng, 400)
    alone = [_row(*_decoded([value], decoder), 0) for value in pool]
    before_bytes = _peak_bytes()
    while found.records < count:
        size = min(BATCH, count - found.records)
        values, intact = [], {}
        for _ in range(size):
            if len(values) % INTACT_EVERY == 0:
                intact[len(values)] = rng.randrange(len(pool))
                values.append(pool[intact[len(values)]])
            values.append(mutate(rng.choice(pool), rng.choice(pool), rng))
        number = found.records // BATCH
        found.records += size
        try:
            columns, entities, metrics = _check(
                values, {row: alone[place] for row, place in intact.items()}, decoder, found
            )
            if number % twin_every == 0:
                _compare(values, columns, entities.names(), metrics, given, found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a surprise
            found.surprises.append(f"batch {number}: {type(error).__name__}: {error}")
    found.grown_bytes = _peak_bytes() - before_bytes
    return found


def _decoder_of(world: World) -> Decoder:
    """Return the decoder as a predictor opens it, with a registry of the world's schemas."""
    return open_decoder(world.settings, _Registry(world.texts), lambda: 0.0)


class _Registry:
    """A registry of some schemas; it knows no other one."""

    address = "memory"

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._texts = texts

    def schema(self, key: SchemaKey) -> str | None:
        return self._texts.get(key) if isinstance(key, int) else None


def _decoded(values: list[bytes], decoder: Decoder) -> tuple[Columns, Directory, list[str]]:
    entities, metrics = Directory(), list[str]()
    n = len(values)
    batch = Batch(
        "t", 0, Blob.join(values), Blob.join([None] * n), np.arange(n), np.zeros(n, np.int64)
    )
    decoder.prepare(batch)
    return decoder.decode(batch, entities, metrics), entities, metrics


def _row(
    columns: Columns, entities: Directory, metrics: list[str], place: int
) -> tuple[str, int, dict[str, bytes]]:
    """One accepted record in full: entity, time, and the bits of what it measured."""
    values = {name: columns.values[place, column].tobytes() for column, name in enumerate(metrics)}
    present = {name: bits for name, bits in values.items() if not np.isnan(np.frombuffer(bits))[0]}
    return entities.name(int(columns.entity[place])), int(columns.time_ms[place]), present


def _check(
    values: list[bytes],
    intact: dict[int, tuple[str, int, dict[str, bytes]]],
    decoder: Decoder,
    found: Found,
) -> tuple[Columns, Directory, list[str]]:
    began_s = time.perf_counter()
    columns, entities, metrics = _decoded(values, decoder)
    took_s = time.perf_counter() - began_s
    found.decode_s, found.slowest_s = found.decode_s + took_s, max(found.slowest_s, took_s)
    found.largest_bytes = max(found.largest_bytes, *map(len, values))
    codes = Counter(Reason(code).code for code in columns.reasons.tolist())
    found.rejected.update(codes)
    found.accepted += len(columns) - len(intact)
    found.intact += len(intact)
    rows = np.sort(np.concatenate([columns.accepted, columns.rejected]))
    if not np.array_equal(rows, np.arange(len(values))) or codes["accepted"]:
        found.surprises.append("a record is neither accepted nor rejected by a reason, or both")
    if np.isinf(columns.values).any() or len(columns) != len(columns.time_ms):
        found.surprises.append("an accepted value is not finite")
    place_of = {row: place for place, row in enumerate(columns.accepted.tolist())}
    for row, expected in intact.items():
        if row not in place_of or _row(columns, entities, metrics, place_of[row]) != expected:
            found.surprises.append(f"a neighbour changed: {values[row]!r}")
    return columns, entities, metrics


def _compare(
    values: list[bytes],
    columns: Columns,
    entities: list[str],
    metrics: list[str],
    world: World,
    found: Found,
) -> None:
    names, seen = list[str](), list[str]()
    if world.settings.metric_field:
        slow = decode_long_rows(values, world.texts[1], world.settings, names, seen)
    else:
        known = {key: compile_plan(text, world.settings) for key, text in world.texts.items()}
        times = {key: plan.time_field for key, plan in known.items()}
        named = {key: plan.metrics for key, plan in known.items()}
        slow = decode_rows(values, world.texts, times, named, world.settings, names, seen)
    found.twin += len(values)
    same = (
        (columns.accepted.tolist(), columns.entity.tolist(), columns.time_ms.tolist())
        == (slow.accepted, slow.entity, slow.time_ms)
        and (columns.rejected.tolist(), columns.reasons.tolist()) == (slow.rejected, slow.reasons)
        and (entities, metrics) == (names, seen)
        and columns.values.tobytes() == _matrix(slow, metrics).tobytes()
    )
    if not same:
        rows = set(columns.rejected.tolist()) ^ set(slow.rejected)
        found.surprises.append(
            f"the twin reads otherwise: {[values[row] for row in sorted(rows)][:3]}"
        )


def _matrix(slow: Decoded, metrics: list[str]) -> np.ndarray[Any, Any]:
    rows = [[row.get(name, np.nan) for name in metrics] for row in slow.values]
    return np.array(rows).reshape(len(rows), len(metrics))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.records", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--twin-every",
        type=int,
        default=TWIN_EVERY,
        help="batches of 2,000 of which the slow twin reads one",
    )
    parser.add_argument("--world", choices=list(WORLDS), default="rows", help="kind of records")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    options = parser.parse_args()
    found = fuzz_records(options.records, options.seed, options.twin_every, options.world)
    print(
        f"{found.records} damaged records between {found.intact} intact ones: {found.accepted} are"
        f" records, {found.rejected.total()} rejected, {len(found.surprises)} surprises"
    )
    print(f"  {dict(found.rejected.most_common())}")
    print(
        f"  the slow twin has read {found.twin} of them; decoding took {found.decode_s:.1f} s, a"
        f" batch of 2,000 at most {found.slowest_s:.3f} s; largest record {found.largest_bytes}"
        f" bytes; peak memory +{found.grown_bytes >> 20} MB"
    )
    for surprise in found.surprises[:10]:
        print(f"  SURPRISE {surprise[:400]}")
    models = fuzz_models(options.models, options.seed)
    for line in models.lines():
        print(line)
    if options.json:
        document = {
            "seed": options.seed,
            "records": vars(found),
            "models": vars(models) | {"grown_bytes": models.grown_bytes},
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 1 if found.surprises or models.failed else 0


if __name__ == "__main__":
    sys.exit(main())
