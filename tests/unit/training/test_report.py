"""The report: which entities get a picture, what it shows, and that it is one."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from consumer_training import pictures
from consumer_training.evaluation import evaluate
from consumer_training.report import (
    EntityView,
    choose_entities,
    entities_csv,
    file_names,
    report_json,
    views,
)
from consumer_training.training import TRAIN
from shared.events import Detector, severity_class
from shared.labels import Window
from shared.settings import FeatureSettings
from tests.support.models import (
    DETECTORS,
    SETTINGS,
    START_MS,
    STEP_MS,
    WARMUP_ROWS,
    rows_of,
    series,
    train,
    trained,
)

WINDOW = Window(START_MS + WARMUP_ROWS * STEP_MS, START_MS + (WARMUP_ROWS + 1) * STEP_MS)


def figures_of(severity: dict[str, float], alarms: dict[str, int]) -> dict[str, object]:
    return {
        "per_entity": {
            name: {"peak_severity": severity[name], "test": {"alarms": alarms[name]}}
            for name in severity
        }
    }


def test_the_most_anomalous_entities_get_the_pictures() -> None:
    figures = figures_of({"a": 0.6, "b": 0.9, "c": 0.6, "d": 0.6}, {"a": 1, "b": 1, "c": 5, "d": 1})
    assert choose_entities(figures, 3) == ["b", "c", "a"]
    assert choose_entities(figures) == ["b", "c", "a", "d"]


def test_file_names_are_plain_and_each_its_own() -> None:
    names = file_names(
        ["web-1", "WEB-1", "a/b", "a_b", "../../etc/passwd", "ü", "x" * 300, "..", "con:1"]
    )
    assert names["web-1"] == "web-1.svg"
    assert names["a_b"] == "a_b.svg"
    assert len({name.lower() for name in names.values()}) == len(names)
    for name in names.values():
        assert len(name) < 100
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert not name.startswith(".")


def test_report_json_says_what_has_no_picture() -> None:
    document = json.loads(
        report_json(evaluate(trained(Detector.ISOLATION_FOREST)), {"host-0": "host-0.svg"}, 2)
    )
    assert document["pictures"] == {"host-0": "host-0.svg"}
    assert document["entities_without_picture"] == 2
    assert set(document["per_entity"]) == {"host-0", "host-1", "host-2"}


def test_entities_csv_holds_the_figures_of_each_entity() -> None:
    figures = evaluate(trained(Detector.ISOLATION_FOREST))
    table = pd.read_csv(io.BytesIO(entities_csv(figures))).set_index("entity")
    assert sorted(table.index) == ["host-0", "host-1", "host-2"]
    assert table.peak_severity.is_monotonic_decreasing
    for name, entry in figures["per_entity"].items():
        assert table.loc[name, "test.rows"] == entry["test"]["rows"]
        assert table.loc[name, "train.alarms"] == entry["train"]["alarms"]


@pytest.mark.parametrize("detector", DETECTORS)
def test_view_shows_the_rows_and_the_anomalies(detector: Detector) -> None:
    result = trained(detector)
    (view,) = views(result, ["host-1"], {"host-1": [WINDOW]})
    assert len(view.time_ms) == 150 - WARMUP_ROWS
    low, high = int(result.rows.bounds[1]), int(result.rows.bounds[2])
    flagged = np.flatnonzero(result.scores[low:high] > result.model.threshold)
    assert view.metrics == ("cpu", "network")
    assert view.at_ms.tolist() == result.rows.time_ms[low + flagged].tolist()
    assert (view.severity >= 0.5).all()
    np.testing.assert_array_equal(view.at_value, result.rows.values[low + flagged, view.at_metric])
    boundary = low + int((result.part[low:high] == TRAIN).sum())
    assert view.boundary_ms == result.rows.time_ms[boundary]
    assert view.warm_ms == START_MS + WARMUP_ROWS * STEP_MS
    assert view.labels == [WINDOW]


def test_views_only_of_entities_that_the_model_knows() -> None:
    result = trained(Detector.ISOLATION_FOREST)
    assert [view.entity for view in views(result, ["host-2", "stranger", "host-0"])] == [
        "host-0",
        "host-2",
    ]


def test_metric_that_an_entity_never_reports_has_no_panel() -> None:
    values = {f"host-{k}": series(200, 2, k) for k in range(3)}
    values["host-2"][:, 0] = np.nan
    result = train(
        rows_of(values, ("cpu", "network")), Detector.ONE_CLASS_SVM, FeatureSettings(), SETTINGS
    )
    (view,) = views(result, ["host-2"])
    assert view.metrics == ("network",)
    assert set(view.at_metric.tolist()) <= {0}


def drawn(view: EntityView) -> ElementTree.Element:
    """The picture, read as XML."""
    return ElementTree.fromstring(pictures.picture(view))


def classes(root: ElementTree.Element, word: str) -> list[str]:
    found = [element.get("class", "") for element in root.iter()]
    return [name for name in found if word in name.split()]


def test_picture_shows_each_metric_with_its_anomalies() -> None:
    (view,) = views(trained(Detector.ONE_CLASS_SVM), ["host-1"], {"host-1": [WINDOW]})
    assert len(view.at_ms)
    root = drawn(view)
    runs = sum(len(pictures._runs_of(view, metric)) for metric in (0, 1))
    assert len(classes(root, "mark")) == runs
    assert len(classes(root, "episode")) == runs
    for word, count in (("chart", 2), ("label", 2), ("warming", 0), ("trained", 2)):
        assert len(classes(root, word)) == count, word
    texts = [element.text for element in root.iter() if element.text]
    assert {"host-1", "cpu", "network", view.subtitle} <= set(texts)
    assert b"http" not in pictures.picture(view).replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize("rows", [0, 1, 2, 40])
def test_unusual_views_can_be_drawn(rows: int) -> None:
    (view,) = views(trained(Detector.ISOLATION_FOREST), ["host-0"])
    time_ms = view.time_ms[:rows].copy()
    time_ms[30:] += 50 * STEP_MS
    empty = np.empty(0)
    small = replace(
        view, title="<a> \x01\uffff name " * 30, time_ms=time_ms, values=np.ones((rows, 2)),
        expected=view.expected[:rows], lower=view.lower[:rows], upper=view.upper[:rows],
        boundary_ms=None, warm_ms=int(view.time_ms[5]), at_ms=view.time_ms[:0], at_value=empty,
        at_metric=empty.astype(np.int64), severity=empty, labels=[Window(0, 1)],
    )  # fmt: skip
    assert classes(drawn(small), "mark") == []
    missing = replace(
        small,
        at_ms=view.time_ms[:1],
        at_value=np.array([np.nan]),
        at_metric=np.zeros(1, np.int64),
        severity=np.array([1.0]),
    )
    assert classes(drawn(missing), "mark") == (["mark critical"] if rows else [])


def test_marks_are_at_the_peaks_of_runs() -> None:
    (view,) = views(trained(Detector.ISOLATION_FOREST), ["host-0"])
    several = replace(
        view,
        at_ms=view.time_ms[[3, 4, 5]],
        at_value=np.array([7.0, 8.0, 9.0]),
        at_metric=np.zeros(3, np.int64),
        severity=np.array([0.6, 0.95, 0.7]),
    )
    (mark,) = pictures._marks(several, pictures._runs_of(several, 0))
    assert (mark.time_ms, mark.value) == (int(view.time_ms[4]), 8.0)
    assert mark.severity_class == severity_class(0.95).value


def test_runs_of_anomalies_are_parted_by_usual_rows() -> None:
    (view,) = views(trained(Detector.ISOLATION_FOREST), ["host-0"])
    at = view.time_ms[[3, 4, 5, 9, 10, 12]]
    several = replace(
        view,
        at_ms=at,
        at_value=np.ones(6),
        at_metric=np.array([0, 0, 0, 0, 1, 0]),
        severity=np.full(6, 0.6),
    )
    assert [run.tolist() for run in pictures._runs_of(several, 0)] == [[0, 1, 2], [3], [5]]
    assert [run.tolist() for run in pictures._runs_of(several, 1)] == [[4]]
    assert pictures._runs_of(several, 2) == []
