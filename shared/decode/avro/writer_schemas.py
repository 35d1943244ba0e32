"""The writer schemas of the input by id or other name.

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
from shared.schema_ids import SchemaKey
from shared.settings import InputSettings

UNKNOWN_FOR_S = 30.0
"""Time after which an unknown schema is looked up again."""


class WriterSchemas:
    """Compiled writer schemas.

    text_of : the schema's text, None = unknown; raises TransportError
    where   : the registry's address, for errors
    clock   : monotonic seconds
    met     : see Met
    """

    def __init__(
        self,
        text_of: Callable[[SchemaKey], str | None],
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
        self._plans: dict[SchemaKey, WriterPlan | UnsupportedSchema | None] = {}
        self._fingerprints: dict[SchemaKey, Fingerprint] = {}
        self._unknown_until_s: dict[SchemaKey, float] = {}

    @property
    def plans(self) -> Plans:
        """The plans of the schemas that were prepared; None = unknown to the registry."""
        return self._plans

    def prepare(self, keys: Iterable[SchemaKey]) -> None:
        """Look up and compile the schemas that are not known yet.

        raises : TransportError, SchemaNotAllowed
        """
        for key in keys:
            if self._plans.get(key) is None and self._is_due(key):
                self._plans[key] = self._look_up(key)

    def readable_fingerprints(self) -> list[Fingerprint]:
        """Return the fingerprints of the prepared schemas whose records can be read."""
        return [
            self._fingerprints[key]
            for key, plan in self._plans.items()
            if isinstance(plan, WriterPlan)
        ]

    def _is_due(self, key: SchemaKey) -> bool:
        return self._clock() >= self._unknown_until_s.get(key, -float("inf"))

    def _look_up(self, key: SchemaKey) -> WriterPlan | UnsupportedSchema | None:
        text = self._text_of(key)
        if text is None:
            self._unknown_until_s[key] = self._clock() + UNKNOWN_FOR_S
            return None
        fingerprint = fingerprint_of(text)
        self._check_allowed(key, fingerprint)
        plan = plan_or_unsupported(text, self._settings)
        self._met(_met(key, fingerprint, plan))
        self._fingerprints[key] = fingerprint
        return plan

    def _check_allowed(self, key: SchemaKey, fingerprint: Fingerprint) -> None:
        allowed = self._settings.schema_fingerprints
        if allowed and not fingerprint.is_one_of(allowed):
            raise SchemaNotAllowed(
                f"a record has schema {key} of {self._where}, whose fingerprint {fingerprint}"
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
    key: SchemaKey, fingerprint: Fingerprint, plan: WriterPlan | UnsupportedSchema
) -> MetSchema:
    shown = key if isinstance(key, int) else str(key)
    facts = {"crc64": fingerprint.crc64, "sha256": fingerprint.sha256}
    if isinstance(plan, UnsupportedSchema):
        return MetSchema(shown, facts, str(plan))
    return MetSchema(shown, {"record": plan.record, "read_as": plan.fields.line} | facts)
