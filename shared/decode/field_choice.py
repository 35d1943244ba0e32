"""How the fields of a record are read in any format: entity, time, metrics, left out.

Invariant: plain values; a decoder creates them, and what displays them adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SHOWN_NAMES = 20
"""Most names that a message lists; records may have hundreds of fields."""


class UnsupportedSchema(ValueError):
    """Records of this schema cannot be used; the message names the field and the setting."""


@dataclass(frozen=True, slots=True)
class MetSchema:
    """A writer schema that occurred in the input, or a new set of names where there is none.

    schema_id   : or another name of the schema; None = the format has no schemas
    facts       : short texts for a log: its fingerprints, and how its records are read
    unsupported : why its records cannot be used; empty where they can
    """

    schema_id: int | str | None
    facts: Mapping[str, str]
    unsupported: str = ""


Met = Callable[[MetSchema], None]
"""Called with each new schema that is allowed."""


def ignore(met: MetSchema) -> None:
    """Do nothing with a new schema."""


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """How the fields of a record are read; names as in the schema.

    record    : the schema's full name
    entity    : fields that make up the entity, in the order of input.entity_fields
    time      : field of the event time
    time_unit : s, ms, us, ns or iso
    time_by   : what the unit was inferred from
    metrics   : numeric fields that are kept, in schema order
    left_out  : (field, reason) of all other fields, in schema order
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
        """The choice as four short texts."""
        return {
            "entity": "/".join(self.entity),
            "time": f"{self.time} ({self.time_by})",
            "metrics": listed(self.metrics),
            "left_out": listed([f"{name} ({reason})" for name, reason in self.left_out])
            or "nothing",
        }

    @property
    def line(self) -> str:
        """The choice as one line."""
        return ", ".join(f"{name.replace('_', ' ')}={text}" for name, text in self.facts.items())


def listed(names: Sequence[str]) -> str:
    """Join names by commas, at most SHOWN_NAMES of them."""
    text = ", ".join(names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{text} and {more} more" if more > 0 else text
