"""Settings of what people are told: incidents."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from shared.settings.section import Section


class IncidentSettings(Section):
    """Which episodes become one incident, and how long incidents are kept."""

    group: str = Field(
        "lapwing-incidents", min_length=1, description="consumer group of the incidents service"
    )
    group_within_s: float = Field(
        300,
        ge=0,
        le=86_400,
        description=(
            "episodes of several entities are one incident if they start at most this long before"
            " or after its first one; 0 = each entity has its own"
        ),
    )
    entity_prefix: str = Field(
        "",
        description=(
            "regular expression; entities are grouped only if it matches the same text at the"
            " beginning of their names, e.g. [^-]+ for web-1 and web-2; empty = any entities"
        ),
    )
    shared_metrics: bool = Field(
        True, description="group several entities only if they have a metric in common"
    )
    max_episodes: int = Field(
        200, ge=1, le=1000, description="most episodes of one incident; further ones open another"
    )
    keep_days: float = Field(
        30, gt=0, le=3650, description="a closed incident is deleted after this time"
    )
    stale_days: float = Field(
        14,
        gt=0,
        le=3650,
        description="an open incident without any news is closed (expired) after this time",
    )

    @field_validator("entity_prefix")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value
