"""Settings of ``lapwing export opensearch``: where the server is, and what it gets."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from shared.settings.section import Names, Section


class OpenSearchSettings(Section):
    """An OpenSearch server that keeps results as documents."""

    url: str = Field("http://localhost:9200", description="URL of OpenSearch")
    user: str = Field("", description="user name, or empty")
    password: str = Field("", description="its password")
    ca_file: str = Field(
        "", description="certificates that an https server's is checked with; empty = the system's"
    )
    index: str = Field(
        "lapwing",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="beginning of the indices' names: lapwing-anomalies, lapwing-incidents ...",
    )
    results: Names = Field(
        ("anomalies", "incidents"),
        description="what is written: anomalies, incidents, scores",
    )
    group: str = Field(
        "lapwing-opensearch",
        min_length=1,
        description="beginning of the consumer groups' names, one group for each kind of results",
    )
    timeout_s: float = Field(30.0, gt=0, le=600, description="longest wait for one request")
    give_up_after_s: float = Field(
        240.0, gt=0, description="the export ends with an error after this long without OpenSearch"
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/@\s]+(/\S*)?", value):
            raise ValueError(
                "not a URL such as http://localhost:9200; user and password have settings of their"
                " own"
            )
        return value

    @field_validator("results")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = ("anomalies", "incidents", "scores")
        unknown = [one for one in value if one not in known]
        if unknown or not value:
            raise ValueError(f"{', '.join(unknown) or 'nothing'}; allowed are {', '.join(known)}")
        return tuple(dict.fromkeys(value))
