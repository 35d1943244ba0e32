"""What ``lapwing topics acls --commands`` prints, run by Kafka's own tool on a secured broker."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from lapwing.acls import print_acls, rights_of
from shared.settings import Settings
from tests.support.services import broker
from tests.support.services.fixtures import need_maven
from tests.support.services.secured import Security, bindings

PRINCIPAL = "User:lapwing-{service}"
TOOL = "org.apache.kafka.tools.AclCommand"
AT_ONCE = 2
SHOWN = ("setup", "predictor", "dashboard", "incidents")
"""Services whose rights have each resource, operation and pattern; a command takes a second."""


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Security]:
    need_maven("secured broker")
    security = Security(tmp_path, ("somebody",))
    try:
        security.start()
        yield security
    finally:
        security.close()


@pytest.mark.integration
def test_kafkas_own_tool_grants_the_printed_rights(
    secured: Security, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings()
    print_acls(settings, SHOWN, PRINCIPAL, "commands")
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    address = secured.kafka.address

    def run(line: str) -> None:
        words = shlex.split(line)
        assert words[0] == "kafka-acls.sh"
        words = [address if word == "BROKER" else word for word in words[1:]]
        ran = subprocess.run(
            broker.java(TOOL, *words), capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert len(list(pool.map(run, lines))) == len(lines)
    every = AclBindingFilter(
        ResourceType.ANY,
        None,
        ResourcePatternType.ANY,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    admin = AdminClient({"bootstrap.servers": address, "logger": broker.SILENT})
    found = admin.describe_acls(every).result(20)
    wanted = [
        binding
        for service, rights in rights_of(settings, SHOWN).items()
        for right in rights
        for binding in bindings(right, PRINCIPAL.replace("{service}", service))
    ]
    assert set(map(str, found)) == set(map(str, wanted))
    assert len(found) == len(wanted)
