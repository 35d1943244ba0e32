"""Dead letters: the original bytes with the reason and the coordinates in Kafka Connect's headers.

Invariant: the record is kept in full. A value beyond the topic's limit is truncated, and headers
have its length and hash.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Blob, Headers, Outgoing
from shared.events import Reason
from shared.ports import Decoder

PREFIX = "__connect.errors."
REASON = "lapwing.reason"
GROUP = PREFIX + "connector.name"
"""Header that names the consumer group which could not read the record."""


def dead_letters(
    topic: str,
    batch: Batch,
    rejected: npt.NDArray[np.int64],
    reasons: npt.NDArray[np.uint8],
    decoder: Decoder,
    stage: str,
    max_value_bytes: int,
) -> Outgoing:
    """Turn rejected rows into records for the dead-letter topic.

    rejected        : int64 (r,)  rows of the batch
    reasons         : uint8 (r,)  events.Reason
    decoder         : the one that rejected them; it adds details to the message
    stage           : what rejected them, e.g. the consumer group
    max_value_bytes : longer values are truncated to this
    """
    values: list[bytes] = []
    keys: list[bytes] = []
    headers: dict[int, Headers] = {}
    for row, reason in zip(rejected.tolist(), map(Reason, reasons.tolist()), strict=True):
        value = batch.values[row]
        message = message_of(batch, row, reason, decoder)
        headers[len(values)] = letter_headers(
            batch, row, reason.code, message, stage, max_value_bytes
        )
        values.append(value[:max_value_bytes])
        keys.append(batch.keys[row])
    return Outgoing(topic, Blob.join(values), Blob.join(keys), headers)


def message_of(batch: Batch, row: int, reason: Reason, decoder: Decoder) -> str:
    """Return the message of a rejected row's dead letter."""
    detail = decoder.detail(batch.values[row], batch.headers.get(row, ()), reason)
    return f"{reason.sentence}: {detail}" if detail else reason.sentence


def letter_headers(
    batch: Batch, row: int, code: str, message: str, stage: str, max_value_bytes: int
) -> list[tuple[str, bytes]]:
    """Return the headers of a row's dead letter: the record's own, then those added.

    code            : why it was rejected, for programs; ``message`` is for people
    stage           : what rejected it, e.g. the consumer group
    max_value_bytes : a longer value is truncated; its length and hash are added then
    """
    value = batch.values[row]
    added = [
        (REASON, code),
        (PREFIX + "topic", batch.topic),
        (PREFIX + "partition", str(batch.partition)),
        (PREFIX + "offset", str(int(batch.offsets[row]))),
        (GROUP, stage),
        (PREFIX + "stage", "VALUE_CONVERTER"),
        (PREFIX + "exception.class.name", f"lapwing.{code}"),
        (PREFIX + "exception.message", message),
    ]
    if len(value) > max_value_bytes:
        added += [
            ("lapwing.cut.bytes", str(len(value))),
            ("lapwing.cut.sha256", hashlib.sha256(value).hexdigest()),
        ]
    return [*batch.headers.get(row, ()), *((name, text.encode()) for name, text in added)]
