"""``python -m tests.fuzz.route_rows``: hostile records for route; 1 on a failure.

Invariant: a damaged record becomes events that predictors accept, named refusals of short,
printable sentences, and rows that are left out, which together are all of its rows; in bounded
time.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import cramjam
import numpy as np

from lapwing.route.route_letters import sentence
from lapwing.route.row_router import Routed
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.directory import Directory
from shared.encode.records import schema_id_of
from shared.settings import InputSettings
from tests.fuzz.json_text import NAMES, TOKENS
from tests.support.routing import Schemas, new_router
from tests.support.writer_rows import SETTINGS, records_of

LONGEST_SENTENCE = 3_000
LONGEST_S = 2.0
MOST_GROWTH_BYTES = 400 << 20
CHECK_EVERY = 200
"""Records whose events are checked together by the predictors' decoder."""

LINE_TOKENS = [
    b" ", b",", b"=", b"\\", b'"', b"\n", b"i", b"1e999", b"nan", b"9" * 30 + b"i", b"-", b"t",
    b"\\ ", b"\\,", b"\xff", b"\0", b"#", b"1" * 500, b'"\\"', b"\r\n",
]  # fmt: skip

Damage = Callable[[bytes, bytes, random.Random], bytes]


@dataclass
class Found:
    """Results of one format."""

    records: int = 0
    rows: int = 0
    events: int = 0
    left_out: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    """Longest processor time of a record; load from outside does not count."""


