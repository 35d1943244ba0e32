"""Parameters of the API: their types, bounds and descriptions.

Invariant: a parameter out of bounds is refused with its name and what is allowed, never adjusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BeforeValidator, StringConstraints

EARLIEST_MS, LATEST_MS = -(2**53), 2**53
MOST_ENTITIES = 100
EVENT_ID = r"^[0-9a-f]{32}$"
MOST_WIDTH = 4_000


def _time_ms(value: object) -> object:
    """Turn a time into ms since 1970; ISO 8601 without an offset is UTC."""
    text = str(value).strip()
    try:
        if text.lstrip("-").isdigit():
            time_ms = int(text)
        else:
            moment = datetime.fromisoformat(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            time_ms = int(aware.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"{ALLOWED_TIMES}") from None
    if not EARLIEST_MS <= time_ms <= LATEST_MS:
        raise ValueError(f"{ALLOWED_TIMES}")
    return time_ms


ALLOWED_TIMES = "a time is milliseconds since 1970 or ISO 8601, e.g. 2014-02-14T14:30:00Z"


@dataclass(frozen=True, slots=True)
class Span:
    """A time range; None = open."""

    from_ms: int | None
    to_ms: int | None


class State(StrEnum):
    """States of an entity."""

    WARMING = "WARMING"
    READY = "READY"
    STALE = "STALE"


class Order(StrEnum):
    """Orders of the list of entities."""

    SEVERITY = "severity"
    NAME = "name"
    NEWEST = "newest"


class View(StrEnum):
    """Views of the page that follow live."""

    FLEET = "fleet"
    ENTITY = "entity"
    ANOMALY = "anomaly"
    INCIDENTS = "incidents"
    PIPELINE = "pipeline"
    MODELS = "models"


Text = StringConstraints(max_length=256)
Time = BeforeValidator(_time_ms)
From = Annotated[
    int | None, Time, Query(alias="from", description=f"Start of the range; {ALLOWED_TIMES}.")
]
To = Annotated[
    int | None, Time, Query(alias="to", description=f"End of the range; {ALLOWED_TIMES}.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="Most rows in the answer.")]


async def _span(from_ms: From = None, to_ms: To = None) -> Span:  # async needs no thread
    return Span(from_ms, to_ms)


Between = Annotated[Span, Depends(_span)]
EntityName = Annotated[str | None, Text, Query(description="Exact name of an entity.")]
Width = Annotated[
    int,
    Query(ge=16, le=MOST_WIDTH, description="Pixels of the chart; at most four points for each."),
]
