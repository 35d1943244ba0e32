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
from shared.errors import ConfigError, TransportError
from shared.settings import Settings

CLOCK_WARN_S = 5.0


class Subjects(Protocol):
    """What the doctor asks of a registry."""

    def lookup(self, subject: str, schema_text: str) -> int:
        """Return the schema's id; raises ConfigError when it is not registered."""
        ...


def check_schemas(settings: Settings, registry: Subjects) -> Iterator[Finding]:
    """Look up every schema."""
    ids: dict[str, int] = {}
    for subject, name, _ in result_subjects(settings):
        try:
            ids[subject] = registry.lookup(subject, schemas.text(name))
        except TransportError as error:
            remedy = (
                "start the Schema Registry, or name it: SCHEMA_REGISTRY_URL (now"
                f" {settings.registry.url})"
            )
            yield Finding("registry", "failed", str(error), remedy)
            yield Finding("schemas", "skipped", "needs the registry")
            return
        except ConfigError as error:
            yield Finding("registry", "ok", f"{settings.registry.url} answers")
            yield Finding("schemas", "failed", str(error), "lapwing topics ensure")
            return
    yield Finding("registry", "ok", f"{settings.registry.url} answers")
    yield Finding("schemas", "ok", f"all {len(ids)} that results are written with are registered")


def check_clock(
    settings: Settings,
    registry_clock: Callable[[Settings], float | None],
    clock: Callable[[], float],
) -> Finding:
    """Compare the clocks."""
    theirs = registry_clock(settings)
    if theirs is None:
        said = "nobody to compare with: the registry does not say what time it is"
        return Finding("clock", "skipped", said)
    apart_s = abs(clock() - theirs)
    if apart_s > CLOCK_WARN_S:
        remedy = (
            "synchronise this machine (timedatectl, chrony); scores do not depend on it, latencies"
            " and ages do"
        )
        return Finding("clock", "warning", f"{apart_s:.0f} s apart from the registry's", remedy)
    return Finding("clock", "ok", "agrees with the registry's to a few seconds")


def registry_time_s(settings: Settings) -> float | None:
    """Return the registry's clock in seconds since 1970 by its Date header, a second coarse.

    None : it does not tell
    """
    try:
        url, timeout_s = settings.registry.url, settings.registry.timeout_s
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310
            said = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        said = error.headers.get("Date")
    except (OSError, ValueError):
        return None
    try:
        return email.utils.parsedate_to_datetime(said).timestamp() if said else None
    except ValueError:
        return None
