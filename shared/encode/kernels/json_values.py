"""Encodes columns as JSON: score events, one object per record.

Invariant: the bytes are those that orjson writes for the same record: no spaces, UTF-8, fields in
the order of ``schemas/score_event.avsc``. Numbers arrive as text, which orjson wrote.
"""

from __future__ import annotations

import numpy as np
from numba import types

from shared.encode.kernels.avro_values import (
    AHEAD,
    COLD_START,
    DETECTOR,
    DUPLICATE,
    HEADER,
    ID_DIGITS,
    IMPUTED,
    IS_ANOMALY,
    LATE,
    METRIC_NUMBERS,
    METRICS,
    MODEL,
    ROW_NUMBERS,
    SCORE_ROWS,
    SOURCE,
    STATES,
    TEXTS,
    ScoreRows,
    Texts,
    write_event_id,
    write_piece,
)
from shared.kernels.wire import (
    Bytes,
    Int64s,
    helper,
    kernel,
    write_digits,
)

WORDS = (
    "null",
    "false",
    "true",
    ',"event_time":',
    ',"score":',
    ',"severity":',
    ',"threshold":',
    ',"is_anomaly":',
    ',"cold_start":',
    ',"warmup_percent":',
    ',"warmup_minutes_left":',
    ',"top_metric":',
    ',"late":',
    ',"duplicate":',
    ',"imputed":',
    ',"metrics":[',
    '{"name":',
    ',"value":',
    ',"expected":',
    ',"lower":',
    ',"upper":',
    ',"severity":',
    '],"ahead":',
    ',"episode_id":',
)
"""Constant text of all rows, in the order in which a row uses it."""

_NULL, _FALSE, _TRUE, _TIME, _SCORE, _SEVERITY, _THRESHOLD, _IS_ANOMALY, _COLD_START = range(9)
_WARMUP_PERCENT, _WARMUP_MINUTES, _TOP_METRIC, _LATE, _DUPLICATE, _IMPUTED, _LIST = range(9, 16)
_METRIC, _VALUE, _AHEAD, _EPISODE = 16, 17, 22, 23

LONGEST_ESCAPE = 6
_QUOTE, _BACKSLASH, _SPACE, _COMMA = 34, 92, 32, 44
_CLOSE, _SQUARE_CLOSE = 125, 93
_U, _ZERO = 117, 48
_SHORT = np.array([0, 0, 0, 0, 0, 0, 0, 0, 98, 116, 110, 0, 102, 114], np.uint8)
"""Letters of the short escapes, by control character: \\b, \\t, \\n, \\f, \\r."""

_U1S, _I8S = types.uint8[::1], types.int64[::1]


@helper
def write_quoted(data: Bytes, start: int, stop: int, out: Bytes, at: int) -> int:
    """Write data[start:stop], UTF-8, as a JSON string; return the position after it."""
    out[at] = _QUOTE
    at += 1
    for i in range(start, stop):
        byte = data[i]
        if byte >= _SPACE and byte != _QUOTE and byte != _BACKSLASH:
            out[at] = byte
            at += 1
            continue
        out[at] = _BACKSLASH
        if byte >= _SPACE:
            out[at + 1] = byte
            at += 2
        elif byte < len(_SHORT) and _SHORT[byte] != 0:
            out[at + 1] = _SHORT[byte]
            at += 2
        else:
            low = byte & np.uint8(15)
            out[at + 1] = _U
            out[at + 2] = _ZERO
            out[at + 3] = _ZERO
            out[at + 4] = np.uint8(_ZERO) + (byte >> np.uint8(4))
            out[at + 5] = low + np.uint8(_ZERO if low < 10 else 87)
            at += LONGEST_ESCAPE
    out[at] = _QUOTE
    return at + 1


@helper
def _write_flag(words: Texts, word: int, flag: int, out: Bytes, at: int) -> int:
    at = write_piece(words, word, out, at)
    return write_piece(words, _TRUE if flag != 0 else _FALSE, out, at)


@helper
def _write_number(words: Texts, word: int, numbers: Texts, number: int, out: Bytes, at: int) -> int:
    at = write_piece(words, word, out, at)
    return write_piece(numbers, number, out, at)


