"""With which schemas the records of the input were written, by the id that each record carries.

Law: each schema is asked for, checked and compiled once; an outage is never an unknown schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shared.decode.avro.fingerprints import Fingerprint, fingerprint_of
from shared.decode.avro.plan import WriterPlan, compile_plan
from shared.decode.avro.rows import Plans
from shared.decode.field_choice import UnsupportedSchema
from shared.errors import SchemaNotAllowed
from shared.settings import InputSettings

UNKNOWN_FOR_S = 30.0
"""An id that the registry does not know is asked for again after so long."""

Met = Callable[[int, Fingerprint, WriterPlan | UnsupportedSchema], None]
"""Hears of each schema that is met and allowed: its id, its fingerprint, and how its records are
read or why they cannot be.
"""


class WriterSchemas:
    """Compiled writer schemas by id.

    text_of : the schema's text, None = there is none of that id; raises TransportError while it
              cannot be told
    where   : whom it asks, for errors
    clock   : monotonic seconds
    """

    def __init__(
        self,
        text_of: Callable[[int], str | None],
        where: str,
        settings: InputSettings,
        clock: Callable[[], float],
        met: Met,
    ) -> None:
        self._text_of = text_of
        self._where = where
        self._settings = settings
        self._clock = clock
        self._met = met
        self._plans: dict[int, WriterPlan | UnsupportedSchema] = {}
        self._fingerprints: dict[int, Fingerprint] = {}
        self._unknown: dict[int, float] = {}

    def plans(self, ids: Sequence[int]) -> Plans:
        """Return a plan, a UnsupportedSchema or None for each id.

        raises : TransportError, SchemaNotAllowed
        """
        return {schema_id: self._plan(schema_id) for schema_id in ids}

    def fingerprints(self, ids: Iterable[int]) -> list[Fingerprint]:
        """Return the fingerprints of those among the ids that ``plans`` was asked for and that
        exist.
        """
        return [
            self._fingerprints[schema_id] for schema_id in ids if schema_id in self._fingerprints
        ]

    def _plan(self, schema_id: int) -> WriterPlan | UnsupportedSchema | None:
        if schema_id in self._plans:
            return self._plans[schema_id]
        if self._clock() < self._unknown.get(schema_id, -float("inf")):
            return None
        text = self._text_of(schema_id)
        if text is None:
            self._unknown[schema_id] = self._clock() + UNKNOWN_FOR_S
            return None
        found = fingerprint_of(text)
        self._check_allowed(schema_id, found)
        plan = plan_or_unfit(text, self._settings)
        self._met(schema_id, found, plan)
        self._fingerprints[schema_id] = found
        self._plans[schema_id] = plan
        return plan

    def _check_allowed(self, schema_id: int, found: Fingerprint) -> None:
        allowed = self._settings.schema_fingerprints
        if allowed and not found.is_one_of(allowed):
            raise SchemaNotAllowed(
                f"a record is written with schema {schema_id} of {self._where}, whose fingerprint"
                f" {found} is not among input.schema_fingerprints; add it there once its writer is"
                " known, or keep that producer off the topic and set the group's offsets behind"
                " its records"
            )


def plan_or_unfit(text: str, settings: InputSettings) -> WriterPlan | UnsupportedSchema:
    """Return how records of a writer schema are read, or why they cannot be."""
    try:
        return compile_plan(text, settings)
    except UnsupportedSchema as unfit:
        return unfit
