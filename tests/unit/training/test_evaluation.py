"""Figures of the test part by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from consumer_training.evaluation import evaluate, runs
from consumer_training.reading.history import Rows
from consumer_training.training import TEST, TRAIN, Trained
from shared.events import Detector
from shared.features.vectors import FEATURES
from shared.kernels.units import HOUR_MS
from shared.labels import Window
from tests.support.models import START_MS, trained


def judged(flags: dict[str, str]) -> Trained:
    """Hourly rows: . or ! in the training part, after | in the test part; ! is an alarm."""
    base = trained(Detector.ISOLATION_FOREST)
    threshold = base.model.threshold
    marks = {name: text.replace("|", "") for name, text in flags.items()}
    sizes = [len(marks[name]) for name in sorted(marks)]
    total = sum(sizes)
    rows = Rows(
        tuple((name, 0) for name in sorted(marks)),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        ("cpu",),
        np.concatenate([START_MS + np.arange(size) * HOUR_MS for size in sizes]),
        np.zeros((total, 1)),
        np.zeros((total, FEATURES)),
        np.zeros((total, 1, 3)),
        np.zeros(total, np.uint8),
    )
    part, scores = [], []
    for name in sorted(flags):
        before = flags[name].index("|")
        part += [TRAIN] * before + [TEST] * (len(marks[name]) - before)
        scores += [threshold + (0.1 if mark == "!" else -0.1) for mark in marks[name]]
    return replace(base, rows=rows, part=np.array(part, np.uint8), scores=np.array(scores))


def at(hour: int) -> int:
    return START_MS + hour * HOUR_MS


def test_figures_by_hand() -> None:
    figures = evaluate(judged({"a": "....!!...|.!!.!", "b": "..!|...."}))
    assert figures["rows"] == {"train": 12, "test": 9}
    assert figures["entities"] == 2
    assert figures["flagged_share"] == {"train": round(3 / 12, 6), "test": round(3 / 9, 6)}
    assert figures["per_entity"]["a"]["test"] == {
        "rows": 5,
        "flagged": 3,
        "alarms": 2,
        "days": round(4 / 24, 6),
    }
    assert figures["per_entity"]["b"]["train"] == {
        "rows": 3,
        "flagged": 1,
        "alarms": 1,
        "days": round(2 / 24, 6),
    }
    assert figures["alarms_per_entity_and_day"]["test"] == pytest.approx(2 / (7 / 24), abs=1e-3)
    assert figures["per_entity"]["a"]["partitions"] == 1
    assert figures["labels"] is None
    assert "labels" not in figures["per_entity"]["a"]
    assert (
        figures["per_entity"]["a"]["peak_severity"]
        > 0.5
        > figures["per_entity"]["b"]["peak_severity"]
    )
    assert len(figures["score_quantiles"]["levels"]) == len(figures["score_quantiles"]["test"])
    json.dumps(figures, allow_nan=False)


def test_hits_misses_and_false_alarms() -> None:
    labels = {
        "a": [
            Window(at(10), at(11)),
            Window(at(13), at(13)),
            Window(at(2), at(3)),
            Window(at(90), at(99)),
        ],
        "b": [Window(at(0), at(1))],
        "stranger": [],
    }
    figures = evaluate(judged({"a": ".........|.!!..!", "b": "..|.!."}), labels)
    assert figures["per_entity"]["a"]["labels"] == {
        "windows": 2,
        "hit": 1,
        "missed": 1,
        "false_alarms": 1,
    }
    assert figures["per_entity"]["b"]["labels"] == {
        "windows": 0,
        "hit": 0,
        "missed": 0,
        "false_alarms": 1,
    }
    assert figures["labels"]["hit"] == 1
    assert figures["labels"]["false_alarms_per_entity_and_day"] == pytest.approx(
        2 / (7 / 24), abs=1e-3
    )


def test_a_label_that_names_a_file_is_that_of_the_entity_called_after_it() -> None:
    figures = evaluate(judged({"cat/a": "..|.!."}), {"cat/a.csv": [Window(at(3), at(3))]})
    assert figures["labels"]["hit"] == 1


def test_alarm_that_reaches_into_a_window_is_not_false() -> None:
    figures = evaluate(judged({"a": "..|!!!!."}), {"a": [Window(at(5), at(6))]})
    assert figures["labels"] == {
        "windows": 1,
        "hit": 1,
        "missed": 0,
        "false_alarms": 0,
        "false_alarms_per_entity_and_day": 0.0,
    }


def test_without_a_test_part() -> None:
    figures = evaluate(judged({"a": "...!|"}))
    assert figures["rows"]["test"] == 0
    assert figures["flagged_share"]["test"] == 0.0
    assert figures["score_quantiles"]["test"] == []
    assert figures["alarms_per_entity_and_day"]["test"] == 0.0


@pytest.mark.parametrize(
    ("marks", "expected"),
    [("", []), ("...", []), ("!", [[0, 1]]), ("!!.!", [[0, 2], [3, 4]]), (".!!.", [[1, 3]])],
)
def test_runs(marks: str, expected: list[list[int]]) -> None:
    assert runs(np.array([mark == "!" for mark in marks], np.bool_)).tolist() == expected
