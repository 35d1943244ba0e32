"""Whether the nearest past episode is of the same kind: ``python -m benchmarks.similarity``.

Options: ``--hosts N --days N --seeds N ...``, ``--json FILE``.

The detector runs over generated fleets (``benchmarks.fleet``). Each episode that opens within a
labelled anomaly is compared with all episodes that began earlier, on any host, but for those of the
same anomaly; false alarms are among the candidates and count as a kind of their own. Reported is
the share of episodes whose nearest one has the same kind, for the product's embedding, for
distances of the values before the alarm (z-normalised Euclidean, dynamic time warping with a band
of 6 of 64 samples), for the vector that joins those values with the metrics and views that fired,
and for a random choice.

Invariant: every way chooses among the same candidates.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from benchmarks.fleet.hosts import KINDS, METRICS, Fleet, generate
from benchmarks.fleet.judging import AFTER_ROWS
from benchmarks.histories import Prepared
from lapwing.backtest.feeds import Feed
from lapwing.backtest.run import BacktestResult, Variant, run
from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.events import Anomaly, Phase
from shared.incidents.embedding import embedding_of
from shared.incidents.similar import FARTHEST, PastEpisode, distances_to, nearest
from shared.scoring.configuration import Configuration
from shared.settings import Settings

Floats = npt.NDArray[np.float64]

FALSE = "false alarm"
SAMPLES = 64
BAND = 6
BATCH_ROWS = 20_000
EDGES = (0.0, 0.1, 0.25, 0.4, 0.6, 0.9, FARTHEST, 9.0)
SEARCHED = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """An episode that opened.

    kind   : of the labelled anomaly in which it opened, or FALSE
    event  : tells apart anomalies; those of one are never compared
    before : float64 (SAMPLES,)  values of its metric up to the alarm, without gaps
    spread : usual deviation of that metric up to the alarm
    """

    alarm: Anomaly
    kind: str
    event: tuple[int, int]
    before: Floats
    spread: float


def main() -> int:
    options = _options()
    began_s = time.monotonic()
    parts = []
    for seed in options.seeds:
        try:
            fleet = generate(options.hosts, options.days, seed)
        except ValueError as error:
            print(f"benchmarks.similarity: {error}", file=sys.stderr)
            return 2
        parts.append(compare(episodes(fleet)))
        print(f"seed {seed}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    document = {
        "hosts": options.hosts,
        "days": options.days,
        "seeds": options.seeds,
        "queries": sum(part["queries"] for part in parts),
        "same_kind": {
            name: _means([part["same_kind"][name] for part in parts])
            for name in parts[0]["same_kind"]
        },
        "by_distance": _by_distance([pair for part in parts for pair in part["pairs"]]),
        "search_ms": search_ms(),
    }
    print(table(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


def episodes(fleet: Fleet) -> list[Found]:
    """Run the detector as shipped; return the episodes that opened in the judged half."""
    (result,) = run(feed(fleet), [Variant("shipped", Configuration.from_settings(Settings()))])
    found = []
    for alarm in result.alarms:
        row = int(np.searchsorted(fleet.time_ms, alarm.event_time))
        if alarm.phase is Phase.OPEN and row >= fleet.border and alarm.metric is not None:
            found.append(_found(fleet, result, alarm, row))
    return found


def _found(fleet: Fleet, result: BacktestResult, alarm: Anomaly, row: int) -> Found:
    host = int(alarm.entity.removeprefix("host-"))
    label = next(
        (e for e in fleet.events if e.host == host and e.first <= row <= e.last + AFTER_ROWS), None
    )
    values = fleet.values[host, : row + 1, METRICS.index(alarm.metric or "")]
    before = values[-SAMPLES:]
    known = np.flatnonzero(~np.isnan(before))
    filled = np.interp(np.arange(SAMPLES), known, before[known])
    kind, event = (FALSE, (host, -row)) if label is None else (label.kind, (host, label.first))
    return Found(alarm, kind, event, filled, float(np.nanstd(values)) or 1.0)


def feed(fleet: Fleet) -> Feed:
    """Return a fleet as records of one partition, in order of time."""
    hosts, rows, _ = fleet.values.shape
    columns = Columns(
        np.arange(rows * hosts),
        np.tile(np.arange(hosts, dtype=np.int32), rows),
        np.repeat(fleet.time_ms, hosts),
        np.ascontiguousarray(fleet.values.transpose(1, 0, 2).reshape(rows * hosts, -1)),
        np.empty(0, np.int64),
        np.empty(0, np.uint8),
    )
    batches = []
    for low in range(0, rows * hosts, BATCH_ROWS):
        offsets = np.arange(low, min(low + BATCH_ROWS, rows * hosts), dtype=np.int64)
        blank = Blob.join([b""] * len(offsets))
        batches.append(Batch("fleet", 0, blank, blank, offsets, np.zeros(len(offsets), np.int64)))
    names = [f"host-{host:04d}" for host in range(hosts)]
    decoder = Prepared(columns, names, METRICS)
    return Feed("fleet", rows * hosts, decoder, lambda: iter(batches))


# -- distances, each a matrix (n, n) ---------------------------------------------------------------


def by_embedding(found: Sequence[Found]) -> Floats:
    vectors = [embedding_of(asdict(one.alarm)) for one in found]
    return np.stack([distances_to(vector, vectors) for vector in vectors])


def by_shape(found: Sequence[Found]) -> Floats:
    return _euclidean(np.stack([_normalised(one.before) for one in found]))


def by_warping(found: Sequence[Found]) -> Floats:
    return warped(np.stack([_normalised(one.before) for one in found]), BAND)


def by_shape_and_names(found: Sequence[Found]) -> Floats:
    """The values scaled by the series' own spread, the metrics and the views that fired; cosine."""
    keys = sorted({part for one in found for key in one.alarm.attributions for part in _parts(key)})
    rows = []
    for one in found:
        fired = {part for key in one.alarm.attributions for part in _parts(key)}
        shape = (one.before - np.median(one.before)) / one.spread / np.sqrt(SAMPLES)
        rows.append(np.concatenate([shape, [float(key in fired) for key in keys]]))
    joined = np.stack(rows)
    return _euclidean(joined / np.linalg.norm(joined, axis=1, keepdims=True))


