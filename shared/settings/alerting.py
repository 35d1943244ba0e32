"""Settings of what people are told: incidents, and where they are sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from shared.settings.section import Names, Section


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


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

    @field_validator("entity_prefix")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _pattern(value)


class TargetSettings(Section):
    """One receiver of notices, and what it gets.

    min_severity : least severity class
    entities     : regular expression that the whole name of one of the incident's entities matches
    secret       : key of the HMAC signature of a webhook's body
    """

    kind: Literal["alertmanager", "webhook", "email"]
    url: str = ""
    body: Literal["json", "slack"] = "json"
    secret: str = Field("", repr=False)
    to: Names = ()
    sender: str = "lapwing@localhost"
    smtp_user: str = ""
    smtp_password: str = Field("", repr=False)
    smtp_tls: Literal["none", "starttls", "tls"] = "starttls"
    min_severity: Literal["info", "minor", "major", "critical"] = "minor"
    entities: str = ".*"

    @field_validator("entities")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _pattern(value)

    @model_validator(mode="after")
    def _complete(self) -> TargetSettings:
        schemes = "smtp" if self.kind == "email" else "https?"
        example = "smtp://mail:587" if self.kind == "email" else "http://host:9093"
        if not re.fullmatch(rf"{schemes}://[^/@\s]+(/\S*)?", self.url):
            raise ValueError(f"url of kind {self.kind} must be a URL such as {example}")
        if self.kind == "email" and not self.to:
            raise ValueError("to must name the recipients of kind email")
        return self


class SilenceSettings(Section):
    """Incidents that nobody is told about for a while.

    entities : regular expression that the whole name of every entity of the incident matches
    metric   : every metric of the incident; empty = any
    """

    entities: str = ".*"
    metric: str = ""
    start: datetime | None = None
    end: datetime | None = None

    @field_validator("entities")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _pattern(value)

    @field_validator("start", "end")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def _no_targets(value: object) -> object:
    return {} if value == "" else value


def _no_silences(value: object) -> object:
    return () if value == "" else value


class NotifySettings(Section):
    """Where incidents are sent, and how patiently."""

    group: str = Field(
        "lapwing-notify", min_length=1, description="consumer group of the notify service"
    )
    targets: Annotated[dict[str, TargetSettings], BeforeValidator(_no_targets)] = Field(
        default_factory=dict,
        description=(
            'receivers by name, in JSON or TOML: {"ops": {"kind": "webhook", "url": "https://..."}}'
        ),
    )
    silences: Annotated[tuple[SilenceSettings, ...], BeforeValidator(_no_silences)] = Field(
        (), description='incidents that are not sent: [{"entities": "test-.*", "end": "..."}]'
    )
    timeout_s: float = Field(10, gt=0, le=300, description="longest wait for a receiver's answer")
    max_per_minute: float = Field(
        60, gt=0, le=60_000, description="most notices to one receiver; further ones wait"
    )
    give_up_after_s: float = Field(
        3600,
        gt=0,
        le=604_800,
        description="a notice that could not be sent for this long goes to topics.unsent",
    )
    hold_hours: float = Field(
        24,
        gt=0,
        le=8760,
        description=(
            "Alertmanager shows an open incident for this long after it was last sent; it is sent"
            " again after a quarter of that time"
        ),
    )

    @field_validator("targets")
    @classmethod
    def _names(cls, value: dict[str, TargetSettings]) -> dict[str, TargetSettings]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
                raise ValueError(f"target name {name!r}: letters, digits, _ and -")
        return value
