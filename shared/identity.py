"""Event ids, which are equal each time that a record is scored.

Invariant: an id is a function of the identified record, detector and kind alone.
"""

from __future__ import annotations

import numpy as np

from shared.kernels.hashing import murmur3_128


def event_id(
    topic: str, partition: int, offset: int, detector_id: str, kind: str, entity: str, metric: str
) -> str:
    """Return the id of a verdict: 32 hex digits, MurmurHash3 x64 128 of the parts joined by NUL.

    The digits are the digest's bytes in order, both words little-endian.

    Twin: tests/reference/hashing.py::event_id.
    """
    text = "\0".join((topic, str(partition), str(offset), detector_id, kind, entity, metric))
    data = np.frombuffer(text.encode(), np.uint8)
    return b"".join(
        int(word).to_bytes(8, "little") for word in murmur3_128(data, 0, len(data), 0)
    ).hex()
