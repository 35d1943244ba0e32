"""The benchmarks of peer groups and of reconstruction: what differs, what counts as found."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import peers, reconstruction
from benchmarks.fleet.hosts import generate
from benchmarks.peers import DAY_ROWS, JOINED, KINDS, Host
from benchmarks.poisoned import poison


def test_every_other_host_differs_from_its_group_and_each_kind_occurs() -> None:
    hosts = peers.generate(28, 4, 0)
    kinds = [host.kind for host in hosts[1::2]]
    assert set(kinds) == {*KINDS, JOINED}
    assert {host.kind for host in hosts[::2]} == {peers.HEALTHY}
    for host in hosts:
        joined = host.kind.startswith("joined")
        assert host.first_row == (2 * DAY_ROWS if joined else 0)
        assert len(host.values) + host.first_row == 4 * DAY_ROWS
        assert (host.event is None) == (host.kind in (peers.HEALTHY, JOINED))
        assert host.event is None or host.first_row + host.event >= 2 * DAY_ROWS
    again = peers.generate(28, 4, 0)
    assert all(
        np.array_equal(a.values, b.values, equal_nan=True)
        for a, b in zip(hosts, again, strict=True)
    )


def test_a_hit_lies_within_days_of_the_event_and_an_alarm_of_a_healthy_host_is_wrong() -> None:
    rows, border = 20 * DAY_ROWS, 10 * DAY_ROWS
    hosts = [
        Host("a", "kept_level", 0, np.zeros((rows, 3)), border),
        Host("b", "drift", 0, np.zeros((rows, 3)), border + DAY_ROWS),
        Host("c", peers.HEALTHY, 0, np.zeros((rows, 3)), None),
    ]
    alarms = [np.zeros(rows, np.bool_) for _ in hosts]
    alarms[0][[border - 1, border + 4 * DAY_ROWS]] = True
    alarms[1][border + 3 * DAY_ROWS] = True
    alarms[2][[5, border, border + 7]] = True
    found = peers.judge(hosts, alarms, border, 1.5)
    assert found.hits == dict.fromkeys(KINDS, 0) | {"drift": 1}
    assert found.events == dict.fromkeys(KINDS, 0) | {"drift": 1, "kept_level": 1}
    assert found.false_per_day == 2 / 11
    assert found.delay_h == 48.0
    alarms[0][border + 4 * DAY_ROWS - 1] = True
    assert peers.judge(hosts, alarms, border, 1.5).hits["kept_level"] == 1


def test_events_of_metrics_are_apart_and_change_some_metrics_only() -> None:
    values, events = reconstruction.generate(5, 12, 6, 0)
    assert values.shape == (5, 12 * DAY_ROWS, 6)
    assert (values > 0.0).all()
    counts = {kind: sum(event[1] == kind for event in events) for kind in reconstruction.KINDS}
    assert set(counts.values()) == {5}
    for host in range(5):
        firsts = [first for number, _, first in events if number == host]
        assert firsts[0] >= 6 * DAY_ROWS
        assert np.diff(firsts).min() > reconstruction.ROWS + reconstruction.AFTER_ROWS


def test_an_alarm_hits_an_event_until_an_hour_after_it() -> None:
    values = np.ones((2, 20 * DAY_ROWS, 3))
    border = 10 * DAY_ROWS
    events = [(0, "one_leaves", border + 50), (1, "group_frozen", border + 50)]
    alarms = [np.zeros(20 * DAY_ROWS, np.bool_) for _ in values]
    last = border + 50 + reconstruction.ROWS + reconstruction.AFTER_ROWS - 1
    alarms[0][last] = alarms[1][last + 1] = alarms[1][border - 1] = True
    found = reconstruction.judge(values, events, alarms, 1.0)
    assert found.hits["one_leaves"] == 1
    assert found.hits["group_frozen"] == 0
    assert found.false_per_day == 1 / 20


def test_poisoned_hosts_have_incidents_in_this_share_of_the_training_rows_only() -> None:
    fleet = generate(3, 28, 0)
    for share in (0.0, 0.05, 0.2):
        changed = poison(fleet, share, 0).values != fleet.values
        changed &= ~np.isnan(fleet.values)
        assert not changed[:, fleet.border :].any()
        rows = changed.any(axis=2)[:, : fleet.border].mean(axis=1)
        np.testing.assert_allclose(rows, share, atol=0.01)
    with pytest.raises(ValueError, match=r"a share of 0\.9 does not fit"):
        poison(fleet, 0.9, 0)
