"""Fixtures for a real Kafka and registry: one of each per session, a fresh dataset per test.

What is given wins (KAFKA_BOOTSTRAP_SERVERS, SCHEMA_REGISTRY_URL), then containers, then Maven; else
the tests are skipped loudly, or fail where REQUIRE_KAFKA=1. TEST_SERVICES=container or =maven takes
that kind or none. TEST_ENGINE=native (or =python) chooses the Kafka client of the settings and of
the services that the tests start, except in tests marked ``each_engine``.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from shared.kafka import Admin, topic_specs
from shared.settings import Settings
from tests.support.services import broker, container, maven
from tests.support.services.registry import IMAGE as REGISTRY_IMAGE
from tests.support.services.registry import ContainerRegistry, MavenRegistry
from tests.support.services.service import Service

Running = TypeVar("Running", bound=Service | MavenRegistry | ContainerRegistry)

__all__ = [
    "dataset",
    "engine",
    "kafka",
    "kafka_service",
    "ready",
    "registry_service",
    "registry_settings",
    "registry_url",
    "settings",
]


each_engine = pytest.mark.parametrize("engine", ["python", "native"])
"""Runs a test that uses ``settings`` once with each Kafka client."""


def _running(service: Running, request: pytest.FixtureRequest) -> Iterator[Running]:
    """Start a service and yield it; after a failed session, print the end of its log; close it."""
    try:
        service.start()
        yield service
        if request.session.testsfailed:
            print(f"\n--- the end of the log of {service.name}:\n{service.log(40)}")
    finally:
        service.close()


@pytest.fixture(scope="session")
def kafka_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Provide the session's broker, to be killed and restarted; skip if it is an external one."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        pytest.skip("KAFKA_BOOTSTRAP_SERVERS names a broker that is not ours to kill")
    service = broker.new_kafka(kind("Kafka", broker.image(), "KAFKA_BOOTSTRAP_SERVERS"))
    yield from _running(service, request)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """bootstrap.servers of the session's broker."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        return given
    service: Service = request.getfixturevalue("kafka_service")
    return service.address


@pytest.fixture(scope="session")
def registry_service(request: pytest.FixtureRequest) -> Iterator[MavenRegistry | ContainerRegistry]:
    """Provide the session's registry, to be killed and restarted; skip if it is external."""
    if os.environ.get("SCHEMA_REGISTRY_URL"):
        pytest.skip("SCHEMA_REGISTRY_URL names a registry that is not ours to kill")
    chosen = kind("schema registry", REGISTRY_IMAGE, "SCHEMA_REGISTRY_URL")
    service = (
        ContainerRegistry(request.getfixturevalue("kafka"))
        if chosen == "container"
        else MavenRegistry()
    )
    yield from _running(service, request)


@pytest.fixture(scope="session")
def registry_url(request: pytest.FixtureRequest) -> str:
    """Base URL of the session's schema registry."""
    given = os.environ.get("SCHEMA_REGISTRY_URL")
    if given:
        return given
    service: MavenRegistry | ContainerRegistry = request.getfixturevalue("registry_service")
    return service.url


@pytest.fixture
def dataset() -> str:
    """A dataset name, and so topic names, that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def engine() -> str:
    """Name of the Kafka client."""
    return os.environ.get("TEST_ENGINE", "auto")


@pytest.fixture
def settings(kafka: str, dataset: str, tmp_path: Path, engine: str) -> Settings:
    """Settings for the session's broker with a dataset, a group and folders of this test's own."""
    return settings_for(kafka, dataset, tmp_path).model_copy(update={"engine": engine})


@pytest.fixture
def ready(settings: Settings) -> Settings:
    """``settings`` with all topics made."""
    Admin(settings).ensure_topics(topic_specs(settings))
    return settings


@pytest.fixture
def registry_settings(settings: Settings, registry_url: str) -> Settings:
    """``settings`` that know the session's registry as well."""
    return settings.model_copy(
        update={"registry": settings.registry.model_copy(update={"url": registry_url})}
    )


def settings_for(bootstrap: str, dataset: str, folder: Path, partitions: int = 3) -> Settings:
    """Return settings with a dataset, a group and folders of their own."""
    return Settings.model_validate(
        {
            "kafka": {"bootstrap.servers": bootstrap},
            "topics": {"dataset": dataset, "partitions": partitions},
            "predict": {"group": f"group-{dataset}"},
            "models_dir": folder / "models",
            "state_dir": folder / "state",
            "engine": os.environ.get("TEST_ENGINE", "auto"),
        }
    )


def kind(what: str, image: str, variable: str) -> str:
    """Return "container" or "maven"; skip, or fail, where neither is to be had."""
    wanted = os.environ.get("TEST_SERVICES", "")
    reasons = {
        choice: "not asked for" if wanted not in ("", choice) else lacking()
        for choice, lacking in (
            ("container", lambda: container.lacking(image)),
            ("maven", maven.lacking),
        )
    }
    for choice, reason in reasons.items():
        if not reason:
            return choice
    why = (
        f"no {what} for tests (containers: {reasons['container']}; Maven: {reasons['maven']});"
        f" {variable} can name one"
    )
    return leave_out(why)


def need_maven(what: str) -> None:
    """Skip, or fail, where a service that comes from Maven's jars only is not to be had."""
    if lacking := maven.lacking():
        leave_out(f"no {what} for tests, which comes from Maven's jars only: {lacking}")


def leave_out(why: str) -> NoReturn:
    """Skip loudly; fail with REQUIRE_KAFKA=1."""
    if os.environ.get("REQUIRE_KAFKA") == "1":
        pytest.fail(f"REQUIRE_KAFKA=1, but there is {why}", pytrace=False)
    warnings.warn(f"INTEGRATION TESTS SKIPPED: {why}", stacklevel=3)
    pytest.skip(why)
