"""Conversion of fetched messages to columns.

Invariant: every message is destroyed by the call that converts it, also where that fails. Compiled
code runs over the messages; Python code runs once per partition, and for headers and errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Blob, Headers
from shared.kafka.engine.native.compiled import kernels
from shared.kafka.engine.native.errors import of_client
from shared.kafka.engine.native.kernels import message_columns as columns
from shared.kafka.engine.native.library import Library
from shared.kafka.engine.native.structs import NO_ERROR, PARTITION_EOF, Message
from shared.kafka.engine.port import ClientError, Fetched

Int64s = npt.NDArray[np.int64]

_LAYOUT = np.array([getattr(Message, name).offset for name in columns.FIELDS], np.int64)


class MessageReader:
    """Reads messages that the consumer of this library has fetched."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._timestamp = library.address("message_timestamp")
        self._headers = library.address("message_headers")
        self._destroy = library.address("message_destroy")
        self._scratch = np.zeros(1, np.int64)

    def take(self, client: int, messages: Int64s) -> Fetched:
        """Convert messages of one topic, and destroy them.

        messages : int64 (n,)  their addresses, in the order of the fetch
        """
        try:
            return self._read(client, messages)
        finally:
            kernels().destroy(messages, self._destroy)

    def _read(self, client: int, messages: Int64s) -> Fetched:
        table = np.empty((len(messages), columns.COLUMNS), np.int64)
        kernels().describe(messages, _LAYOUT, self._timestamp, self._headers, self._scratch, table)
        codes = table[:, columns.ERROR]
        records = np.flatnonzero(codes == NO_ERROR)
        if len(records) == len(messages):
            return Fetched(self._batches(messages, table, records), {}, ())
        ends: dict[int, int] = {}
        errors: list[ClientError] = []
        for row in np.flatnonzero(codes != NO_ERROR).tolist():
            partition = int(table[row, columns.PARTITION])
            if codes[row] == PARTITION_EOF:
                ends[partition] = max(0, int(table[row, columns.OFFSET]))
            else:
                errors.append(self._error(client, int(messages[row]), int(codes[row]), partition))
        return Fetched(self._batches(messages, table, records), ends, errors)

    def _error(self, client: int, message: int, code: int, partition: int) -> ClientError:
        text = (self._library.message_errstr(message) or b"").decode("utf-8", "replace")
        known = partition if partition >= 0 else None
        return of_client(self._library, client, code, text or None, known)

    def _batches(self, messages: Int64s, table: Int64s, records: Int64s) -> list[Batch]:
        """Group records by partition in order of first appearance, log order kept."""
        if not len(records):
            return []
        topic = self._topic(int(messages[records[0]]))
        partitions = table[records, columns.PARTITION]
        if (partitions == partitions[0]).all():
            return [self._batch(topic, messages, table, records)]
        return [
            self._batch(topic, messages, table, records[partitions == partition])
            for partition in dict.fromkeys(partitions.tolist())
        ]

    def _batch(self, topic: str, messages: Int64s, table: Int64s, rows: Int64s) -> Batch:
        with_headers = np.flatnonzero(table[rows, columns.HAS_HEADERS]).tolist()
        headers = {row: self._headers_of(int(messages[rows[row]])) for row in with_headers}
        return Batch(
            topic,
            int(table[rows[0], columns.PARTITION]),
            _joined(table, rows, columns.VALUE),
            _joined(table, rows, columns.KEY),
            table[rows, columns.OFFSET],
            table[rows, columns.BROKER_MS],
            {row: pairs for row, pairs in headers.items() if pairs},
        )

    def _headers_of(self, message: int) -> Headers:
        found: Sequence[tuple[bytes, bytes]] = self._library.headers_of(message)
        return tuple((name.decode("utf-8", "replace"), value) for name, value in found)

    def _topic(self, message: int) -> str:
        handle = Message.from_address(message).topic
        return str(self._library.topic_name(handle).decode())


def _joined(table: Int64s, rows: Int64s, column: int) -> Blob:
    """Return the values or keys of rows."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(table[rows, column + 1], out=bounds[1:])
    out = np.empty(int(bounds[-1]), np.uint8)
    kernels().copy_column(table, rows, column, bounds, out)
    return Blob(out.tobytes(), bounds)
