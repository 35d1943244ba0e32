"""``python -m tests.fuzz.json_text``: hostile JSON; exits 1 on a failure.

Invariant: a damaged record becomes the row that the reference reads, or a reject by the same
reason; its detail is short, printable text.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.batch import Batch, Blob
from shared.decode.field_choice import ignore
from shared.decode.json.decoder import JsonDecoder
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.json_rows import is_same, read_row

INPUT = InputSettings(format="json", time_field="at.time", time_unit="iso")
BATCH = 500
LONGEST_DETAIL = 6_000
T0 = "2014-05-13T16:53:20.250Z"

TOKENS = [
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0.0", b"1" * 400, b"9" * 5_000, b'"1.5"',
    b"[]", b"[1]", b"{}", b'{"a":1,"a":2}', b'[{"a":1,"a":2}]', b'"\\ud800"', b'"\\u0000"',
    b'"2014-05-13"', b'"2014-05-13 16:53"', b"5e-324", b"0.1e1", b"01", b"[" * 3_000,
    b'{"x":' * 30 + b"1" + b"}" * 30, b"1" + b"0" * 18, b'"' + b"h" * 300 + b'"', b"'x'", b"//",
]  # fmt: skip
NAMES = [
    b'"host"', b'"at"', b'"time"', b'"cpu"', b'"load.one"', b'"one"', b'""', b'"a\\u0007"',
    b'"\\ud800"', b'"created_by"', b'"' + b"n" * 300 + b'"', b'"H\\u006fst"',
]  # fmt: skip

Damage = Callable[[bytes, bytes, random.Random], bytes]


@dataclass
class Found:
    """Results for the fuzzed records; ``surprises``: another answer than the reference's."""

    records: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def valid_record(rng: random.Random) -> bytes:
    """Return a record that can be read."""
    document: dict[str, Any] = {
        "host": rng.choice(["web-1", "bü", 17]),
        "at": {"time": T0},
        "cpu": rng.choice([1, 0.5, None, rng.random()]),
        "load": {"one": rng.random(), "five": {"max": rng.randrange(9)}},
        "zone": "eu",
        "up": True,
    }
    items = list(document.items())
    rng.shuffle(items)
    return json.dumps(dict(items), ensure_ascii=rng.random() < 0.5).encode()


def mutate(value: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage a record in one of many ways, some of them twice."""
    for _ in range(rng.choice((1, 1, 2))):
        value = rng.choice(DAMAGES)(value, other, rng)
    return value


def _flip(value: bytes, other: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(value)
    for _ in range(rng.randint(1, 3) if value else 0):
        damaged[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(value: bytes, other: bytes, rng: random.Random) -> bytes:
    return value[: rng.randint(0, len(value))]


def _splice(value: bytes, other: bytes, rng: random.Random) -> bytes:
    return value[: rng.randint(0, len(value))] + other[rng.randint(0, len(other)) :]


def _token(value: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replace a value by another one."""
    places = [at for at in range(len(value)) if value[at : at + 2] == b": "]
    if not places:
        return value
    at = rng.choice(places) + 2
    ends = [end for end in (value.find(b",", at), value.find(b"}", at)) if end >= 0]
    return value[:at] + rng.choice(TOKENS) + value[min(ends, default=len(value)) :]


def _name(value: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replace a name by another one, or by one that is already there."""
    wanted = rng.choice([b'"host"', b'"at"', b'"time"', b'"cpu"', b'"zone"', b'"five"', b'"load"'])
    return value.replace(wanted, rng.choice(NAMES), 1)


def _header(value: bytes, other: bytes, rng: random.Random) -> bytes:
    return b"\0" + rng.randbytes(4) + value


def _wrap(value: bytes, other: bytes, rng: random.Random) -> bytes:
    around = [
        (b"[", b"]"),
        (b'{"host":1,"x":', b"}"),
        (b" ", b"\n"),
        (b"", b","),
        (b"\xef\xbb\xbf", b""),
    ]
    before, after = rng.choice(around)
    return before + value + after


def _grow(value: bytes, other: bytes, rng: random.Random) -> bytes:
    wide = b",".join(b'"m%d":%d' % (i, i) for i in range(rng.choice((200, 300, 9_000))))
    return value[:-1] + b"," + wide + b"}"


DAMAGES: tuple[Damage, ...] = (
    _flip, _flip, _cut, _splice, _token, _token, _token, _name, _name, _header, _wrap
)  # fmt: skip


def fuzz_json(count: int, seed: int) -> Found:
    """Decode damaged records beside the reference."""
    rng, found = random.Random(seed), Found()
    while found.records < count:
        values = []
        for _ in range(min(BATCH, count - found.records)):
            damage = _grow if rng.random() < 0.002 else mutate
            values.append(damage(valid_record(rng), valid_record(rng), rng))
        found.records += len(values)
        try:
            _check(values, found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a surprise
            found.surprises.append(f"{type(error).__name__}: {error}")
    return found


def _check(values: list[bytes], found: Found) -> None:
    n = len(values)
    decoder = JsonDecoder(INPUT, ignore)
    batch = Batch(
        "t", 0, Blob.join(values), Blob.join([None] * n), np.arange(n), np.zeros(n, np.int64)
    )
    entities, metrics = Directory(), list[str]()
    began_s = time.perf_counter()
    columns = decoder.decode(batch, entities, metrics)
    found.slowest_s = max(found.slowest_s, time.perf_counter() - began_s)
    reason_of = dict(zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True))
    place_of = {row: place for place, row in enumerate(columns.accepted.tolist())}
    if sorted([*reason_of, *place_of]) != list(range(n)):
        found.surprises.append("a record is neither accepted nor rejected, or both")
    for row, value in enumerate(values):
        expected = read_row(value, INPUT)
        if row in place_of:
            found.accepted += 1
            place = place_of[row]
            cells = dict(zip(metrics, columns.values[place].tolist(), strict=True))
            same = (
                not isinstance(expected, Reason)
                and expected[0] == entities.name(int(columns.entity[place]))
                and expected[1] == columns.time_ms[place]
                and is_same(expected, cells)
            )
        else:
            reason = Reason(reason_of[row])
            found.rejected[reason.code] += 1
            detail = decoder.detail(value, (), reason)
            same = expected is reason and len(detail.encode()) <= LONGEST_DETAIL
            same = same and detail.isprintable()
        if not same:
            found.surprises.append(f"{value[:200]!r}: the reference has {expected!r}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.json_text", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = fuzz_json(options.records, options.seed)
    print(
        f"{found.records} damaged records: {found.accepted} are records,"
        f" {found.rejected.total()} rejected, {len(found.surprises)} surprises; a batch of {BATCH}"
        f" took at most {found.slowest_s:.3f} s"
    )
    print(f"  {dict(found.rejected.most_common())}")
    for surprise in found.surprises[:10]:
        print(f"  SURPRISE {surprise[:400]}")
    return 1 if found.surprises else 0


if __name__ == "__main__":
    sys.exit(main())
