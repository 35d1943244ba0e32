"""Settings of notices: receivers and what they get, hours, silences.

Invariant: what cannot work is refused when the settings are loaded, by its name.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from string import Template
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator

from shared.settings.section import Names, Pattern, Section

TEMPLATE_FIELDS = (
    "phase",
    "severity",
    "title",
    "reason",
    "entity",
    "metric",
    "entities",
    "metrics",
    "labels",
    "start",
    "end",
    "duration",
    "closed_because",
    "incident_id",
)
"""What a template may name, as ``$title`` or ``${title}``."""

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")
_BLANKS = re.compile(r"\s+")


_WEB = r"https?://[^/@\s]+(/\S*)?", "http://host:9093"
_URLS = {
    "alertmanager": _WEB,
    "webhook": _WEB,
    "email": (r"smtp://[^/@\s]+(/\S*)?", "smtp://mail:587"),
    "apprise": (r"[A-Za-z][A-Za-z0-9+.-]*://\S+", "ntfy://ntfy.example.com/alerts"),
}
"""What the URL of a kind looks like, with an example."""


def _template(value: str) -> str:
    template = Template(value)
    if not template.is_valid():
        raise ValueError("not a template: write $NAME or ${NAME}, and $$ for a dollar sign")
    unknown = sorted(set(template.get_identifiers()) - set(TEMPLATE_FIELDS))
    if unknown:
        raise ValueError(
            f"the template names {', '.join(unknown)}; it may name {', '.join(TEMPLATE_FIELDS)}"
        )
    return value


class HoursSettings(Section):
    """Hours of the week, such as business hours.

    zone       : IANA time zone; the hours follow its clock, also when summer time begins or ends
    days       : mon to sun, or a range such as mon-fri; a night belongs to the day it begins on
    start, end : HH:MM; an end at or before the start is on the next day
    """

    zone: str = "UTC"
    days: Names = WEEK[:5]
    start: str = "09:00"
    end: str = "17:00"

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/Berlin") from error
        return value

    @field_validator("days")
    @classmethod
    def _days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        days: list[str] = []
        for part in value:
            first, _, last = part.lower().partition("-")
            last = last or first
            if first not in WEEK or last not in WEEK:
                raise ValueError(
                    f"{part!r}: days are {', '.join(WEEK)}, or a range such as mon-fri"
                )
            begin = WEEK.index(first)
            count = (WEEK.index(last) - begin) % len(WEEK) + 1
            days += [WEEK[(begin + k) % len(WEEK)] for k in range(count)]
        if not days:
            raise ValueError("days must name at least one day")
        return tuple(day for day in WEEK if day in days)

    @field_validator("start", "end")
    @classmethod
    def _time(cls, value: str) -> str:
        if not _TIME.fullmatch(value):
            raise ValueError(f"{value!r} is not a time of day, HH:MM from 00:00 to 24:00")
        return value


class TargetSettings(Section):
    """One receiver of notices, and what it gets.

    min_severity  : least severity class
    entities      : regular expression that the whole name of one of the incident's entities matches
    labels        : regular expression for each label; the same entity must match all of them
    hours         : name of notify.hours, or "not NAME" for all other times; empty = always
    outside_hours : hold = wait for the hours; drop = only the end of an incident is sent
    template      : text of the notice; empty = the usual one
    subject       : template of a mail's subject
    secret        : key of the HMAC signature of a webhook's body
    """

    kind: Literal["alertmanager", "webhook", "email", "apprise"]
    url: str = ""
    body: Literal["json", "slack"] = "json"
    secret: str = Field("", repr=False)
    to: Names = ()
    sender: str = "lapwing@localhost"
    smtp_user: str = ""
    smtp_password: str = Field("", repr=False)
    smtp_tls: Literal["none", "starttls", "tls"] = "starttls"
    min_severity: Literal["info", "minor", "major", "critical"] = "minor"
    entities: Pattern = ".*"
    labels: dict[str, Pattern] = Field(default_factory=dict)
    hours: str = ""
    outside_hours: Literal["hold", "drop"] = "hold"
    template: str = ""
    subject: str = ""

    @field_validator("template", "subject")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _template(value)

    @field_validator("hours")
    @classmethod
    def _spaced(cls, value: str) -> str:
        return _BLANKS.sub(" ", value).strip()

    @property
    def hours_name(self) -> str:
        """The name of its hours; empty = it has none."""
        return self.hours.removeprefix("not ")

    @model_validator(mode="after")
    def _complete(self) -> TargetSettings:
        allowed, example = _URLS[self.kind]
        if not re.fullmatch(allowed, self.url):
            raise ValueError(f"url of kind {self.kind} must be a URL such as {example}")
        if self.kind == "email" and not self.to:
            raise ValueError("to must name the recipients of kind email")
        if self.subject and self.kind != "email":
            raise ValueError("subject belongs to kind email")
        return self


class SilenceSettings(Section):
    """Incidents that nobody is told about for a while.

    entities : regular expression that the whole name of every entity of the incident matches
    labels   : regular expression for each label; every entity must match all of them
    metric   : every metric of the incident; empty = any
    """

    entities: Pattern = ".*"
    labels: dict[str, Pattern] = Field(default_factory=dict)
    metric: str = ""
    start: datetime | None = None
    end: datetime | None = None

    @field_validator("start", "end")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _in_order(self) -> SilenceSettings:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self


def _empty_table(value: object) -> object:
    return {} if value == "" else value


def _no_silences(value: object) -> object:
    return () if value == "" else value


class NotifySettings(Section):
    """Where incidents are sent, and how patiently."""

    group: str = Field(
        "lapwing-notify", min_length=1, description="consumer group of the notify service"
    )
    targets: Annotated[dict[str, TargetSettings], BeforeValidator(_empty_table)] = Field(
        default_factory=dict,
        description=(
            'receivers by name, in JSON or TOML: {"ops": {"kind": "webhook", "url": "https://..."}}'
        ),
    )
    hours: Annotated[dict[str, HoursSettings], BeforeValidator(_empty_table)] = Field(
        default_factory=dict,
        description=(
            'hours by name, for targets: {"office": {"zone": "Europe/Berlin", "days": "mon-fri",'
            ' "start": "09:00", "end": "17:00"}}'
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

    @field_validator("targets", "hours")
    @classmethod
    def _names(cls, value: dict[str, Section]) -> dict[str, Section]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
                raise ValueError(f"name {name!r}: letters, digits, _ and -, at most 40")
        return value

    @model_validator(mode="after")
    def _known_hours(self) -> NotifySettings:
        for name, target in self.targets.items():
            if target.hours and target.hours_name not in self.hours:
                raise ValueError(
                    f"targets.{name}.hours is {target.hours!r}, but notify.hours has"
                    f" {', '.join(sorted(self.hours)) or 'none'}"
                )
        return self
