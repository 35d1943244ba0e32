"""What the fields of a record are read as, whatever the format: entity, time, metrics, left out.

Invariant: values only; whoever reads a format fills them, whoever shows them adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHOWN_NAMES = 20
"""A record of hundreds of fields is named by so many of them."""


class UnsupportedSchema(ValueError):
    """Records of this schema cannot be used; the message names the field and the setting."""


@dataclass(frozen=True, slots=True)
class MetSchema:
    """A writer schema that was met in the input.

    facts       : short texts for a log: by what it is named elsewhere, how its records are read
    unsupported : why its records cannot be used; empty where they can
    """

    schema_id: int
    facts: Mapping[str, str]
    unsupported: str = ""


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """What the fields of a record are read as; names as the schema writes them.

    record    : the schema's full name
    entity    : fields that are joined to the entity, in the order of input.entity_fields
    time      : field of the event time;  time_unit: s, ms, us, ns or iso;  time_by: what says so
    metrics   : numeric fields that are kept, in schema order
    left_out  : (field, why) of all others, in schema order
    """

    record: str
    entity: tuple[str, ...]
    time: str
    time_unit: str
    time_by: str
    metrics: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def facts(self) -> dict[str, str]:
        """The same in four short texts."""
        return {
            "entity": "/".join(self.entity),
            "time": f"{self.time} ({self.time_by})",
            "metrics": listed(self.metrics),
            "left_out": listed([f"{name} ({why})" for name, why in self.left_out]) or "nothing",
        }

    @property
    def line(self) -> str:
        """The same in one line."""
        return ", ".join(f"{name.replace('_', ' ')}={text}" for name, text in self.facts.items())


def listed(names: Sequence[str]) -> str:
    """Write names in a row, the first twenty of them."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
