"""The generated fleet: the same everywhere, shaped as documented, anomalies labelled."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from producer.files.series import read_series
from producer.generated.fleet import KINDS, START_MS, csv_text, generate, label_document
from producer.generated.sample import sample
from shared.errors import ConfigError

STEP_MS = 300_000


@pytest.fixture(scope="module")
def fleet():
    return generate(18, 14, seed=3)


def rows(series, label):
    """Rows of the label's host: (before, within), each as (r, 3)."""
    mine = series.entity == series.entities.index(label.entity)
    times, values = series.time_ms[mine], series.values[mine]
    within = (times >= label.start_ms) & (times <= label.end_ms)
    return values[times < START_MS + 0.6 * 14 * 86_400_000], values[within], times


def test_shape_order_and_metrics(fleet):
    series, labels = fleet
    assert series.metrics == ("cpu", "network_in", "disk_write")
    assert len(series) == 18 * 14 * 288
    assert series.entities[:2] == ("host-001", "host-002")
    assert series.time_ms[0] == START_MS
    assert (np.diff(series.time_ms) >= 0).all()
    assert series.entity[:18].tolist() == list(range(18))
    assert len(labels) == 3 * 18


def test_values_are_sane_and_a_few_cells_are_empty(fleet):
    values = fleet[0].values
    share = np.isnan(values).mean()
    assert 0.0003 < share < 0.003
    assert np.nanmin(values) >= 0
    assert np.nanmax(values[:, 0]) <= 100
    assert not np.isinf(values).any()


def test_the_same_arguments_give_the_same_bytes_for_ever():
    # The digest pins the generator itself: a change of numbers must be a decision, for labels and
    # figures hang on them.
    series, labels = generate(4, 3, seed=11, per_host=1)
    digest = hashlib.sha256(series.values.tobytes() + repr(labels).encode()).hexdigest()
    assert digest == "560f8a4f17a92b4fae1384a92d99ac7295bab7d78c2fc3e6e8a4d5e23f7da5b3"
    assert generate(4, 3, seed=12, per_host=1)[0].values.tobytes() != series.values.tobytes()


def test_a_host_does_not_depend_on_how_many_there_are():
    few, few_labels = generate(3, 3, seed=1)
    many, many_labels = generate(300, 3, seed=1)
    np.testing.assert_array_equal(
        many.values.reshape(-1, 300, 3)[:, :3], few.values.reshape(-1, 3, 3)
    )
    assert many_labels[: len(few_labels)] == few_labels


def test_load_has_a_day_and_a_week_and_drives_all_metrics(fleet):
    series, _ = fleet
    block = series.values.reshape(-1, 18, 3)
    hour = np.arange(14 * 288) % 288 // 12
    day = np.arange(14 * 288) // 288
    clean, workday = day < 8, day % 7 < 5
    for host in range(18):
        cpu = block[:, host, 0]
        noon = np.nanmedian(cpu[clean & workday & (hour >= 12) & (hour < 15)])
        night = np.nanmedian(cpu[clean & workday & ((hour < 5) | (hour > 22))])
        sunday = np.nanmedian(cpu[clean & (day == 6) & (hour >= 12) & (hour < 15)])
        assert noon > 1.3 * night
        assert noon > 1.1 * sunday
        both = clean & ~np.isnan(block[:, host]).any(axis=1)
        correlation = np.corrcoef(block[both, host].T)
        assert correlation[0, 1] > 0.8


def test_noise_remembers(fleet):
    cpu = fleet[0].values.reshape(-1, 18, 3)[: 8 * 288, 0, 0]
    residual = cpu[1:-1] - (cpu[:-2] + cpu[2:]) / 2
    white = np.diff(cpu)
    good = ~np.isnan(residual)
    assert np.corrcoef(cpu[:-1][~np.isnan(white)], cpu[1:][~np.isnan(white)])[0, 1] > 0.8
    assert np.std(residual[good]) < np.nanstd(cpu)


def test_every_kind_occurs_and_the_first_part_is_clean(fleet):
    _, labels = fleet
    assert {label.kind for label in labels} == set(KINDS)
    border = START_MS + 0.6 * 14 * 86_400_000
    assert all(label.start_ms > border + 0.01 * 14 * 86_400_000 for label in labels)
    assert all(label.end_ms < START_MS + 14 * 86_400_000 for label in labels)
    for host in {label.entity for label in labels}:
        spans = sorted((label.start_ms, label.end_ms) for label in labels if label.entity == host)
        assert all(a[1] < b[0] for a, b in pairwise(spans))


