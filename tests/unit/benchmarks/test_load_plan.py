"""What a load needs: the arithmetic of the sizing page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.load_plan import Measured, measured, plan

FOUND = Measured(cpu_us=10.0, series_kib=40.0, base_gb=0.2, score_bytes=330.0)


def test_a_million_events_and_series() -> None:
    need = plan(FOUND, 1_000_000, 1_000_000)
    assert need.cores == 10.0
    assert need.predictors == 15  # 10 cores, of which 70 % are used
    assert need.partitions == 45
    assert need.memory_gb == pytest.approx(40.96 + 15 * 0.2)
    assert need.predictor_gb * need.predictors == pytest.approx(need.memory_gb)
    assert need.out_mb_per_s == 330.0


def test_a_small_load_needs_one_predictor() -> None:
    need = plan(FOUND, 100, 30)
    assert (need.predictors, need.partitions) == (1, 3)
    assert need.memory_gb == pytest.approx(0.2, rel=0.01)


def test_the_plan_rests_on_measured_rows(tmp_path: Path) -> None:
    def write(name: str, rows: list[dict[str, object]]) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": rows}))

    write("throughput", [{"id": "throughput.predict.ensemble.native", "cpu_us_per_event": 8.0}])
    with pytest.raises(ValueError, match=r"footprint\.json has no row footprint\.rss\.10000x3"):
        measured(tmp_path)
    write(
        "footprint",
        [
            {"id": "footprint.rss.empty", "value": 0.2},
            {"id": "footprint.rss.10000x3", "value": 1.4288, "score_bytes": 300.0},
        ],
    )
    assert measured(tmp_path) == (8.0, pytest.approx(40.0), 0.2, 300.0)
