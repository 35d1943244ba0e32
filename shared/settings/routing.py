"""Settings of ``lapwing route``: records that hold several rows, or are not keyed by entity."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from shared.settings.section import Names, Section


class RouteSettings(Section):
    """Which topic is routed to the input, and how its rows become metric events.

    Totals (counters) are passed on as they are; predictors recognise them and judge their growth
    per second, and a reset is no anomaly.
    """

    source: str = Field("", description="topic that `lapwing route` reads")
    format: Literal[
        "telegraf",
        "influx",
        "collectd",
        "cloudwatch",
        "connect",
        "otlp",
        "otlp_json",
        "remote_write",
    ] = Field("telegraf", description="format of its records")
    group: str = Field(
        "lapwing-route", min_length=1, description="consumer group of the route services"
    )
    entity: str = Field(
        "{host}",
        min_length=1,
        description=(
            "entity of a row: a template over its labels; a part in brackets is left out where its"
            " label is missing, e.g. {host}[/{cpu}]"
        ),
    )
    metric: str = Field(
        "{__name__}",
        min_length=1,
        description=(
            "name of a row's metric, before '_' and the name of the field: a template as in"
            " route.entity; {__name__} is the measurement"
        ),
    )
    time_unit: Literal["", "s", "ms", "us", "ns", "iso"] = Field(
        "", description="unit of the event times, iso for text; empty = the format's default"
    )
    time_field: str = Field(
        "", description="format connect: column with the event time, dotted where it is nested"
    )
    statistics: Names = Field(
        (),
        description=(
            "of histograms and summaries: count, sum, mean, min, max, p50, p99.9 ...; empty = mean"
            " and max for cloudwatch, else count, sum, p50, p99"
        ),
    )
    dead_letters: str = Field(
        "", description="topic of records with rows that could not be read; empty = source + .dlq"
    )
    max_record_bytes: int = Field(
        1_048_576, ge=1_024, le=16_777_216, description="larger records become dead letters"
    )
    max_decompressed_bytes: int = Field(
        16_777_216,
        ge=1_024,
        le=268_435_456,
        description="remote_write: larger requests become dead letters",
    )
    max_rows: int = Field(
        50_000, ge=1, le=1_000_000, description="records with more rows become dead letters"
    )
    max_schemas: int = Field(
        500,
        ge=1,
        le=10_000,
        description="most sets of metrics, each of which is a schema of the input's subject;"
        " long form (input.metric_field) needs one",
    )
    commit_interval_ms: int = Field(
        100, ge=1, le=60_000, description="time between commits of routed rows"
    )

    @model_validator(mode="after")
    def _name(self) -> RouteSettings:
        if self.source and not self.dead_letters:
            object.__setattr__(self, "dead_letters", f"{self.source}.dlq")
        return self

    @field_validator("statistics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"count|sum|mean|min|max|p(100|\d{1,2})(\.\d{1,3})?", name):
                raise ValueError(
                    f"{name!r} is no statistic: count, sum, mean, min, max, and quantiles such as"
                    " p50 or p99.9"
                )
        return value

    @field_validator("source", "dead_letters")
    @classmethod
    def _topic(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value):
            raise ValueError("a topic's name has 1 to 249 letters, digits, '.', '_' and '-'")
        return value
