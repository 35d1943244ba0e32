"""Embedding and search of similar past episodes, compared with their slow twins."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ensemble.fold import VIEW_NAMES
from shared.incidents import embedding as subject
from shared.incidents.embedding import SIZE, SIZE_BYTES, embedding_of, of_list, to_list
from shared.incidents.similar import (
    MOST_COMPARED,
    PastEpisode,
    distances_to,
    episodes_of,
    nearest,
)
from tests.reference import similarity as twin

NUMBERS = st.sampled_from((None, 0.0, 1.0, -3.5, 12.0, 1e6, 5e-3, math.nan, math.inf))
KEYS = [f"{metric}.{view}" for metric in ("cpu", "a.b", "") for view in (*VIEW_NAMES[::4], "new")]
KEYS += ["cpu", "time_of_day"]


@st.composite
def alarms(draw):
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=5, unique=True))
    shares = {
        key: draw(st.sampled_from((0.1, 0.25, 0.5, 1.0, 0.0, -1.0, math.nan))) for key in keys
    }
    return {
        "attributions": shares,
        "top_feature": draw(st.sampled_from([*keys, "cpu.mean", None])),
        "kind": draw(st.sampled_from(("anomaly", "episode_closed"))),
        "metric": draw(st.sampled_from(("cpu", "time_of_day", None))),
        "direction": draw(st.sampled_from(("up", "down", None))),
        **{name: draw(NUMBERS) for name in ("value", "expected", "lower", "upper")},
    }


@settings(max_examples=300)
@given(record=alarms())
def test_embedding_equals_its_twin(record):
    found = to_list(embedding_of(record))
    assert found == pytest.approx(twin.features_of(record), rel=1e-5, abs=1e-6)
    assert all(map(math.isfinite, found))
    assert of_list(found) == embedding_of(record)


@pytest.mark.parametrize("size", [1e308, 5e-324])
def test_extreme_values_give_finite_features(size):
    record = {"attributions": {"cpu.jump": 1.0}, "top_feature": "cpu.jump", "value": size}
    record |= {"expected": -size, "lower": -size, "upper": size}
    assert all(map(math.isfinite, to_list(embedding_of(record))))


def test_an_alarm_without_contributions_counts_by_its_metric():
    cold = {"kind": "anomaly", "metric": "cpu", "attributions": {}, "direction": "up"}
    assert embedding_of(cold) != embedding_of(cold | {"metric": "disk"}) != b""
    assert embedding_of(cold | {"metric": None}) == b""
    assert embedding_of(cold | {"kind": "episode_closed"}) == b""


def test_all_views_have_a_place():
    assert subject.VIEWS == VIEW_NAMES
    views = [
        embedding_of({"attributions": {f"m.{v}": 1.0}, "top_feature": f"m.{v}"})
        for v in subject.VIEWS
    ]
    assert len(set(views)) == len(subject.VIEWS)


def test_an_embedding_of_another_size_is_none():
    assert of_list([1.0] * (SIZE + 1)) == b""
    assert embedding_of({"attributions": {}}) == b""
    assert len(embedding_of({"attributions": {"cpu.jump": 1.0}})) == SIZE_BYTES


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), limit=st.integers(1, 6))
def test_search_equals_its_twin_in_any_order(seed, count, limit):
    draws = random.Random(seed)
    shapes = [[draws.choice((0.0, 0.1, 0.4)) for _ in range(SIZE)] for _ in range(6)]
    episodes = [
        {
            "id": f"{number:03d}",
            "incident": f"i{draws.randrange(1 + count // 2)}",
            "start": draws.randrange(8),
            "features": [] if draws.random() < 0.1 else list(map(np.float32, draws.choice(shapes))),
        }
        for number in range(count)
    ]
    query = {"id": "q", "incident": "i0", "start": 6, "features": list(map(np.float32, shapes[0]))}

    def past(one):
        return PastEpisode(one["id"], one["incident"], one["start"], of_list(one["features"]))

    expected = twin.nearest(query, episodes, limit)
    for _ in range(3):
        found = nearest(past(query), [past(one) for one in episodes], limit)
        assert [one.episode.episode_id for one in found] == expected
        draws.shuffle(episodes)


def test_never_itself_nor_its_incident_nor_a_later_one():
    vector = embedding_of({"attributions": {"cpu.jump": 1.0}, "top_feature": "cpu.jump"})
    query = PastEpisode("q", "one", 10, vector)
    others = [
        query,
        PastEpisode("a", "one", 5, vector),
        PastEpisode("b", "two", 10, vector),
        PastEpisode("c", "three", 5, b""),
    ]
    assert nearest(query, others) == []
    (found,) = nearest(query, [*others, PastEpisode("d", "four", 5, vector)])
    assert (found.episode.episode_id, found.distance, found.likeness) == ("d", 0, "almost the same")
    assert nearest(query._replace(embedding=b""), others) == []


def test_rows_of_several_chunks_are_all_compared():
    draws = np.random.default_rng(0)
    vectors = [row.tobytes() for row in draws.random((20_000, SIZE)).astype("<f4")]
    found = distances_to(vectors[17_000], vectors)
    assert int(found.argmin()) == 17_000
    assert found[3] == twin.distance(
        np.frombuffer(vectors[17_000], "<f4").tolist(), np.frombuffer(vectors[3], "<f4").tolist()
    )


def test_records_of_earlier_versions_have_no_episodes_to_compare():
    vector = to_list(embedding_of({"attributions": {"cpu.jump": 1.0}, "top_feature": "cpu.jump"}))
    old = {"episodes": [{"episode_id": "e1", "start": 3}]}
    new = {"episodes": [{"episode_id": "e2", "start": 4, "embedding": vector}]}
    (found,) = episodes_of({"i1": old, "i2": new})
    assert found == PastEpisode("e2", "i2", 4, of_list(vector))
    assert MOST_COMPARED * SIZE_BYTES < 15_000_000
