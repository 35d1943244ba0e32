"""Checks of the schema registry, the schemas, and this machine's clock against the registry's."""

from __future__ import annotations

import email.utils
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Protocol

import schemas
from lapwing.doctor.findings import Finding
from lapwing.topics import result_subjects
from shared.errors import ConfigError, LapwingError
from shared.settings import Settings

CLOCK_WARN_S = 5.0


class Subjects(Protocol):
    """A schema registry."""

    @property
    def address(self) -> str:
        """The URL without user and password."""
        ...

    def subjects(self) -> list[str]:
        """Return the subjects; raises LapwingError if no registry answers at the URL."""
        ...

    def lookup(self, subject: str, schema_text: str) -> int:
        """Return the schema's id; raises ConfigError if it is not registered."""
        ...


def check_schemas(settings: Settings, registry: Subjects) -> Iterator[Finding]:
    """Look up every schema."""
    if not settings.needs_registry:
        unused = "input.format and output.format are json: no registry is needed"
        yield Finding("registry", "ok", unused)
        yield Finding("schemas", "ok", unused)
        return
    needs = (
        "start the Schema Registry, or name it: SCHEMA_REGISTRY_URL, e.g. http://localhost:8081"
        " (some registries need a path, such as /apis/ccompat/v7)"
    )
    try:
        registry.subjects()
        missing, remedy = _missing(settings, registry)
    except LapwingError as error:
        yield Finding("registry", "failed", str(error), needs)
        yield Finding("schemas", "skipped", "needs the registry")
        return
    yield Finding("registry", "ok", f"{registry.address} answers")
    if missing:
        yield Finding("schemas", "failed", missing, remedy)
        return
    if settings.output.is_json:
        yield Finding("schemas", "ok", "the results are in JSON: none is needed")
        return
    number = len(result_subjects(settings))
    yield Finding("schemas", "ok", f"all {number} schemas of the results are registered")


def _missing(settings: Settings, registry: Subjects) -> tuple[str, str]:
    """Return the missing schema and the remedy; empty if all are registered."""
    for subject, name, _ in result_subjects(settings):
        try:
            registry.lookup(subject, schemas.text(name))
        except ConfigError as error:
            return str(error), "lapwing topics ensure"
    return "", ""


def check_clock(
    settings: Settings,
    registry_clock: Callable[[Settings], float | None],
    clock: Callable[[], float],
) -> Finding:
    """Compare the clocks."""
    if not settings.needs_registry:
        return Finding("clock", "skipped", "is compared with the registry's, which is not used")
    registry_s = registry_clock(settings)
    if registry_s is None:
        message = "cannot be compared: the registry's answers have no Date header"
        return Finding("clock", "skipped", message)
    offset_s = abs(clock() - registry_s)
    if offset_s > CLOCK_WARN_S:
        remedy = (
            "synchronise this machine (timedatectl, chrony); scores do not depend on it, latencies"
            " and ages do"
        )
        return Finding("clock", "warning", f"{offset_s:.0f} s apart from the registry's", remedy)
    return Finding("clock", "ok", "agrees with the registry's to a few seconds")


def registry_time_s(settings: Settings) -> float | None:
    """Return the registry's clock from its Date header, in seconds since 1970.

    returns : resolution of one second; None without a valid header
    """
    try:
        url, timeout_s = settings.registry.url, settings.registry.timeout_s
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date")
    except (OSError, ValueError):
        return None
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
