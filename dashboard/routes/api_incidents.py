"""The routes of incidents and of models.

Invariant: every route only reads; its cost is bounded by its parameters, which are checked first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from fastapi.responses import Response

from dashboard.history.incidents import IncidentFilter, activations, incident, incidents
from dashboard.history.queries import History
from dashboard.model_reports import ModelReports
from dashboard.routes import parameters as given
from dashboard.routes.answers import answer, unknown
from dashboard.routes.shared_answers import SharedAnswers
from shared.events import SeverityClass

PICTURE_HEADERS = {
    # A picture styles itself; nothing else in it may act.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cache-Control": "private, max-age=86400",
}
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


class IncidentState(StrEnum):
    """States of an incident."""

    OPEN = "open"
    CLOSED = "closed"


class IncidentOrder(StrEnum):
    """Orders of the list of incidents."""

    NEWEST = "newest"
    SEVERITY = "severity"


def add_incidents(app: FastAPI, history: History, shared: SharedAnswers) -> None:
    """Add the routes of incidents."""

    @app.get("/v1/incidents", summary="Incidents, newest first")
    async def list_incidents(
        span: given.Between,
        state: IncidentState | None = None,
        severity: Annotated[list[SeverityClass] | None, Query(max_length=8)] = None,
        entity: given.EntityName = None,
        q: Annotated[
            str, given.Text, Query(description="Part of the title or of an entity's name.")
        ] = "",
        order: IncidentOrder = IncidentOrder.NEWEST,
        limit: given.Limit = 50,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> Response:
        """Return one page of incidents, without their episodes, and the number that match."""
        wanted = IncidentFilter(
            state.value if state else "",
            tuple(one.value for one in severity or ()),
            entity,
            q,
            span.from_ms,
            span.to_ms,
            order.value,
        )

        def find() -> Response:
            total, rows = incidents(history.db, wanted, limit, offset)
            return answer({"total": total, "incidents": rows, "clock_ms": history.clock_ms()})

        return await shared.get(("incidents", wanted, limit, offset), find)

    @app.get("/v1/incidents/{incident_id}", summary="One incident with its episodes")
    def show_incident(incident_id: Annotated[str, Path(pattern=given.EVENT_ID)]) -> Response:
        """Return an incident as it lies in the topic."""
        found = incident(history.db, incident_id)
        if found is None:
            return unknown("incident", incident_id)
        return answer({**found, "clock_ms": history.clock_ms()})


def add_models(
    app: FastAPI, history: History, reports: ModelReports, group: str, topic: str
) -> None:
    """Add the routes of models.

    group, topic : consumer group of the predictors, and their input
    """

    @app.get("/v1/models", summary="Models, and which partitions they score")
    def list_models() -> Response:
        """Return published models, newest first, and what scores each partition now."""
        active = activations(history.db, group, topic)
        found = reports.summary()
        scored = {row["model_id"]: row for row in history.models()}
        models = [_with_use(model, active, scored) for model in found["models"]]
        known = {model["model_id"] for model in models}
        elsewhere = [row for name, row in scored.items() if name is not None and name not in known]
        return answer(
            {
                **found,
                "models": models,
                "not_on_the_volume": elsewhere,
                "without_model": scored.get(None),
                "partitions": [_partition(one) for one in active],
                "now_ms": int(time.time() * 1000),
            }
        )

    @app.get("/v1/models/{sha256}", summary="One model and its evaluation report")
    def show_model(sha256: Sha256) -> Response:
        """Return what the manifest says, and the report's entities and pictures."""
        found = reports.model(sha256)
        if found is None:
            return unknown("model", sha256)
        active = activations(history.db, group, topic)
        scored = {row["model_id"]: row for row in history.models()}
        now_ms = int(time.time() * 1000)
        return answer({**_with_use(found, active, scored), "now_ms": now_ms})

    @app.get("/v1/models/{sha256}/pictures/{name}", summary="A picture of a model's report")
    def show_picture(
        sha256: Sha256, name: Annotated[str, Path(min_length=5, max_length=130)]
    ) -> Response:
        """Return an SVG picture of one entity."""
        data = reports.picture(sha256, name)
        if data is None:
            return unknown("picture", name)
        return Response(data, media_type="image/svg+xml", headers=PICTURE_HEADERS)


def _with_use(
    model: Mapping[str, Any],
    active: Sequence[Mapping[str, Any]],
    scored: Mapping[str | None, Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Add to a model which partitions it scores, and how many entities it scored last."""
    partitions = [
        one["source_partition"] for one in active if one["model_sha256"] == model["sha256"]
    ]
    use = scored.get(model["model_id"])
    return {**model, "partitions": partitions, "scored_entities": use["entities"] if use else 0}


def _partition(activation: Mapping[str, Any]) -> Mapping[str, Any]:
    detection = activation["settings"].get("detection") or {}
    return {
        "partition": activation["source_partition"],
        "since_offset": activation["source_offset"],
        "since_ms": activation["written_ms"],
        "detector": activation.get("detector_id"),
        "model_id": activation["model_sha256"][:16] or None,
        "model_version": activation.get("model_version") or None,
        "state_version": activation.get("state_version"),
        "threshold": detection.get("threshold"),
        "alarms_per_day": detection.get("alarms_per_day"),
    }
