"""An entity is counted as warmed up exactly when its newest verdict says so."""

import pytest

from shared.events import State
from tests.support.pods import DAY_MS, DECODER, HOUR_MS, START_MS, Record, batch_of, scorer_for


@pytest.mark.parametrize("step_ms", [HOUR_MS // 12, HOUR_MS, 12 * HOUR_MS, DAY_MS])
def test_the_count_agrees_with_the_verdict_of_the_newest_row(step_ms):
    rows = max(20, 6 * HOUR_MS // step_ms)
    log = [
        Record("pod", START_MS + k * step_ms, {"cpu": 50.0 + k % 5, "mem": 20.0 + k % 3})
        for k in range(rows)
    ]
    batch = batch_of(log)
    scorer = scorer_for(6)
    seen = []
    for k in range(rows):
        outcome = scorer.process(batch.rows(k, k + 1), DECODER)
        seen.append(State(int(scorer.entity_states()[0])))
        assert seen[-1] == outcome.verdicts.state[0]
    assert seen[0] == State.WARMING
    assert seen[-1] == State.READY
    assert seen.index(State.READY) >= 13
