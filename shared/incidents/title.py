"""The title of an incident: which entities, which metrics, and in which direction.

Invariant: a title has one line of bounded length and depends on the incident's episodes alone.
"""

from __future__ import annotations

from collections.abc import Sequence

LISTED = 3
"""Metrics that a title lists by name."""

_DIRECTIONS = {"up": "unusually high", "down": "unusually low", None: "unusual"}


def title_of(
    entity: str, entities: int, metrics: Sequence[str], direction: str | None, *, stopped: bool
) -> str:
    """Return the title.

    entity    : of the opening episode
    entities  : number of entities
    metrics   : names, sorted
    direction : up or down; None = neither, or different ones
    stopped   : every episode is about an entity that stopped reporting
    """
    more = f" and {entities - 1} more" if entities > 1 else ""
    if stopped:
        return f"{entity}{more} stopped reporting"
    return f"{entity}{more}: {_listed(metrics)} {_DIRECTIONS.get(direction, 'unusual')}"


def _listed(metrics: Sequence[str]) -> str:
    if not metrics:
        return "values"
    shown = ", ".join(metrics[:LISTED])
    hidden = len(metrics) - LISTED
    return shown if hidden <= 0 else f"{shown} and {hidden} more"
