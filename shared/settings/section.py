"""What all groups of settings have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def comma_list(value: Any) -> Any:
    """Return the parts of a text ``a,b``; all else as it is."""
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


Names = Annotated[tuple[str, ...], BeforeValidator(comma_list)]
"""Several names: a list in the file, ``a,b`` in the environment."""
NoneAllowed = BeforeValidator(_none)
"""Marks a setting that may be left out: ``none`` and an empty text say so, as TOML has no null."""


class Section(BaseModel):
    """A frozen group of settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
