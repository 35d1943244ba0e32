"""The base class and the types of all sections of settings."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict


def comma_list(value: Any) -> Any:
    """Split a text ``a,b``; return other values unchanged."""
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(comma_list)]
"""Several names: a list in the file, ``a,b`` in the environment."""
Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression."""
NoneAllowed = BeforeValidator(_none)
"""Marks an optional setting: ``none`` and an empty text mean null, which TOML does not have."""


class Section(BaseModel):
    """A frozen section of settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