WAYS: dict[str, Callable[[Sequence[Found]], Floats]] = {
    "embedding of the record": by_embedding,
    "64 values, metrics and views": by_shape_and_names,
    "dynamic time warping": by_warping,
    "z-normalised Euclidean": by_shape,
}


@njit("f8[:, ::1](f8[:, ::1], i8)")
def warped(series: Floats, band: int) -> Floats:
    """Return distances by dynamic time warping within a Sakoe-Chiba band, squared."""
    n, width = series.shape
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            before = np.full(width + 1, np.inf)
            before[0] = 0.0
            for a in range(1, width + 1):
                now = np.full(width + 1, np.inf)
                for b in range(max(1, a - band), min(width, a + band) + 1):
                    step = series[i, a - 1] - series[j, b - 1]
                    now[b] = step * step + min(before[b], before[b - 1], now[b - 1])
                before = now
            found[i, j] = found[j, i] = before[width]
    return found


def _normalised(values: Floats) -> Floats:
    scaled: Floats = (values - values.mean()) / (float(values.std()) or 1.0)
    return scaled


def _euclidean(rows: Floats) -> Floats:
    return np.stack([np.sqrt(((rows - row) ** 2).sum(axis=1)) for row in rows])


def _parts(key: str) -> tuple[str, str]:
    metric, _, view = key.rpartition(".")
    return f"metric {metric}", f"view {view}"


# -- figures ---------------------------------------------------------------------------------------


def compare(found: Sequence[Found]) -> dict[str, Any]:
    """Return of each way the share of nearest episodes of the same kind, by kind and over all."""
    kinds = np.array([one.kind for one in found])
    times = np.array([one.alarm.event_time for one in found])
    events = np.array([f"{one.event}" for one in found])
    allowed = (times[None, :] < times[:, None]) & (events[None, :] != events[:, None])
    queries = np.flatnonzero((kinds != FALSE) & allowed.any(axis=1))
    same: dict[str, dict[str, float]] = {}
    pairs: list[tuple[float, bool]] = []
    for name, distances in WAYS.items():
        apart = np.where(allowed, distances(found), np.inf)
        chosen = apart.argmin(axis=1)
        hit = kinds[chosen] == kinds
        same[name] = _shares(kinds[queries], hit[queries])
        if name == next(iter(WAYS)):
            pairs = [(float(apart[k, chosen[k]]), bool(hit[k])) for k in queries.tolist()]
    chance = [(kinds[allowed[k]] == kinds[k]).mean() for k in queries.tolist()]
    same["random choice"] = _shares(kinds[queries], np.array(chance))
    return {"queries": len(queries), "same_kind": same, "pairs": pairs}


def _shares(kinds: Any, hit: Any) -> dict[str, float]:
    found = {kind: float(hit[kinds == kind].mean()) for kind in KINDS if (kinds == kind).any()}
    return {"all": float(hit.mean()), "mean of kinds": float(np.mean(list(found.values())))} | found


def _means(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: round(float(np.mean([part[name] for part in parts])), 3) for name in names}


def _by_distance(pairs: Sequence[tuple[float, bool]]) -> list[dict[str, float]]:
    rows = []
    for low, high in pairwise(EDGES):
        hits = [hit for distance, hit in pairs if low <= distance < high]
        if hits:
            share = round(float(np.mean(hits)), 3)
            rows.append({"from": low, "to": high, "episodes": len(hits), "same_kind": share})
    return rows


def search_ms() -> float:
    """Return the time of one search among SEARCHED episodes, the best of five."""
    draws = np.random.default_rng(0)
    vectors = draws.random((SEARCHED, len(embedding_of(_EXAMPLE)) // 4)).astype("<f4")
    past = [PastEpisode(f"{k}", f"{k // 2}", k, row.tobytes()) for k, row in enumerate(vectors)]
    query = PastEpisode("q", "q", SEARCHED, embedding_of(_EXAMPLE))
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        nearest(query, past)
        times.append((time.perf_counter() - began_s) * 1000)
    return round(min(times), 1)


_EXAMPLE = {"attributions": {"cpu.jump": 1.0}, "top_feature": "cpu.jump"}


def table(document: dict[str, Any]) -> str:
    """Write the figures in columns."""
    same = document["same_kind"]
    names = list(next(iter(same.values())))
    lines = [
        f"{document['queries']} episodes of {document['hosts']} hosts x {document['days']} days"
    ]
    lines += [f"{name:<{max(map(len, names))}}  " + "  ".join(same) for name in ("",)]
    for name in names:
        cells = "  ".join(
            f"{shares.get(name, float('nan')):>{len(way)}.2f}" for way, shares in same.items()
        )
        lines.append(f"{name:<{max(map(len, names))}}  {cells}")
    lines += [
        f"distance {row['from']:.2f} to {row['to']:.2f}: {row['episodes']} episodes,"
        f" {row['same_kind']:.2f} of the same kind"
        for row in document["by_distance"]
    ]
    return "\n".join([*lines, f"one search among {SEARCHED}: {document['search_ms']:g} ms"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.similarity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=120)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
