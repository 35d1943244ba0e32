"""Rows folded entity by entity give what the fold in log order gives, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.fold import EnsembleState, Interruption, Rows, Verdicts, fold, limits_for
from shared.ensemble.grouped import fold_grouped
from shared.ensemble.kernels.outputs import RESTARTED, SILENT
from shared.kernels.trained.trained_rows import WITHOUT_MODEL
from shared.kernels.units import HOUR_MS
from tests.support.episodes import needs_speed

pytestmark = needs_speed

ENTITIES, METRICS, HOURS = 5, 2, 110
SLOTS = np.arange(ENTITIES * METRICS, dtype=np.int32).reshape(ENTITIES, METRICS)


def given(seed: int) -> Rows:
    random = np.random.default_rng(seed)
    entity = np.tile(np.arange(ENTITIES, dtype=np.int32), HOURS)
    time_ms = 1_704_067_200_000 + np.repeat(np.arange(HOURS), ENTITIES) * HOUR_MS
    values = 10.0 + random.normal(0.0, 1.0, (len(entity), METRICS))
    hour = np.repeat(np.arange(HOURS), ENTITIES)
    values[(hour >= 76) & (hour // 4 % 4 == entity % 4)] *= 8.0
    offsets = 100 + 3 * np.arange(len(entity), dtype=np.int64)
    return Rows(entity, time_ms, values, SLOTS[entity], offsets=offsets, names=entity + 7)


def run(how: object, rows: Rows, interruptions: list[Interruption]) -> tuple[Verdicts, bytes]:
    state = EnsembleState()
    state.reserve(ENTITIES, ENTITIES * METRICS)
    found = how(state, rows, limits_for(METRICS), interruptions=interruptions, model=WITHOUT_MODEL)  # type: ignore[operator]
    arrays = state.to_arrays(ENTITIES, ENTITIES * METRICS)
    return found, b"".join(arrays[name].tobytes() for name in sorted(arrays))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grouping_changes_nothing(seed: int) -> None:
    rows, random = given(seed), np.random.default_rng(seed)
    at = sorted(random.integers(0, len(rows.entity), 12).tolist())
    ended = [
        Interruption(row, entity, SLOTS[entity], entity + 7, reason, forget=bool(seed))
        for row in [*at, at[-1], len(rows.entity)]
        for entity, reason in [
            (int(random.integers(ENTITIES)), int(random.choice([SILENT, RESTARTED])))
        ]
    ]
    for interruptions in ([], ended):
        want, state = run(fold, rows, interruptions)
        got, grouped_state = run(fold_grouped, rows, interruptions)
        assert len(want.events) > 6
        for name in Verdicts._fields:
            assert getattr(got, name).tobytes() == getattr(want, name).tobytes(), name
        assert grouped_state == state


def test_no_rows_give_nothing() -> None:
    found, _ = run(fold_grouped, given(0)._replace(**{
        name: getattr(given(0), name)[:0]
        for name in ("entity", "time_ms", "values", "slots", "offsets", "names")
    }), [])  # fmt: skip
    assert len(found.rows) == len(found.events) == 0
