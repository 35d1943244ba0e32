"""Answers of the API: documents as JSON, and refusals with one sentence for the reader.

Invariant: a number that JSON does not have (NaN, infinity) is sent as null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response

from dashboard.access import problem


def answer(document: Mapping[str, Any]) -> Response:
    """Return a document as JSON.

    document : a dict; arrays of numpy must be contiguous, float32 keeps its shortest digits
    """
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, media_type="application/json")


def refusal(field: str, allowed: str, got: object) -> Response:
    """Return the answer to a parameter that cannot be used."""
    error = {"field": field, "allowed": allowed, "got": str(got)[:200]}
    return problem(422, f"{field}: {allowed}", errors=[error])


def unknown(what: str, name: str) -> Response:
    """Return the answer to a question about something that the history does not hold."""
    return problem(
        404, f"the history has no {what} {name[:256]!r}; it may be older than dashboard.keep_days"
    )


async def refuse_parameters(_: Request, error: Exception) -> Response:
    """Return the answer to parameters that FastAPI has refused."""
    errors = [
        {
            "field": ".".join(str(part) for part in one["loc"][1:]),
            "allowed": str(one["msg"]).removeprefix("Value error, "),
            "got": str(one.get("input"))[:200],
        }
        for one in getattr(error, "errors", list)()
    ]
    sentences = "; ".join(f"{one['field']}: {one['allowed']}" for one in errors)
    return problem(422, sentences, errors=errors)
