"""The compose stack of a test, and what it shows where the test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from compose_stack import Stack, lacking


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Remove a stack after its test; ``OWN`` of the test's module is added to its environment."""
    assert not lacking(), f"make compose-test: {lacking()}"
    stack = Stack()
    stack.environment |= getattr(request.module, "OWN", {})
    try:
        yield stack
    finally:
        stack("down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of all services to the report of a failed test, before they are removed."""
    report = yield
    stack = item.funcargs.get("stack")
    if report.when == "call" and report.failed and stack is not None:
        report.sections.append(("logs of the services", stack.logs()))
    return report
