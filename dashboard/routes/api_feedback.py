"""The routes of feedback on incidents: the only ones that write.

Invariant: nothing is written in read-only mode, nor about an incident that is not known. That the
           request comes from this page or from a program is checked in ``access``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from dashboard.access import problem
from dashboard.history.incidents import incident
from dashboard.history.queries import History
from dashboard.history.similar import feedback_of
from dashboard.routes import parameters as given
from dashboard.routes.answers import answer, unknown
from shared.errors import LapwingError
from shared.incidents.feedback import MOST_AUTHOR, MOST_NOTE, Was, feedback_on

Write = Callable[[str, dict[str, Any] | None], None]
"""Writes feedback on an incident, None = takes it back; raises LapwingError."""

IncidentId = Annotated[str, Path(pattern=given.EVENT_ID)]


class GivenFeedback(BaseModel):
    """The body of feedback."""

    model_config = ConfigDict(extra="forbid")

    incident_id: str = Field(pattern=given.EVENT_ID)
    was: Was
    note: str = Field("", max_length=MOST_NOTE)
    author: str = Field("", max_length=MOST_AUTHOR)


def add_feedback(app: FastAPI, history: History, write: Write, *, read_only: bool) -> None:
    """Add the routes of feedback.

    read_only : dashboard.read_only
    """

    @app.get("/v1/feedback/{incident_id}", summary="Feedback on one incident")
    def show_feedback(incident_id: IncidentId) -> Response:
        """Return what was said about an incident, null = nothing, and whether more can be."""
        found = feedback_of(history.db, incident_id)
        return answer({"feedback": found, "read_only": read_only})

    @app.post("/v1/feedback", summary="Say whether an incident was real")
    def give_feedback(body: GivenFeedback) -> Response:
        """Write feedback into its topic; it replaces earlier feedback on the incident."""
        found = incident(history.db, body.incident_id)
        if found is None:
            return unknown("incident", body.incident_id)
        now_ms = int(time.time() * 1000)
        record = feedback_on(found, body.was, body.note, body.author, now_ms)
        return _written(body.incident_id, record)

    @app.delete("/v1/feedback/{incident_id}", summary="Take feedback back")
    def take_back(incident_id: IncidentId) -> Response:
        """Delete the feedback on an incident."""
        return _written(incident_id, None)

    def _written(incident_id: str, record: dict[str, Any] | None) -> Response:
        if read_only:
            return problem(403, "this page only shows: dashboard.read_only is set")
        try:
            write(incident_id, record)
        except LapwingError as error:
            return problem(503, f"the feedback was not written: {error}")
        return answer({"feedback": record, "read_only": False})
