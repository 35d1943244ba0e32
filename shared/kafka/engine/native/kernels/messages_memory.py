"""Copies fetched messages into columns, and queues records for sending.

Invariant: a message is read between its fetch and its destruction, by the thread that has fetched
it. librdkafka copies what is queued before its function returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

from shared.kafka.engine.native.kernels.foreign_memory import (
    call_for_half,
    call_for_nothing,
    call_for_word,
    call_produce,
    call_without_arguments,
    copy_memory,
    load_half,
    load_word,
)
from shared.kafka.engine.native.kernels.message_columns import (
    BROKER_MS,
    ERROR,
    FIELDS,
    HAS_HEADERS,
    PARTITION,
    VALUE,
)

Int64s = npt.NDArray[np.int64]

_FIELD_COUNT = len(FIELDS)
_I8 = types.int64
_WORDS = types.Array(types.int64, 1, "C")
_READ_WORDS = types.Array(types.int64, 1, "C", readonly=True)
_TABLE = types.Array(types.int64, 2, "C")
_BYTES = types.Array(types.uint8, 1, "C")
_PAIR: Any = types.Tuple((_I8, _I8))  # type: ignore[no-untyped-call]


@njit(
    [types.void(_READ_WORDS, _READ_WORDS, _I8, _I8, _WORDS, _TABLE)],
    cache=True,
    nogil=True,
)
def describe(
    messages: Int64s,
    layout: Int64s,
    timestamp: int,
    headers: int,
    scratch: Int64s,
    table: npt.NDArray[np.int64],
) -> None:
    """Describe messages, without their bytes.

    messages  : int64 (n,)    their addresses
    layout    : int64 (7,)    offsets of FIELDS in ``rd_kafka_message_t``
    timestamp : address of ``rd_kafka_message_timestamp``
    headers   : address of ``rd_kafka_message_headers``
    scratch   : int64 (1,)    what these two write and nobody reads
    table     : int64 (n, 9)  gets the columns ERROR ... HAS_HEADERS; an error has no time
    """
    unread = types.int64(scratch.ctypes.data)
    for row in range(len(messages)):
        message = messages[row]
        table[row, ERROR] = load_half(message + layout[ERROR])
        table[row, PARTITION] = load_half(message + layout[PARTITION])
        for column in range(VALUE, _FIELD_COUNT):
            table[row, column] = load_word(message + layout[column])
        table[row, BROKER_MS] = -1
        table[row, HAS_HEADERS] = 0
        if table[row, ERROR] == 0:
            table[row, BROKER_MS] = call_for_word(timestamp, message, unread)
            if call_for_half(headers, message, unread) == 0:
                table[row, HAS_HEADERS] = 1


@njit([types.void(_TABLE, _READ_WORDS, _I8, _READ_WORDS, _BYTES)], cache=True, nogil=True)
def copy_column(
    table: npt.NDArray[np.int64],
    rows: Int64s,
    column: int,
    bounds: Int64s,
    out: npt.NDArray[np.uint8],
) -> None:
    """Join the values or keys of rows; the messages must still exist.

    table  : int64 (n, 9)      from ``describe``
    rows   : int64 (k,)
    column : VALUE or KEY; the next column is its size in bytes
    bounds : int64 (k + 1,)    running sum of these sizes, from 0
    out    : uint8             at least bounds[-1]
    """
    start = types.int64(out.ctypes.data)
    for place in range(len(rows)):
        row = rows[place]
        copy_memory(start + bounds[place], table[row, column], table[row, column + 1])


@njit([types.void(_READ_WORDS, _I8)], cache=True, nogil=True)
def destroy(messages: Int64s, function: int) -> None:
    """Destroy messages, whose addresses are invalid after it.

    messages : int64 (n,)  their addresses
    function : address of ``rd_kafka_message_destroy``
    """
    for row in range(len(messages)):
        call_for_nothing(function, messages[row])


@njit(
    [_PAIR(_READ_WORDS, _READ_WORDS, _READ_WORDS, _READ_WORDS, _I8, _I8)],
    cache=True,
    nogil=True,
)
def queue_rows(
    functions: Int64s,
    memory: Int64s,
    value_bounds: Int64s,
    key_bounds: Int64s,
    start: int,
    stop: int,
) -> tuple[int, int]:
    """Queue rows for one topic until one is refused; an empty value or key is null.

    functions    : int64 (2,)  addresses of ``rd_kafka_produce`` and ``rd_kafka_last_error``
    memory       : int64 (3,)  topic handle, joined values, joined keys; the caller keeps them
                   alive until this returns
    value_bounds : int64 (n + 1,)
    key_bounds   : int64 (n + 1,)
    start, stop  : rows of 0..n
    returns      : the first row that was not queued, and its error; stop and 0 after all
    """
    for row in range(start, stop):
        value_bytes = value_bounds[row + 1] - value_bounds[row]
        key_bytes = key_bounds[row + 1] - key_bounds[row]
        failed = call_produce(
            functions[0],
            memory[0],
            memory[1] + value_bounds[row] if value_bytes > 0 else 0,
            value_bytes,
            memory[2] + key_bounds[row] if key_bytes > 0 else 0,
            key_bytes,
        )
        if failed != 0:
            return row, call_without_arguments(functions[1])
    return stop, 0
