"""Times as text, for decoders that read one record with a Python function.

Invariant: a text is read as the compiled decoders read it.
"""

from __future__ import annotations

from shared.decode.kernels.iso import NO_TIME, read_iso
from shared.kernels.wire import BYTES, I8, Bytes, Int, kernel

__all__ = ["NO_TIME", "iso_time"]


@kernel(BYTES, I8, I8)
def iso_time(data: Bytes, start: Int, stop: Int) -> Int:
    """Return the instant of the text data[start:stop], ms since 1970 UTC; NO_TIME if it is none."""
    return read_iso(data, start, stop)
