"""Settings of incidents: which episodes become one, and which labels their entities have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import Field, model_validator

from shared.settings.section import Names, Pattern, Section


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
    entity_prefix: Pattern = Field(
        "",
        description=(
            "regular expression; entities are grouped only if it matches the same text at the"
            " beginning of their names, e.g. [^-]+ for web-1 and web-2; empty = any entities"
        ),
    )
    labels: Pattern = Field(
        "",
        description=(
            "regular expression with named groups that the whole name of an entity matches; what"
            " they match are its labels, e.g. (?P<service>[a-z]+)-[0-9]+"
        ),
    )
    same_labels: Names = Field(
        (), description="entities are grouped only if these labels are the same"
    )
    shared_metrics: bool = Field(
        True, description="group several entities only if they have a metric in common"
    )
    max_episodes: int = Field(
        200, ge=1, le=500, description="most episodes of one incident; further ones open another"
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

    @model_validator(mode="after")
    def _known_labels(self) -> IncidentSettings:
        refuse_unknown_labels("same_labels", self.same_labels, self.label_names)
        return self

    @property
    def label_names(self) -> list[str]:
        """Names of the labels that entities may have."""
        return sorted(re.compile(self.labels).groupindex)

    def labels_of(self, entity: str) -> dict[str, str]:
        """Return the labels of an entity; none where its name does not match."""
        found = re.fullmatch(self.labels, entity) if self.labels else None
        if found is None:
            return {}
        return {name: text for name, text in found.groupdict().items() if text is not None}


def refuse_unknown_labels(setting: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Raise ValueError where a setting names a label that incidents.labels does not define."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(
            f"{setting} names {', '.join(unknown)}, but the groups of incidents.labels are"
            f" {', '.join(known) or 'none'}"
        )
