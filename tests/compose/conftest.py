"""What a failed test of the compose stack shows."""

from __future__ import annotations

from collections.abc import Generator

import pytest


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
