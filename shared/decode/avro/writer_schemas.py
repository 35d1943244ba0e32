"""The writer schemas of the input by id.

Invariant: each schema is looked up, checked and compiled once; an outage of the registry is never
taken for an unknown schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shared.decode.avro.fingerprints import Fingerprint, fingerprint_of
from shared.decode.avro.plan import WriterPlan, compile_plan
from shared.decode.avro.rows import Plans
from shared.decode.field_choice import Met, MetSchema, UnsupportedSchema
from shared.errors import SchemaNotAllowed
from shared.settings import InputSettings

UNKNOWN_FOR_S = 30.0
"""Time after which an unknown id is looked up again."""


class WriterSchemas:
    """Compiled writer schemas by id.

    text_of : the schema's text, None = unknown id; raises TransportError
    where   : the registry's address, for errors
    clock   : monotonic seconds
    met     : see Met
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
        """The plans of the schemas that were prepared; None = unknown id."""
        return self._plans

    def prepare(self, ids: Iterable[int]) -> None:
        """Look up and compile the schemas that are not known yet.

        raises : TransportError, SchemaNotAllowed
        """
        for schema_id in ids:
            if self._plans.get(schema_id) is None and self._is_due(schema_id):
                self._plans[schema_id] = self._look_up(schema_id)

    def readable_fingerprints(self) -> list[Fingerprint]:
        """Return the fingerprints of the prepared schemas whose records can be read."""
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
        fingerprint = fingerprint_of(text)
        self._check_allowed(schema_id, fingerprint)
        plan = plan_or_unsupported(text, self._settings)
        self._met(_met(schema_id, fingerprint, plan))
        self._fingerprints[schema_id] = fingerprint
        return plan

    def _check_allowed(self, schema_id: int, fingerprint: Fingerprint) -> None:
        allowed = self._settings.schema_fingerprints
        if allowed and not fingerprint.is_one_of(allowed):
            raise SchemaNotAllowed(
                f"a record has schema {schema_id} of {self._where}, whose fingerprint {fingerprint}"
                " is not in input.schema_fingerprints; add it there if its producer may write to"
                " the topic, otherwise stop that producer and set the group's offsets to after its"
                " records"
            )


def plan_or_unsupported(text: str, settings: InputSettings) -> WriterPlan | UnsupportedSchema:
    """Compile a writer schema; return the error if its records cannot be used."""
    try:
        return compile_plan(text, settings)
    except UnsupportedSchema as error:
        return error


def _met(
    schema_id: int, fingerprint: Fingerprint, plan: WriterPlan | UnsupportedSchema
) -> MetSchema:
    facts = {"crc64": fingerprint.crc64, "sha256": fingerprint.sha256}
    if isinstance(plan, UnsupportedSchema):
        return MetSchema(schema_id, facts, str(plan))
    return MetSchema(schema_id, {"record": plan.record, "read_as": plan.fields.line} | facts)
