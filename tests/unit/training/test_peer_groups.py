"""Which entities are peers, and what is usual among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consumer_training.fitting import peer_groups
from consumer_training.fitting.peer_groups import LEAST_ROWS, NoPeers, fit_peers, peer_facts
from consumer_training.reading.history import Rows
from consumer_training.training import TEST, RefusedRows, Trained, train
from shared.events import Detector
from shared.models.peers import Peers
from shared.models.value_rows import list_entities, numbers_of, value_rows
from shared.settings import FeatureSettings
from tests.support.episodes import needs_speed
from tests.support.models import SETTINGS, rows_of, series

COUNT = 240


def host(level: float, seed: int, rows: int = COUNT) -> np.ndarray:
    """Rows of one host, an hour apart: a level with noise, and ten times that at night."""
    random = np.random.default_rng(seed)
    night = np.where(np.arange(rows) % 24 < 6, 10.0, 1.0)
    return np.stack(
        [level * (1.0 + 0.1 * random.standard_normal(rows)), 7.0 * night + random.random(rows)],
        axis=1,
    )


def fitted(hosts: dict[str, np.ndarray], seed: int = 0) -> tuple[Peers, dict[str, int]]:
    """Fit peers to hosts; return them with the group of each host, -2 = not listed."""
    entities = list_entities(list(hosts))
    parts = []
    for name, values in hosts.items():
        numbers = np.full(len(values), numbers_of([name], entities)[0])
        columns = range(values.shape[1])
        parts.append(value_rows(numbers, np.arange(len(values)) % 24, values, columns))
    peers = fit_peers(np.concatenate(parts), entities, seed)
    places = numbers_of(list(hosts), peers.entities).tolist()
    return peers, {
        name: int(peers.group[place]) if place >= 0 else -2
        for name, place in zip(hosts, places, strict=True)
    }


def fleet() -> dict[str, np.ndarray]:
    """Five hosts about 50, three about 500, one about 5."""
    hosts = {f"web-{k}": host(50.0 + k, k) for k in range(5)}
    hosts |= {f"db-{k}": host(500.0 + 9 * k, 10 + k) for k in range(3)}
    return hosts | {"lone": host(5.0, 20)}


def test_entities_of_about_the_same_level_are_peers() -> None:
    peers, group = fitted(fleet())
    assert group == {f"web-{k}": 0 for k in range(5)} | {f"db-{k}": 1 for k in range(3)} | {
        "lone": -1
    }
    assert peers.center.shape == (2, 24, 2)
    np.testing.assert_allclose(peers.center[0, :, 0], 52.0, rtol=0.05)
    np.testing.assert_allclose(peers.center[:, :6, 1], 70.5, rtol=0.05)
    np.testing.assert_allclose(peers.center[:, 6:, 1], 7.5, rtol=0.05)
    assert ((peers.spread[0, :, 0] > 3.0) & (peers.spread[0, :, 0] < 11.0)).all()


def test_order_names_and_seed_do_not_matter() -> None:
    peers, group = fitted(fleet())
    again, turned = fitted(dict(reversed(fleet().items())), seed=7)
    assert turned == group
    assert again.center.tobytes() == peers.center.tobytes()
    assert again.spread.tobytes() == peers.spread.tobytes()


def test_further_entities_join_the_most_similar_of_those_that_were_clustered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_groups, "MOST_CLUSTERED", 12)
    hosts = {f"web-{k}": host(50.0, k) for k in range(12)}
    hosts |= {f"db-{k}": host(500.0, 20 + k) for k in range(12)}
    _, group = fitted(hosts | {"lone": host(5.0, 50)})
    assert group["lone"] == -1
    assert len({group[f"web-{k}"] for k in range(12)}) == 1
    assert {group["web-0"], group["db-0"]} == {0, 1}


def test_an_entity_with_few_rows_counts_as_unknown() -> None:
    hosts = fleet() | {"new": host(50.0, 30, LEAST_ROWS - 1)}
    assert fitted(hosts)[1]["new"] == -2
    assert fitted(hosts | {"new": host(50.0, 30, LEAST_ROWS)})[1]["new"] == 0


def test_totals_that_grow_are_not_compared() -> None:
    hosts = {f"web-{k}": host(50.0, k) for k in range(4)}
    total = {
        name: np.column_stack([values, 1e4 * (k + 1) + np.cumsum(values[:, 0])])
        for k, (name, values) in enumerate(hosts.items())
    }
    peers, group = fitted(total)
    assert set(group.values()) == {0}
    assert np.isnan(peers.center[0, :, 2]).all()
    assert not np.isnan(peers.center[0, :, :2]).any()


def test_a_metric_that_few_of_a_group_report_is_not_compared() -> None:
    hosts = {f"web-{k}": host(50.0, k) for k in range(5)}
    wide = {name: np.column_stack([values, *[values[:, 0]] * 3]) for name, values in hosts.items()}
    for name in ("web-0", "web-1", "web-2"):
        wide[name][:, 4] = np.nan
    peers, group = fitted(wide)
    assert set(group.values()) == {0}
    assert np.isnan(peers.center[0, :, 4]).all()


def test_a_metric_that_is_always_nought_is_not_compared_and_a_constant_one_is() -> None:
    hosts = {
        f"web-{k}": np.column_stack([host(50.0, k), np.zeros(COUNT), np.full(COUNT, 100.0)])
        for k in range(4)
    }
    peers, _ = fitted(hosts)
    assert np.isnan(peers.center[0, :, 2]).all()
    assert (peers.center[0, :, 3] == 100.0).all()
    np.testing.assert_allclose(peers.spread[0, :, 3], 2.0)


def test_a_part_of_the_day_with_few_values_takes_the_whole_days_profile() -> None:
    hosts = {f"web-{k}": host(50.0, k) for k in range(4)}
    for values in hosts.values():
        values[3::24, 0] = np.nan
    peers, _ = fitted(hosts)
    np.testing.assert_allclose(peers.center[0, 3, 0], 50.0, rtol=0.02)


def test_spreads_are_stretched_to_the_tail() -> None:
    hosts = {f"web-{k}": host(50.0, k) for k in range(4)}
    calm = fitted(hosts)[0].spread[0, :, 0]
    for values in hosts.values():
        values[::50, 0] *= 4.0
    heavy = fitted(hosts)[0].spread[0, :, 0]
    assert (heavy > 3.0 * calm).all()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_entities_are_no_peers(count: int) -> None:
    with pytest.raises(NoPeers, match=f"no 3 of {count} entities are alike"):
        fitted({f"web-{k}": host(50.0, k) for k in range(count)})


def test_the_report_names_groups_and_who_is_in_none() -> None:
    peers, _ = fitted(fleet())
    assert peer_facts(peers, [*fleet(), "unknown"], ["cpu", "network"]) == {
        "groups": [
            {"entities": 5, "metrics": ["cpu", "network"]},
            {"entities": 3, "metrics": ["cpu", "network"]},
        ],
        "without_peers": ["lone"],
        "entities_without_peers": 1,
    }


def trained(hosts: dict[str, np.ndarray]) -> Trained:
    rows = rows_of(hosts, ("cpu", "network"))
    return train(rows, Detector.PEER_GROUPS, FeatureSettings(), SETTINGS)


@needs_speed
def test_training_without_peers_is_refused_by_name() -> None:
    hosts = {f"host-{k}": 100.0**k * series(150, 2, seed=k) for k in range(3)}
    with pytest.raises(RefusedRows, match=r"no 3 of 3 entities are alike: .* train\.member"):
        trained(hosts)


@needs_speed
def test_a_model_lists_entities_and_metrics_and_scores_the_rest() -> None:
    hosts = {f"host-{k}": series(150, 2, seed=k) for k in range(4)}
    result = trained(hosts)
    model = result.model
    assert model.detector is Detector.PEER_GROUPS
    assert model.metrics == ("cpu", "network")
    assert model.entities.tolist() == list_entities(list(hosts)).tolist()
    assert model.usual.shape == (0,)
    assert np.isfinite(result.scores[result.part > 0]).all()
    assert result.facts["parameters"] == {"least_peers": 3, "parts_of_day": 24}
    assert result.facts["peers"] == {
        "groups": [{"entities": 4, "metrics": ["cpu", "network"]}],
        "without_peers": [],
        "entities_without_peers": 0,
    }
    assert result.facts["seeds"]["rows"] == (result.part == TEST).sum()


def only_constants(rows: Rows) -> Rows:
    return replace(rows, values=np.full_like(rows.values, 3.0))


@needs_speed
def test_constant_metrics_are_refused() -> None:
    rows = only_constants(rows_of({"a": series(150, 1, 0), "b": series(150, 1, 1)}, ("cpu",)))
    with pytest.raises(RefusedRows, match="look alike"):
        train(rows, Detector.PEER_GROUPS, FeatureSettings(), SETTINGS)
