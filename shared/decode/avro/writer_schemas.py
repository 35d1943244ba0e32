"""With which schemas the records of the input were written, by the id that each record carries.

Invariant: each schema is asked for, checked and compiled once; an outage is never an unknown
schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shared.decode.avro.fingerprints import Fingerprint, fingerprint_of
from shared.decode.avro.plan import WriterPlan, compile_plan
from shared.decode.avro.rows import Plans
from shared.decode.field_choice import MetSchema, UnsupportedSchema
from shared.errors import SchemaNotAllowed
from shared.settings import InputSettings

UNKNOWN_FOR_S = 30.0
"""An id that the registry does not know is asked for again after so long."""


Met = Callable[[MetSchema], None]
"""Is called with each schema that is met and allowed."""


def ignore(met: MetSchema) -> None:
    """Do nothing about a schema that is met."""


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
        self._plans: dict[int, WriterPlan | UnsupportedSchema | None] = {}
        self._fingerprints: dict[int, Fingerprint] = {}
        self._unknown_until_s: dict[int, float] = {}

    @property
    def plans(self) -> Plans:
        """How records of each schema that was prepared are read; None = nobody knows it."""
        return self._plans

    def prepare(self, ids: Iterable[int]) -> None:
        """Ask for the schemas among ids that are not known yet, and compile them.

        raises : TransportError, SchemaNotAllowed
        """
        for schema_id in ids:
            if self._plans.get(schema_id) is None and self._is_due(schema_id):
                self._plans[schema_id] = self._look_up(schema_id)

    def readable_fingerprints(self) -> list[Fingerprint]:
        """Return the fingerprints of the schemas that were prepared and whose records are read."""
        return [
            self._fingerprints[schema_id]
            for schema_id, plan in self._plans.items()
            if isinstance(plan, WriterPlan)
        ]

    def _is_due(self, schema_id: int) -> bool:
        return self._clock() >= self._unknown_until_s.get(schema_id, -float("inf"))

    def _look_up(self, schema_id: int) -> WriterPlan | UnsupportedSchema | None:
        text = self._text_of(schema_id)
        if text is None:
            self._unknown_until_s[schema_id] = self._clock() + UNKNOWN_FOR_S
            return None
        found = fingerprint_of(text)
        self._check_allowed(schema_id, found)
        plan = plan_or_unfit(text, self._settings)
        self._met(_met(schema_id, found, plan))
        self._fingerprints[schema_id] = found
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


def _met(schema_id: int, found: Fingerprint, plan: WriterPlan | UnsupportedSchema) -> MetSchema:
    facts = {"crc64": found.crc64, "sha256": found.sha256}
    if isinstance(plan, UnsupportedSchema):
        return MetSchema(schema_id, facts, str(plan))
    return MetSchema(schema_id, {"record": plan.record, "read_as": plan.fields.line} | facts)
