"""What a user asks to have explained: an event id, or the coordinates of an input record.

Invariant: a target is parsed before anything is connected to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import ConfigError

_EVENT_ID = re.compile(r"[0-9a-f]{32}")
_COORDINATES = re.compile(r"(?:(?P<topic>[A-Za-z0-9._-]+)\[(?P<a>\d+)\]@|(?P<b>\d+):)(?P<at>\d+)")


@dataclass(frozen=True, slots=True)
class ExplainTarget:
    """An event id, or partition and offset of an input record; the other is empty or None.

    event_id : 32 hex digits
    """

    event_id: str = ""
    partition: int | None = None
    offset: int | None = None

    @classmethod
    def parse(cls, text: str, input_topic: str) -> ExplainTarget:
        """Parse ``EVENT_ID``, ``PARTITION:OFFSET`` or ``TOPIC[PARTITION]@OFFSET``.

        raises : ConfigError with what is allowed
        """
        plain = text.strip()
        if _EVENT_ID.fullmatch(plain.lower()):
            return cls(event_id=plain.lower())
        found = _COORDINATES.fullmatch(plain)
        if not found:
            raise ConfigError(
                f"explain {text!r}: write an event id (32 hex digits, as `lapwing tail anomalies"
                " --json` shows) or PARTITION:OFFSET of an input record, e.g. 3:1024"
            )
        if found["topic"] not in (None, input_topic):
            raise ConfigError(
                f"explain {text!r}: only records of the input {input_topic} can be explained"
                " (topics.input)"
            )
        return cls(partition=int(found["a"] or found["b"]), offset=int(found["at"]))
