"""The search of similar past episodes: the nearest embeddings, one of each incident.

Invariant: the answer depends on the episodes alone, not on their order; no episode of the same
           incident is in it, and none that began later than the one in question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.events import severity_class
from shared.incidents.embedding import BUCKETS, SIZE, SIZE_BYTES, VIEWS, of_list

SHOWN = 5
"""Similar episodes that are shown."""

MOST_COMPARED = 100_000
"""Episodes that are compared, the newest ones: 14 MB of embeddings."""

FARTHEST = 1.2
"""Distance from which on episodes do not resemble each other, and are not shown."""

_CHUNK = 8_192
_DIGITS = 4
_WORDS = ((0.25, "almost the same"), (0.9, "similar"), (FARTHEST, "somewhat similar"))

WEIGHTS: npt.NDArray[np.float64] = np.concatenate(
    [np.full(len(VIEWS) + 1, 1.0), np.full(BUCKETS, 0.5), [0.5, 0.5, 0.25, 1.5]]
)
"""Weight of each feature, float64 (SIZE,).

Chosen on benchmarks/similarity.py with seeds 0 and 1; halving or doubling one of them changes its
figure by at most two hundredths.
"""


class PastEpisode(NamedTuple):
    """What the search needs of an episode.

    start     : event time, ms since 1970 UTC
    embedding : SIZE float32; empty = it has none, and resembles nothing
    """

    episode_id: str
    incident_id: str
    start: int
    embedding: bytes


class Neighbour(NamedTuple):
    """A similar episode, and its distance: 0 = the same features."""

    episode: PastEpisode
    distance: float

    @property
    def likeness(self) -> str:
        """The distance in words."""
        return next((words for most, words in _WORDS if self.distance <= most), "different")


def nearest(
    query: PastEpisode, episodes: Sequence[PastEpisode], limit: int = SHOWN
) -> list[Neighbour]:
    """Return the nearest earlier episodes, the nearest first; at most one of each incident.

    Of equal distances the newest comes first, then the smallest id.

    Twin: tests/reference/similarity.py.  Cost: O(n SIZE) time, O(n) memory; 100,000 episodes take
    about 0.1 s.
    """
    if not query.embedding:
        return []
    candidates = [
        one
        for one in episodes
        if len(one.embedding) == SIZE_BYTES
        and one.incident_id != query.incident_id
        and one.start < query.start
    ]
    distances = distances_to(query.embedding, [one.embedding for one in candidates])
    found: dict[str, Neighbour] = {}
    near = np.flatnonzero(distances <= FARTHEST).tolist()
    near.sort(key=lambda k: (distances[k], -candidates[k].start, candidates[k].episode_id))
    for k in near:
        found.setdefault(candidates[k].incident_id, Neighbour(candidates[k], float(distances[k])))
        if len(found) == limit:
            break
    return list(found.values())


def distances_to(embedding: bytes, others: Sequence[bytes]) -> npt.NDArray[np.float64]:
    """Return the weighted Euclidean distances of some embeddings, float64 (n,), four decimals."""
    own = np.frombuffer(embedding, "<f4") * WEIGHTS
    found = np.empty(len(others))
    for low in range(0, len(others), _CHUNK):
        packed = b"".join(others[low : low + _CHUNK])
        rows = np.frombuffer(packed, "<f4").reshape(-1, SIZE) * WEIGHTS
        found[low : low + _CHUNK] = np.sqrt(((rows - own) ** 2).sum(axis=1))
    return np.round(found, _DIGITS)


def episodes_of(
    records: Mapping[str, Mapping[str, Any]], *, newest_first: bool = True
) -> list[PastEpisode]:
    """Return the newest MOST_COMPARED episodes of incident records that have an embedding.

    newest_first : else all of them, in the order of the records
    """
    found = [
        PastEpisode(one["episode_id"], incident_id, one["start"], embedding)
        for incident_id, record in records.items()
        for one in record["episodes"]
        if (embedding := of_list(one.get("embedding") or ()))
    ]
    if not newest_first:
        return found
    found.sort(key=lambda one: (-one.start, one.episode_id))
    return found[:MOST_COMPARED]


def question_of(record: Mapping[str, Any], episode_id: str | None = None) -> PastEpisode | None:
    """Return the episode of an incident record that is searched for; None without an embedding.

    episode_id : None = the first that has an embedding
    """
    own = episodes_of({record["incident_id"]: record}, newest_first=False)
    return next((one for one in own if episode_id in (None, one.episode_id)), None)


def similar_document(
    found: Neighbour, record: Mapping[str, Any], feedback: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what is shown of a similar episode.

    record   : of its incident
    feedback : on that incident; None = there is none
    """
    episode = next(
        one for one in record["episodes"] if one["episode_id"] == found.episode.episode_id
    )
    return {
        "incident_id": found.episode.incident_id,
        "title": record["title"],
        **{name: episode[name] for name in _DESCRIBED},
        "severity_class": severity_class(episode["severity"]).value,
        "distance": found.distance,
        "likeness": found.likeness,
        "was": feedback and feedback["was"],
        "note": feedback and feedback["note"],
    }


_DESCRIBED = (
    "episode_id", "entity", "metric", "direction", "start", "end", "closed_because", "severity",
    "reason",
)  # fmt: skip
