"""Where librdkafka's own log lines go, and how few of them are let through.

Invariant: a complaint that repeats is logged once in REPEAT_S for each client.
"""

from __future__ import annotations

import logging

LOG = logging.getLogger("lapwing.kafka")

REPEAT_S = 30.0
"""A client that cannot connect says so several times a second; of each client's complaints one in
this time is logged.
"""


class _Sparse(logging.Filter):
    """Lets a client's complaints about its connections through once in REPEAT_S.

    Of what it tries again by itself it lets nothing through: a producer without an id asks again
    until it has one, a new cluster makes it wait for a second, and an outage is said by whoever
    waits for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[tuple[object, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one of librdkafka's lines, whose arguments are facility, client and text."""
        if (
            not isinstance(record.args, tuple)
            or len(record.args) != 3
            or record.args[0] not in ("FAIL", "ERROR", "GETPID")
        ):
            return True
        if record.args[0] == "GETPID" and str(record.args[2]).rstrip().endswith("retrying"):
            return LOG.isEnabledFor(logging.DEBUG)
        name = (record.args[0], record.args[1])
        self._said_s = {
            one: at_s for one, at_s in self._said_s.items() if 0 <= record.created - at_s < REPEAT_S
        }
        if name in self._said_s:
            return False
        self._said_s[name] = record.created
        return True


LOG.addFilter(_Sparse())
