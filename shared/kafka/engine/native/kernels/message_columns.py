"""The columns in which the kernels describe fetched messages.

Invariant: the size of a value or key is in the column after its address.
"""

COLUMNS = 9
ERROR, PARTITION, VALUE, VALUE_BYTES, KEY, KEY_BYTES, OFFSET, BROKER_MS, HAS_HEADERS = range(
    COLUMNS
)

FIELDS = ("err", "partition", "payload", "payload_bytes", "key", "key_bytes", "offset")
"""What the first columns are in ``structs.Message``."""
