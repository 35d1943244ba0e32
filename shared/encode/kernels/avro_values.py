"""Encodes columns in Confluent's wire format: flat metric events and score events.

Invariant: the bytes are those that fastavro writes for the same record. The layout of a score event
is that of ``schemas/score_event.avsc``; a test compares them field by field.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from shared.kernels.hashing import murmur3_128
from shared.kernels.wire import (
    BOUNDS,
    BYTES,
    Bytes,
    Int64s,
    copy_bytes,
    group,
    helper,
    kernel,
    store_word,
    write_digits,
    write_long,
)

Uint64s = npt.NDArray[np.uint64]

# Indices of the constant pieces of score events in ``pieces``; those of states and metrics follow.
HEADER, DETECTOR, MODEL, SOURCE, ID_HEAD, ID_MIDDLE, ID_TAIL, STATES = range(8)
STATE_COUNT = 3
METRICS = STATES + STATE_COUNT

ROW_NUMBERS = 5
SCORE, SEVERITY, THRESHOLD, WARMUP_PERCENT, WARMUP_MINUTES_LEFT = range(ROW_NUMBERS)
IS_ANOMALY, COLD_START, LATE, DUPLICATE, IMPUTED, AHEAD = range(6)
METRIC_NUMBERS = 5
"""value, expected, lower, upper, severity"""

ID_DIGITS = 32
NULL, PRESENT = 0, 2  # branches 0 and 1 of a ["null", x] union
_MAGNITUDE, _INFINITY = np.uint64(0x7FFFFFFFFFFFFFFF), np.uint64(0x7FF0000000000000)


class Texts(NamedTuple):
    """Byte strings, joined: text i is data[bounds[i]:bounds[i + 1]].

    data   : uint8
    bounds : int64 (k + 1,)
    """

    data: Bytes
    bounds: Int64s


class ScoreRows(NamedTuple):
    """The columns of n score events; the bits of a float, NaN = null.

    entity         : int64 (n,)        index of the entity's name
    time_ms        : int64 (n,)        event time
    offsets        : int64 (n,)        of the input records
    state          : int64 (n,)        0 to STATE_COUNT - 1
    top_metric     : int64 (n,)        index of a metric, -1 = null
    numbers        : uint64 (n, 5)     score, severity, threshold, warm-up percent, minutes
    flags          : uint8 (n, 6)      is_anomaly, cold_start, late, duplicate, imputed, ahead
    metric_numbers : uint64 (n, M, 5)  value, expected, lower, upper, severity
    listed         : int64 (n, M)      the metrics that the record has, in their order, then -1
    episodes       : uint8 (n, 32)     hex digits of the episode id; a leading 0 byte = null
    """

    entity: Int64s
    time_ms: Int64s
    offsets: Int64s
    state: Int64s
    top_metric: Int64s
    numbers: Uint64s
    flags: Bytes
    metric_numbers: Uint64s
    listed: Int64s
    episodes: Bytes


_IDS = types.Array(types.int64, 1, "C", readonly=True)
_NUMBERS = types.Array(types.uint64, 2, "C", readonly=True)
_I8S, _U1S, _U1SS = types.int64[::1], types.uint8[::1], types.uint8[:, ::1]
_U8SS, _U8SSS = types.uint64[:, ::1], types.uint64[:, :, ::1]
TEXTS = group(Texts, _U1S, _I8S)
SCORE_ROWS = group(
    ScoreRows, _I8S, _I8S, _I8S, _I8S, _I8S, _U8SS, _U1SS, _U8SSS, types.int64[:, ::1], _U1SS
)


@helper
def write_optional(bits: np.uint64, out: Bytes, at: int) -> int:
    """Write a ["null", "double"], null for the bits of a NaN; return the position after it."""
    if bits & _MAGNITUDE > _INFINITY:
        out[at] = NULL
        return at + 1
    out[at] = PRESENT
    return store_word(out, at + 1, bits)


@helper
def write_text(data: Bytes, start: int, stop: int, out: Bytes, at: int) -> int:
    """Write data[start:stop] as an Avro string; return the position after it."""
    return copy_bytes(data, start, stop, out, write_long(stop - start, out, at))


@helper
def write_piece(pieces: Texts, piece: int, out: Bytes, at: int) -> int:
    """Write a constant piece; return the position after it."""
    return copy_bytes(pieces.data, pieces.bounds[piece], pieces.bounds[piece + 1], out, at)


@helper
def write_hex(word: np.uint64, out: Bytes, at: int) -> int:
    """Write a word's 8 little-endian bytes as 16 hex digits; return the position after them."""
    for i in range(16):
        nibble = np.uint8((word >> np.uint64(4 * (i ^ 1))) & np.uint64(15))
        out[at + i] = nibble + np.uint8(48 if nibble < 10 else 87)
    return at + 16


@kernel(BYTES, BOUNDS, _IDS, _U1S, _I8S)
def select_names(
    names: Bytes, name_bounds: Int64s, index: Int64s, out: Bytes, out_bounds: Int64s
) -> None:
    """Join the names at ``index``.

    names, name_bounds : uint8, int64 (k + 1,)
    index              : int64 (n,)
    out, out_bounds    : written: name i is out[out_bounds[i]:out_bounds[i + 1]]
    """
    out_bounds[0] = at = 0
    for row in range(len(index)):
        at = copy_bytes(names, name_bounds[index[row]], name_bounds[index[row] + 1], out, at)
        out_bounds[row + 1] = at


