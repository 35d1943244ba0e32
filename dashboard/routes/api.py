"""The HTTP interface: entities, series, anomalies, the pipeline, and the live stream.

Invariant: every route only reads; its cost is bounded by its parameters, which are checked first.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from dashboard.access import COOKIE, Access, problem
from dashboard.history.budget import budget
from dashboard.history.incidents import activations, counts, incident_of
from dashboard.history.queries import AnomalyFilter, EntityFilter, History, Range
from dashboard.history.similar import similar
from dashboard.hub import Hub
from dashboard.model_reports import ModelReports, with_age
from dashboard.routes import parameters as given
from dashboard.routes.answers import answer, refusal, refuse_parameters, unknown
from dashboard.routes.shared_answers import SharedAnswers
from shared.events import Kind, SeverityClass
from shared.incidents.similar import SHOWN
from shared.kernels.units import HOUR_MS

DEFAULT_HOURS = 24
SPARK_WIDTH = 96
Pipeline = Callable[[], Mapping[str, Any]]


class SignIn(BaseModel):
    """The body of a sign-in."""

    token: str


def add_routes(
    app: FastAPI,
    history: History,
    hub: Hub,
    pipeline: Pipeline,
    access: Access,
    shared: SharedAnswers,
    models: tuple[ModelReports, str, str],
) -> None:
    """Add the routes of the interface but those of incidents and models.

    pipeline : returns lag, latency, problems and positions of the reader
    models   : the published ones, consumer group of the predictors, and their input
    """
    reports, group, topic = models
    app.add_exception_handler(RequestValidationError, refuse_parameters)
    _add_session(app, access)
    _add_entities(app, history, shared)
    _add_anomalies(app, history, shared)
    _add_similar(app, history, shared)
    _add_stream(app, hub)

    @app.get("/v1/pipeline", summary="Whether the results can be trusted")
    async def show_pipeline(
        minutes: Annotated[int, Query(ge=1, le=1_440, description="Length of the rates.")] = 60,
    ) -> Response:
        """Return rates per minute, lag per partition, dead letters by reason, models, problems."""

        def find() -> Response:
            active = activations(history.db, group, topic)
            return answer(
                {
                    **pipeline(),
                    "fleet": {**history.totals(), **counts(history.db)},
                    "budget": budget(history.db, active),
                    "rates": history.rates(minutes),
                    "dead_letters": history.dead_letters(20),
                    "models": with_age(history.models(), active, reports.summary()["models"]),
                    "now_ms": int(time.time() * 1000),
                    "history": history.counts(),
                }
            )

        return await shared.get(("pipeline", minutes), find)


def _add_session(app: FastAPI, access: Access) -> None:
    @app.post("/v1/session", summary="Sign in with the token", status_code=204)
    def sign_in(body: SignIn, request: Request) -> Response:
        """Set the cookie with which the page asks; only needed where dashboard.token is set."""
        site = request.headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none"):
            return problem(403, "a sign-in from another site is refused")
        if not hmac.compare_digest(body.token.encode(), access.token.encode()):
            return problem(401, "the token is wrong: it is the setting dashboard.token")
        response = Response(status_code=204)
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, access.session(), httponly=True, samesite="strict", secure=secure
        )
        return response


def _add_entities(app: FastAPI, history: History, shared: SharedAnswers) -> None:
    @app.get("/v1/entities", summary="Entities, the most severe first")
    async def list_entities(
        q: Annotated[str, given.Text, Query(description="Part of the name, case ignored.")] = "",
        state: Annotated[given.State | None, Query()] = None,
        anomalous: Annotated[bool, Query(description="Only with an open episode.")] = False,
        order: given.Order = given.Order.SEVERITY,
        limit: given.Limit = 50,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        spark_hours: Annotated[
            float | None,
            Query(gt=0, le=24 * 400, description="Adds a small chart of this many hours."),
        ] = None,
    ) -> Response:
        """Return one page of entities, the number that match, and totals of the fleet."""
        wanted = EntityFilter(q, state.value if state else "", anomalous, order.value)
        if spark_hours is not None and limit > given.MOST_ENTITIES:
            return refusal("limit", f"at most {given.MOST_ENTITIES} with spark_hours", limit)

        def find() -> Response:
            total, rows = history.entities(wanted, limit, offset)
            if spark_hours is not None:
                charts = history.sparks(rows, spark_hours, SPARK_WIDTH)
                rows = [{**row, "chart": chart} for row, chart in zip(rows, charts, strict=True)]
            fleet = {**history.totals(), **counts(history.db)}
            return answer({"total": total, "entities": rows, "fleet": fleet})

        return await shared.get(("entities", wanted, limit, offset, spark_hours), find)

    @app.get("/v1/entities/{entity:path}", summary="One entity")
    def show_entity(entity: Annotated[str, given.Text]) -> Response:
        """Return an entity's state and the names of its metrics."""
        found = history.entity(entity)
        return unknown("entity", entity) if found is None else answer(found)

    @app.get("/v1/series", summary="Values, expected values and bands of an entity's metrics")
    def show_series(
        entity: Annotated[str, given.Text, Query()],
        span: given.Between,
        metric: Annotated[list[str] | None, Query(max_length=24)] = None,
        width: given.Width = 800,
    ) -> Response:
        """Return at most four points per pixel, so that no spike vanishes; and episodes.

        Without a range: the last 24 hours before the entity's newest record.
        """
        found = history.entity(entity)
        if found is None:
            return unknown("entity", entity)
        unknown_metrics = [name for name in metric or () if name not in found["metrics"]]
        if unknown_metrics:
            return refusal("metric", f"one of {', '.join(found['metrics'])}", unknown_metrics[0])
        end_ms = found["last_ms"] if span.to_ms is None else span.to_ms
        start_ms = end_ms - DEFAULT_HOURS * HOUR_MS if span.from_ms is None else span.from_ms
        if start_ms >= end_ms:
            return refusal("from", "a time before to", start_ms)
        asked = Range(start_ms, end_ms, width)
        document = {"entity": found, "from_ms": start_ms, "to_ms": end_ms}
        charts = history.series(entity, metric or (), asked)
        return answer({**document, "metrics": charts, **history.spans(entity, asked)})