def _flip(value: bytes, other: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(value)
    for _ in range(dice.randint(1, 4) if value else 0):
        damaged[dice.randrange(len(value))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def _cut(value: bytes, other: bytes, dice: random.Random) -> bytes:
    return value[: dice.randint(0, len(value))]


def _splice(value: bytes, other: bytes, dice: random.Random) -> bytes:
    return value[: dice.randint(0, len(value))] + other[dice.randint(0, len(other)) :]


def _repeat(value: bytes, other: bytes, dice: random.Random) -> bytes:
    start = dice.randint(0, len(value))
    piece = value[start : start + dice.randint(1, 60)]
    return value[:start] + piece * dice.choice((2, 3, 300)) + value[start:]


def _json_value(value: bytes, other: bytes, dice: random.Random) -> bytes:
    places = [at for at in range(len(value)) if value[at : at + 1] == b":"]
    if not places:
        return value
    at = dice.choice(places) + 1
    ends = [end for end in (value.find(sign, at) for sign in (b",", b"}", b"]")) if end >= 0]
    return value[:at] + dice.choice(TOKENS) + value[min(ends, default=len(value)) :]


def _json_name(value: bytes, other: bytes, dice: random.Random) -> bytes:
    ends = [at for at in range(1, len(value)) if value[at - 1 : at + 1] == b'":']
    if not ends:
        return value
    end = dice.choice(ends)
    start = value.rfind(b'"', 0, end - 1)
    return value[: max(start, 0)] + dice.choice(NAMES) + value[end:]


def _line_token(value: bytes, other: bytes, dice: random.Random) -> bytes:
    at = dice.randint(0, len(value))
    return value[:at] + dice.choice(LINE_TOKENS) + value[at + dice.randint(0, 3) :]


def _inside_snappy(value: bytes, other: bytes, dice: random.Random) -> bytes:
    """Damage a request and compress it again."""
    try:
        body = bytes(cramjam.snappy.decompress_raw(value))
        beside = bytes(cramjam.snappy.decompress_raw(other))
    except cramjam.DecompressionError:
        return value
    damaged = dice.choice((_flip, _flip, _cut, _splice, _repeat))(body, beside, dice)
    return bytes(cramjam.snappy.compress_raw(damaged))


BYTES: tuple[Damage, ...] = (_flip, _flip, _cut, _splice, _repeat)
JSON: tuple[Damage, ...] = (*BYTES, _json_value, _json_value, _json_value, _json_name, _json_name)
DAMAGES: dict[str, tuple[Damage, ...]] = {
    "telegraf": JSON,
    "influx": (*BYTES, _line_token, _line_token, _line_token),
    "collectd": JSON,
    "cloudwatch": JSON,
    "connect": JSON,
    "otlp": BYTES,
    "otlp_json": JSON,
    "remote_write": (*BYTES, _inside_snappy, _inside_snappy, _inside_snappy),
}


def fuzz_format(name: str, count: int, seed: int) -> Found:
    """Route damaged records of a format, in wide and in long form."""
    dice, found = random.Random(f"{seed} {name}"), Found()
    seeds = records_of(name)
    routers = [new_router(long, **SETTINGS[name]) for long in (False, True)]
    made: list[list[bytes]] = [[], []]
    for number in range(count):
        value = dice.choice(seeds)
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            value = dice.choice(DAMAGES[name])(value, dice.choice(seeds), dice)
        form = number % 2
        router, _ = routers[form]
        out = Routed()
        began_s = time.thread_time()
        try:
            refusals = router.route(value, out)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a surprise
            found.surprises.append(f"{type(error).__name__}: {error}: {value[:300]!r}")
            continue
        found.slowest_s = max(found.slowest_s, time.thread_time() - began_s)
        _count(found, out, refusals, router.decoder, value)
        made[form] += out.values
        if number % CHECK_EVERY >= CHECK_EVERY - 2:
            _check_events(found, made[form], routers[form][1], long=bool(form))
            made[form] = []
    return found


def _count(found: Found, out: Routed, refusals: object, decoder: object, value: bytes) -> None:
    found.records += 1
    found.rows += out.rows
    found.events += len(out.values)
    found.left_out += out.left_out
    if refusals is None:
        if out.refused:
            found.surprises.append(f"{value[:300]!r}: refused rows have no refusal")
        return
    found.refused.update(refusal.code.value for _, refusal in refusals.first)
    text = sentence(refusals, decoder)
    if len(text) > LONGEST_SENTENCE or not text.isprintable() or refusals.total != out.refused:
        found.surprises.append(f"{value[:300]!r}: {text[:500]!r}")
    if not 0 <= out.left_out + out.refused <= out.rows:
        found.surprises.append(f"{value[:300]!r}: {out.rows} rows, {out.refused} refused")


def _check_events(found: Found, values: list[bytes], schemas: Schemas, *, long: bool) -> None:
    """Let the predictors' decoder read the events."""
    if not values:
        return
    form = {"metric_field": "metric", "value_field": "value"} if long else {}
    ids = {schema_id_of(value) for value in values}
    texts = {number: schemas.texts[number] for number in ids if number is not None}
    if long:
        for value in values:
            schemas.read([value])
        return
    decoder = AvroDecoder.of_schemas(texts, InputSettings(**form))
    n = len(values)
    batch = Batch(
        "t", 0, Blob.join(values), Blob.join([None] * n), np.arange(n), np.zeros(n, np.int64)
    )
    decoder.prepare(batch)
    columns = decoder.decode(batch, Directory(), [])
    if len(columns.rejected):
        row = int(columns.rejected[0])
        found.surprises.append(f"predictors reject {values[row][:200]!r}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.route_rows", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--records", type=int, default=1_000_000, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", choices=sorted(DAMAGES))
    options = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failed = 0
    for name in options.format or DAMAGES:
        found = fuzz_format(name, options.records, options.seed)
        print(
            f"{name}: {found.records} damaged records, {found.rows} rows, {found.events} events,"
            f" {found.left_out} left out, {len(found.surprises)} surprises; the slowest took"
            f" {found.slowest_s:.3f} s; {json.dumps(dict(found.refused.most_common()))}",
            flush=True,
        )
        for surprise in found.surprises[:5]:
            print(f"  SURPRISE {surprise[:600]}")
        failed += bool(found.surprises) or found.slowest_s > LONGEST_S
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"memory grew by at most {growth >> 20} MiB")
    return 1 if failed or growth > MOST_GROWTH_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
