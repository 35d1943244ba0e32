"""What every client on librdkafka shares: its log lines, and its bytes of a membership.

Invariant: each client logs connection errors at most once in REPEAT_S.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterator

LOG = logging.getLogger("lapwing.kafka")

REPEAT_S = 30.0
"""Time between two logged connection errors of a client, which has several a second."""

FLUSH_STEP_S = 0.001
"""First step of a flush; those after FLUSH_STEPS_S take a hundredth of a second."""

FLUSH_STEPS_S = 0.05


class _RateLimit(logging.Filter):
    """Passes a client's connection errors once in REPEAT_S.

    Errors of a producer that retries to get its producer id are passed at debug level only: a new
    cluster takes a second to answer, and an outage is logged by the caller that waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged_s: dict[tuple[object, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a line of librdkafka, given facility, client and text."""
        if not isinstance(record.args, tuple) or len(record.args) != 3:
            return True
        facility, client, text = record.args
        if facility not in ("FAIL", "ERROR", "GETPID"):
            return True
        if facility == "GETPID" and str(text).rstrip().endswith("retrying"):
            return LOG.isEnabledFor(logging.DEBUG)
        self._logged_s = {
            source: logged_s
            for source, logged_s in self._logged_s.items()
            if 0 <= record.created - logged_s < REPEAT_S
        }
        if (facility, client) in self._logged_s:
            return False
        self._logged_s[facility, client] = record.created
        return True


LOG.addFilter(_RateLimit())


def log_statistics(text: str) -> None:
    """Log what a client with ``statistics.interval.ms`` says about itself, as JSON."""
    LOG.debug("statistics %s", text)


def flush_steps(timeout_s: float) -> Iterator[float]:
    """Divide the time limit of a flush, so that it ends soon after the last acknowledgement.

    The library itself looks for acknowledgements every 10 ms only, because none is reported.

    yields : seconds for which to flush next; at least one step, also without any time
    """
    began_s = now_s = time.monotonic()
    while True:
        left_s = max(0.0, began_s + timeout_s - now_s)
        yield min(left_s, FLUSH_STEP_S if now_s < began_s + FLUSH_STEPS_S else 0.01)
        now_s = time.monotonic()
        if now_s >= began_s + timeout_s:
            return


def is_member(metadata: object) -> bool:
    """Return whether serialised group metadata is that of a member with a generation.

    metadata : "CGMDv2:", int32 generation, group, 0, member, 0, ...; anything else is not judged
    """
    if not isinstance(metadata, bytes) or not metadata.startswith(b"CGMDv2:"):
        return True
    (generation,) = struct.unpack_from("=i", metadata, 7)
    fields = metadata[11:].split(b"\0")
    return generation >= 0 and len(fields) > 1 and bool(fields[1])