def _add_anomalies(app: FastAPI, history: History, shared: SharedAnswers) -> None:
    @app.get("/v1/anomalies", summary="Anomaly events with their episodes, newest first")
    async def list_anomalies(
        span: given.Between,
        entity: given.EntityName = None,
        metric: Annotated[str | None, given.Text, Query()] = None,
        kind: Annotated[list[Kind] | None, Query(max_length=16)] = None,
        severity: Annotated[list[SeverityClass] | None, Query(max_length=8)] = None,
        is_open: Annotated[bool, Query(alias="open", description="Only open episodes.")] = False,
        limit: given.Limit = 50,
        before: Annotated[
            str | None,
            Query(pattern=r"^-?\d{1,16}:[0-9a-f]{32}$", description="`next` of the page before."),
        ] = None,
    ) -> Response:
        """Return alarms (kind anomaly) unless kinds are given, and where the next page begins."""
        time_text, _, event_id = (before or "").partition(":")
        wanted = AnomalyFilter(
            entity,
            metric,
            tuple(one.value for one in kind or (Kind.ANOMALY,)),
            tuple(one.value for one in severity or ()),
            span.from_ms,
            span.to_ms,
            is_open,
            (int(time_text), event_id) if before else None,
        )

        def find() -> Response:
            rows = history.anomalies(wanted, limit)
            last = rows[-1] if len(rows) == limit else None
            following = f"{last['event_time']}:{last['event_id']}" if last else None
            return answer({"anomalies": rows, "next": following})

        return await shared.get(("anomalies", wanted, limit), find)

    @app.get("/v1/anomalies/{event_id}", summary="One anomaly event")
    def show_anomaly(event_id: Annotated[str, Path(pattern=given.EVENT_ID)]) -> Response:
        """Return an event as it lies in the topic, its episode, and the episode's records."""
        found = history.anomaly(event_id)
        if found is None:
            return unknown("event", event_id)
        episode = found["episode_id"]
        return answer(
            {**found, "incident_id": incident_of(history.db, episode) if episode else None}
        )


def _add_similar(app: FastAPI, history: History, shared: SharedAnswers) -> None:
    @app.get("/v1/anomalies/{event_id}/similar", summary="Similar past anomalies")
    async def list_similar(
        event_id: Annotated[str, Path(pattern=given.EVENT_ID)],
        limit: Annotated[int, Query(ge=1, le=20, description="Most rows in the answer.")] = SHOWN,
    ) -> Response:
        """Return earlier episodes of other incidents that looked alike when they opened."""
        episode = history.episode_of(event_id)
        if episode is None:
            return unknown("event", event_id)

        def find() -> Response:
            return answer(similar(history.db, episode, limit))

        return await shared.get(("similar", episode, limit), find)


def _add_stream(app: FastAPI, hub: Hub) -> None:
    @app.get("/v1/stream", summary="Server-sent events")
    async def stream(
        view: given.View = given.View.FLEET,
        entity: given.EntityName = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Send `anomaly` events, `tick` when points arrived, and `reload` to a slow page."""
        known = last_event_id is not None and last_event_id.isdecimal()
        last_id = int(last_event_id[:18]) if known and last_event_id else None
        subscriber = hub.subscribe(view.value, entity, last_id)
        if subscriber is None:
            return problem(503, f"{hub.most} pages are open: dashboard.max_clients")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            hub.events(subscriber), media_type="text/event-stream", headers=headers
        )