@kernel(_U1S, _I8S)
def number_bounds(text: Bytes, bounds: Int64s) -> None:
    """Close the gaps between the numbers of a JSON array of numbers.

    text   : uint8, written: as orjson writes an array; then the numbers alone, one after another
    bounds : int64 (k + 1,), written: number i is text[bounds[i]:bounds[i + 1]]
    """
    bounds[0] = at = 0
    number = 1
    for i in range(1, len(text)):
        if text[i] == _COMMA or text[i] == _SQUARE_CLOSE:
            if number < len(bounds):
                bounds[number] = at
            number += 1
        else:
            text[at] = text[i]
            at += 1


@kernel(TEXTS, TEXTS, TEXTS, SCORE_ROWS, TEXTS, _U1S, _U1S, _I8S)
def encode_score_rows(
    words: Texts,
    pieces: Texts,
    names: Texts,
    rows: ScoreRows,
    numbers: Texts,
    scratch: Bytes,
    out: Bytes,
    out_bounds: Int64s,
) -> None:
    """Encode score events, in the order of the schema's fields.

    words           : WORDS
    pieces          : constant bytes of the rows of a partition, as for Avro; each is the text
                      between two values
    names           : of the entities, not escaped
    rows            : see ScoreRows; of its floats only the text is read
    numbers         : ((n + T) * 5,)  text of ``rows.numbers``, then of the numbers of the T listed
                      metrics alone, row by row
    scratch         : uint8  work memory for the text that an event id hashes
    out, out_bounds : written: record i is out[out_bounds[i]:out_bounds[i + 1]]

    Twin: tests/reference/avro.py::score_records with orjson.  Cost: O(bytes written).
    """
    out_bounds[0] = at = 0
    metric_number = ROW_NUMBERS * len(rows.entity)
    for row in range(len(rows.entity)):
        low = names.bounds[rows.entity[row]]
        high = names.bounds[rows.entity[row] + 1]
        flags = rows.flags[row]
        number = row * ROW_NUMBERS
        at = write_piece(pieces, HEADER, out, at)
        at = write_event_id(pieces, rows.offsets[row], names.data, low, high, scratch, out, at)
        at = write_piece(pieces, DETECTOR, out, at)
        at = write_piece(pieces, MODEL, out, at)
        at = write_quoted(names.data, low, high, out, at)
        at = write_piece(words, _TIME, out, at)
        at = write_digits(rows.time_ms[row], out, at)
        at = _write_number(words, _SCORE, numbers, number, out, at)
        at = _write_number(words, _SEVERITY, numbers, number + 1, out, at)
        at = _write_number(words, _THRESHOLD, numbers, number + 2, out, at)
        at = _write_flag(words, _IS_ANOMALY, flags[IS_ANOMALY], out, at)
        at = _write_flag(words, _COLD_START, flags[COLD_START], out, at)
        at = write_piece(pieces, STATES + rows.state[row], out, at)
        at = _write_number(words, _WARMUP_PERCENT, numbers, number + 3, out, at)
        at = _write_number(words, _WARMUP_MINUTES, numbers, number + 4, out, at)
        at = write_piece(words, _TOP_METRIC, out, at)
        if rows.top_metric[row] < 0:
            at = write_piece(words, _NULL, out, at)
        else:
            at = write_piece(pieces, METRICS + rows.top_metric[row], out, at)
        at = _write_flag(words, _LATE, flags[LATE], out, at)
        at = _write_flag(words, _DUPLICATE, flags[DUPLICATE], out, at)
        at = _write_flag(words, _IMPUTED, flags[IMPUTED], out, at)
        at = write_piece(pieces, SOURCE, out, at)
        at = write_digits(rows.offsets[row], out, at)
        at = write_piece(words, _LIST, out, at)
        listed = rows.listed[row]
        for k in range(len(listed)):
            if listed[k] < 0:
                break
            if k > 0:
                out[at] = _COMMA
                at += 1
            at = write_piece(words, _METRIC, out, at)
            at = write_piece(pieces, METRICS + listed[k], out, at)
            for value in range(METRIC_NUMBERS):
                at = _write_number(words, _VALUE + value, numbers, metric_number, out, at)
                metric_number += 1
            out[at] = _CLOSE
            at += 1
        at = _write_flag(words, _AHEAD, flags[AHEAD], out, at)
        at = write_piece(words, _EPISODE, out, at)
        if rows.episodes[row, 0] == 0:
            at = write_piece(words, _NULL, out, at)
        else:
            at = write_quoted(rows.episodes[row], 0, ID_DIGITS, out, at)
        out[at] = _CLOSE
        at += 1
        out_bounds[row + 1] = at
