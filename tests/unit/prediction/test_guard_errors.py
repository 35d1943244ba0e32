"""A guard's error ends the process with a code, and is logged by its name."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from consumer_prediction import service
from consumer_prediction.health.readiness import Readiness
from shared.errors import GuardError, PositionGone
from shared.operations.counters import Counters
from shared.settings import Settings


def test_every_guard_ends_with_exit_code_1():
    for kind in (GuardError, *GuardError.__subclasses__()):
        assert kind("because").exit_code == 1
        assert not kind("because").retriable


def test_a_stop_is_logged_by_its_name_and_goes_on_to_the_supervisor(monkeypatch):
    def stopped(*_):
        raise PositionGone("because")

    monkeypatch.setattr(service, "_run", stopped)
    with capture_logs() as logged, pytest.raises(PositionGone):
        service.run(Settings(), Counters(), object(), lambda: False, Readiness())
    assert logged == [
        {
            "event": "stopped by a guard",
            "log_level": "error",
            "guard": "PositionGone",
            "because": "because",
        }
    ]