def test_each_kind_is_what_it_says(fleet):
    series, labels = fleet
    names = series.metrics
    for label in labels:
        usual, within, _ = rows(series, label)
        column = names.index(label.metrics[0])
        value = within[:, column][~np.isnan(within[:, column])]
        high, low = np.nanmax(usual[:, column]), np.nanmin(usual[:, column])
        if not len(value):
            continue
        if label.kind == "spike":
            assert value.max() > high or value.max() == 100
        elif label.kind == "drop":
            assert value.max() < low
        elif label.kind == "flat_line":
            assert len(set(value)) == 1
            assert len(within) == 48
        elif label.kind == "level_shift":
            assert len(within) == 144
        elif label.kind == "all_metrics_drop":
            assert label.metrics == names
            assert (np.nanmax(within, axis=0) < np.nanmin(usual, axis=0)).all()
        elif label.kind.startswith("combination"):
            assert low <= value.min()
            assert value.max() <= high


def test_a_combination_is_usual_in_each_metric_and_anomalous_together(fleet):
    series, labels = fleet
    found = [label for label in labels if label.kind.startswith("combination")]
    assert len(found) >= 8
    for label in found:
        usual, within, _ = rows(series, label)
        changed = series.metrics.index(label.metrics[0])
        assert np.nanmax(within[:, changed]) <= np.nanmax(usual[:, changed])
        assert np.nanmin(within[:, changed]) >= np.nanmin(usual[:, changed])
        # the day's own peak may be a new one
        assert (np.nanmax(within, axis=0) <= 1.1 * np.nanmax(usual, axis=0)).all()
        assert (np.nanmin(within, axis=0) >= 0.9 * np.nanmin(usual, axis=0)).all()
        ratio = usual[:, 0] / usual[:, 1]
        odd = np.nanmedian(within[:, 0] / within[:, 1])
        assert odd > np.nanquantile(ratio, 0.995)


def test_a_missing_job_is_a_day_without_it(fleet):
    series, labels = fleet
    missing = [label for label in labels if label.kind == "missing_job"]
    assert missing
    for label in missing:
        mine = series.entity == series.entities.index(label.entity)
        times, disk = series.time_ms[mine], series.values[mine][:, 2]
        slot = (times % 86_400_000 >= label.start_ms % 86_400_000) & (
            times % 86_400_000 <= label.end_ms % 86_400_000
        )
        by_day = np.nanmedian(disk[slot].reshape(14, -1), axis=1)
        that = (label.start_ms - START_MS) // 86_400_000
        assert by_day[that] < 0.6 * np.median(by_day)


def test_a_share_of_anomalies_may_lie_in_the_first_part():
    _, labels = generate(2, 14, early_per_host=2)
    border = START_MS + 0.6 * 14 * 86_400_000
    assert sum(label.end_ms < border for label in labels) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"days": 0.5},
        {"days": 0.0},
        {"days": float("nan")},
        {"step_s": 0},
        {"seed": -1},
        {"hosts": 0},
        {"days": 14, "per_host": 90},
        {"clean": 1.0},
        {"clean": 2.0},
    ],
)
def test_what_does_not_fit_is_reported(arguments):
    with pytest.raises(ConfigError, match="fleet"):
        generate(**({"hosts": 2, "days": 14} | arguments))


def test_labels_follow_nabs_form_and_the_shift_of_the_replay():
    series, labels = generate(3, 7, per_host=1)
    document = label_document(labels, series.entities, shift_ms=86_400_000)
    assert list(document["windows"]) == list(series.entities)
    first = document["anomalies"][0]
    assert document["windows"]["host-001"] == [[first["start"], first["end"]]]
    assert set(first) == {"entity", "kind", "metrics", "start", "end"}
    moved = label_document(labels, series.entities)["anomalies"][0]["start"]
    assert len(first["start"]) == len("2014-04-10 07:15:00.000000")
    assert int(first["start"][8:10]) == int(moved[8:10]) + 1


def test_the_sample_in_the_repository_is_what_the_code_writes():
    folder = Path(__file__).parents[3] / "data" / "sample"
    files = sample()
    assert {path.name for path in folder.iterdir()} == set(files)
    for name, text in files.items():
        assert (folder / name).read_bytes() == text.encode()
    assert sum(len(text) for text in files.values()) <= 150_000


def test_the_sample_is_read_back(tmp_path):
    series, labels = generate(2, 3, per_host=1)
    (tmp_path / "fleet.csv").write_text(csv_text(series))
    again = read_series(tmp_path / "fleet.csv", "fleet")
    assert again.entities == series.entities
    assert again.metrics == series.metrics
    np.testing.assert_array_equal(again.time_ms, series.time_ms)
    np.testing.assert_array_equal(again.values, series.values)
    assert json.loads(json.dumps(label_document(labels, series.entities)))["windows"].keys() == set(
        series.entities
    )