@kernel(BYTES, BYTES, BOUNDS, _IDS, _IDS, _NUMBERS, _U1S, _I8S)
def encode_flat_rows(
    header: Bytes,
    names: Bytes,
    name_bounds: Int64s,
    index: Int64s,
    time_ms: Int64s,
    bits: Uint64s,
    out: Bytes,
    out_bounds: Int64s,
) -> None:
    """Encode rows of the schema (string, timestamp-millis, ["null", "double"]...).

    header             : uint8 (5,)              magic byte and schema id
    names, name_bounds : uint8, int64 (k + 1,)   entities
    index, time_ms     : int64 (n,)              entity and event time of each row
    bits               : uint64 (n, M)           the doubles; NaN = null
    out, out_bounds    : written: record i is out[out_bounds[i]:out_bounds[i + 1]]

    Twin: fastavro, in tests/unit/encode/test_encoding.py.  Cost: O(bytes written).
    """
    out_bounds[0] = at = 0
    for row in range(len(index)):
        at = copy_bytes(header, 0, len(header), out, at)
        at = write_text(names, name_bounds[index[row]], name_bounds[index[row] + 1], out, at)
        at = write_long(time_ms[row], out, at)
        for metric in range(bits.shape[1]):
            at = write_optional(bits[row, metric], out, at)
        out_bounds[row + 1] = at


@helper
def write_event_id(
    pieces: Texts,
    offset: int,
    names: Bytes,
    low: int,
    high: int,
    scratch: Bytes,
    out: Bytes,
    at: int,
) -> int:
    """Write the id of a score event as hex digits; return the position after them.

    pieces    : with ID_HEAD, ID_MIDDLE and ID_TAIL, which lie between what the id hashes
    low, high : bounds of the entity in ``names``
    scratch   : uint8  work memory for the text that is hashed
    """
    end = write_piece(pieces, ID_HEAD, scratch, 0)
    end = write_digits(offset, scratch, end)
    end = write_piece(pieces, ID_MIDDLE, scratch, end)
    end = copy_bytes(names, low, high, scratch, end)
    end = write_piece(pieces, ID_TAIL, scratch, end)
    first, second = murmur3_128(scratch, 0, end, 0)
    return write_hex(second, out, write_hex(first, out, at))


@helper
def _write_metrics(pieces: Texts, listed: Int64s, numbers: Uint64s, out: Bytes, at: int) -> int:
    """Write the array of metrics as one block and the end marker."""
    count = 0
    while count < len(listed) and listed[count] >= 0:
        count += 1
    if count > 0:
        at = write_long(count, out, at)
        for k in range(count):
            at = write_piece(pieces, METRICS + listed[k], out, at)
            for number in range(METRIC_NUMBERS):
                at = write_optional(numbers[listed[k], number], out, at)
    out[at] = 0
    return at + 1


@kernel(TEXTS, TEXTS, SCORE_ROWS, _U1S, _U1S, _I8S)
def encode_score_rows(
    pieces: Texts,
    names: Texts,
    rows: ScoreRows,
    scratch: Bytes,
    out: Bytes,
    out_bounds: Int64s,
) -> None:
    """Encode score events, in the order of the schema's fields.

    pieces          : constant bytes of all rows, see HEADER ... METRICS
    names           : of the entities
    scratch         : uint8  work memory for the text that an event id hashes
    out, out_bounds : written: record i is out[out_bounds[i]:out_bounds[i + 1]]

    Twin: tests/reference/avro.py::score_records with fastavro.  Cost: O(bytes written), ~0.3 us a
          row of three metrics.
    """
    out_bounds[0] = at = 0
    for row in range(len(rows.entity)):
        low = names.bounds[rows.entity[row]]
        high = names.bounds[rows.entity[row] + 1]
        at = write_piece(pieces, HEADER, out, at)
        at = write_long(ID_DIGITS, out, at)
        at = write_event_id(pieces, rows.offsets[row], names.data, low, high, scratch, out, at)
        at = write_piece(pieces, DETECTOR, out, at)
        at = write_piece(pieces, MODEL, out, at)
        at = write_text(names.data, low, high, out, at)
        at = write_long(rows.time_ms[row], out, at)
        at = write_optional(rows.numbers[row, SCORE], out, at)
        at = write_optional(rows.numbers[row, SEVERITY], out, at)
        at = write_optional(rows.numbers[row, THRESHOLD], out, at)
        out[at] = rows.flags[row, IS_ANOMALY]
        out[at + 1] = rows.flags[row, COLD_START]
        at = write_piece(pieces, STATES + rows.state[row], out, at + 2)
        at = write_optional(rows.numbers[row, WARMUP_PERCENT], out, at)
        at = write_optional(rows.numbers[row, WARMUP_MINUTES_LEFT], out, at)
        out[at] = NULL if rows.top_metric[row] < 0 else PRESENT
        at += 1
        if rows.top_metric[row] >= 0:
            at = write_piece(pieces, METRICS + rows.top_metric[row], out, at)
        out[at] = rows.flags[row, LATE]
        out[at + 1] = rows.flags[row, DUPLICATE]
        out[at + 2] = rows.flags[row, IMPUTED]
        at = write_piece(pieces, SOURCE, out, at + 3)
        at = write_long(rows.offsets[row], out, at)
        at = _write_metrics(pieces, rows.listed[row], rows.metric_numbers[row], out, at)
        out[at] = rows.flags[row, AHEAD]
        out[at + 1] = NULL if rows.episodes[row, 0] == 0 else PRESENT
        at += 2
        if rows.episodes[row, 0] != 0:
            at = write_text(rows.episodes[row], 0, ID_DIGITS, out, at)
        out_bounds[row + 1] = at
