"""The benchmark of similar past anomalies: its distances, and the candidates of each query."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import similarity
from benchmarks.similarity import FALSE, Found, compare, warped
from shared.events import Anomaly, Kind, State


def found(number, kind, host, shares):
    alarm = Anomaly(
        event_id=f"{number:032x}", detector_id="ensemble", kind=Kind.ANOMALY, entity=f"host-{host}",
        metric="cpu", event_time=number, state=State.READY, reason="", source_topic="t",
        source_partition=0, source_offset=number, attributions=shares, top_feature=max(shares),
    )  # fmt: skip
    return Found(alarm, kind, (host, 0), np.arange(64.0) * number, 1.0)


def test_nearest_of_the_same_kind_are_counted_among_earlier_other_events(monkeypatch):
    monkeypatch.setattr(similarity, "WAYS", {"embedding": similarity.by_embedding})
    jump, level = {"cpu.jump": 1.0}, {"cpu.level": 1.0}
    episodes = [
        found(1, "spike", 1, jump),
        found(2, "spike", 1, jump),  # of the same event: nothing to compare with
        found(3, "drift", 2, level),  # the nearest is a spike
        found(4, FALSE, 3, level),
        found(5, "spike", 4, jump),
        found(6, "drift", 5, level),  # the earlier one of two equal ones is a drift
    ]
    compared = compare(episodes)
    assert compared["queries"] == 3
    assert compared["same_kind"]["embedding"]["all"] == pytest.approx(2 / 3)
    assert compared["same_kind"]["random choice"]["drift"] == pytest.approx((0 + 1 / 5) / 2)


def test_warping_follows_a_shift_that_euclid_does_not():
    wave = np.sin(np.arange(64.0) / 4)
    shifted, other = np.roll(wave, 2), np.random.default_rng(0).normal(size=64)
    distances = warped(np.stack([wave, shifted, other]), 6)
    assert distances[0, 0] == 0
    assert distances[0, 1] < 0.2 * ((wave - shifted) ** 2).sum()
    assert distances[0, 1] < distances[0, 2] == distances[2, 0]
    assert warped(np.stack([wave, shifted]), 0)[0, 1] == pytest.approx(
        ((wave - shifted) ** 2).sum()
    )
