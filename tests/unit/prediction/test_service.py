"""What a predictor's service says when it has to end."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from consumer_prediction import service
from consumer_prediction.health.readiness import Readiness
from shared.errors import ProducerFenced
from shared.operations.counters import Counters
from shared.settings import load_settings


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        ("north", "another process runs with slot 'north' in group g, so this one stops"),
        ("", "another process of group g has taken over this one's transactions"),
    ],
)
def test_who_has_taken_over_is_reported_first(
    monkeypatch: pytest.MonkeyPatch, slot: str, message: str
) -> None:
    def fenced(*_: object) -> None:
        raise ProducerFenced("reading t[0]: Static consumer fenced (_FATAL)")

    monkeypatch.setattr(service, "_run", fenced)
    settings = load_settings({"slot": slot, "predict": {"group": "g"}}, environ={})
    with capture_logs() as logged, pytest.raises(ProducerFenced) as caught:
        service.run(settings, Counters(), None, lambda: False, Readiness())  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("(reading t[0]: Static consumer fenced (_FATAL))")
    assert [one["event"] for one in logged] == ["fenced by another predictor"]
    assert logged[0]["because"].startswith(message)
