"""The backtest as a whole: records pass through the live code; output, files and refused input."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from lapwing.backtest.command import BacktestOptions, backtest, merged
from lapwing.backtest.feeds import InputOptions, open_feed
from lapwing.backtest.files import check_folder
from producer.catalogue import load_catalogue, read_folder
from producer.records import RecordMaker, event_schema
from producer.replay import merge
from shared import artifacts
from shared.batch import Batch
from shared.decode.avro.decoder import AvroDecoder
from shared.errors import ConfigError, DataError
from shared.events import Detector
from shared.kernels.units import DAY_MS
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, load_settings
from tests.support.backtests import (
    ROWS,
    SPIKE,
    START_MS,
    STEP_MS,
    load,
    of,
    outline,
    run,
    text_of,
    wave,
)
from tests.support.models import trained

# -- the way of a record ---------------------------------------------------------------------------


def test_every_record_goes_through_its_avro_bytes_and_the_live_code(folder):
    """The alarms are those of a scorer that is given the producer's own records in one batch."""
    settings = load({})
    hosts, _ = read_folder(folder, load_catalogue())
    stream = merge(hosts)
    made = RecordMaker(settings.topics.input, 1, stream.entities)(stream)
    batch = Batch(
        made.topic,
        0,
        made.values,
        made.keys,
        np.arange(len(stream)),
        np.zeros(len(stream), np.int64),
    )
    decoder = AvroDecoder.of_schemas({1: event_schema(stream.metrics)}, settings.input)
    scorer = Scorer(PartitionState(0), Rules(Configuration.from_settings(settings)))
    wanted = [one for one in scorer.process(batch, decoder).anomalies if one.is_anomaly]
    summary, _ = run(input=of(folder))
    found = summary["first"]["top_alarms"]
    assert len(wanted) == summary["first"]["alarms"]["count"] > 0
    key = lambda one: (one["entity"], one["offset"])  # noqa: E731
    assert sorted(map(key, found)) == sorted((one.entity, one.source_offset) for one in wanted)
    assert {one["reason"] for one in found} == {one.reason for one in wanted}


def test_how_the_records_are_cut_and_spread_changes_nothing(folder):
    def alarms(partitions, batch):
        settings = lambda flags: load(merged({"predict": {"max_batch_records": batch}}, flags))  # noqa: E731
        summary = backtest(
            settings, BacktestOptions(of(folder, partitions=partitions)), io.StringIO()
        )
        return sorted(
            (a["time"], a["entity"], a["severity"], a["reason"])
            for a in summary["first"]["top_alarms"]
        )

    assert alarms(1, 5000) == alarms(1, 7) == alarms(3, 11)


def test_entities_and_metrics_are_named_as_the_producer_names_them(folder):
    summary, _ = run(input=of(folder))
    assert {one["entity"] for one in summary["first"]["per_entity"]} == {
        "web/a_cpu_utilization",
        "web/b_cpu_utilization",
    }
    assert set(summary["first"]["alarms"]["by_metric"]) == {"cpu"}


def test_partitions_are_the_partitioners(folder):
    def partitions(count):
        return {
            batch.partition for batch in open_feed(load({}), of(folder, partitions=count)).batches()
        }

    assert partitions(1) == {0}
    assert len(partitions(16)) == 2


def test_files_need_the_field_that_the_producer_writes():
    other = load_settings({"input": {"entity_fields": ["device"]}}, environ={})
    with pytest.raises(ConfigError, match=r"with the entity in the field 'host'"):
        open_feed(other, InputOptions(fleet=1, days=3))


# -- messages --------------------------------------------------------------------------------------


def test_labels_are_evaluated(folder, labels):
    summary, text = run(input=of(folder), labels=labels)
    message = summary["first"]["labels"]
    assert (message["hits"], message["missed"], message["in_warm_up"]) == (1, 1, 1)
    outcomes = [w["outcome"] for one in summary["first"]["per_entity"] for w in one["windows"]]
    assert sorted(outcomes) == ["hit", "missed", "warming"]
    assert "keys of the labels that match no entity: 1, e.g. elsewhere/c.csv" in summary["notes"]
    assert "1 of 2 windows hit, 1 missed" in text
    assert message["f1"] == round(2 / (2 + message["false_alarms"] + 1), 4)


def test_labels_of_other_entities_are_refused(folder, tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("entity,start,end\nnobody,2014-01-01,2014-01-02\n")
    with pytest.raises(DataError, match=r"none of their 1 keys \(nobody"):
        run(input=of(folder), labels=path)


def test_a_second_configuration(folder):
    summary, text = run(input=of(folder), compared="cold_start=false,threshold=9.9")
    compared = summary["compare"]
    assert compared["configuration"]["detection"]["threshold"] == 9.9
    assert summary["configuration"]["detection"]["threshold"] == DetectionSettings().threshold
    assert compared["configuration"]["detection"]["warmup_days"] == 0.2
    first, second = summary["first"]["alarms"]["count"], compared["second"]["alarms"]["count"]
    assert (compared["kept"] + compared["removed"], compared["kept"] + compared["added"]) == (
        first,
        second,
    )
    assert first > second
    assert "within 6 of its usual intervals" in compared["tolerance"]
    assert (
        f"with cold_start=false,threshold=9.9: {compared['added']} alarms added,"
        f" {compared['removed']} removed" in text
    )


def test_the_same_configuration_changes_nothing(folder):
    compared = run(
        input=of(folder), compared=f"threshold={DetectionSettings().threshold}", tolerance_min=0
    )[0]["compare"]
    assert (compared["added"], compared["removed"]) == (0, 0)
    assert compared["kept"] > 0
    assert "within 0 min" in compared["tolerance"]


def test_members_can_be_compared_with_the_ensemble(folder):
    summary, _ = run(input=of(folder), compared="detector=jump")
    assert (summary["first"]["detector"], summary["compare"]["second"]["detector"]) == (
        "ensemble",
        "jump",
    )
    assert {a["kind"] for a in summary["compare"]["alarms_added"]} <= {"anomaly"}


def test_a_budget_is_compared_with_what_came(folder):
    budget = run(input=of(folder), alarms_per_day=2.0)[0]["first"]["budget"]
    assert budget["asked"] == 2.0
    assert budget["ratio"] == pytest.approx(budget["achieved"] / 2.0, abs=1e-4)


def test_a_generated_fleet_brings_its_labels():
    labels = run(input=InputOptions(fleet=1, days=1))[0]["first"]["labels"]
    assert labels["windows"] + labels["in_warm_up"] == 3
    assert set(labels["by_kind"]) <= {"spike", "drop", "level_shift"}


def test_the_summary_is_a_function_of_the_data(folder, labels):
    assert run(input=of(folder), labels=labels)[0] == run(input=of(folder), labels=labels)[0]


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", ["isolation_forest", "one_class_svm"])
def test_a_model_is_fitted_and_what_it_learnt_from_is_not_counted(folder, detector):
    flags = {"train": {"min_rows": 10, "trees": 5}, "detection": {"threshold": 0.3}}
    options = BacktestOptions(of(folder), detector=detector, fit=True)
    summary = backtest(lambda given: load(merged(flags, given)), options, io.StringIO())
    first = summary["first"]
    assert (first["detector"], first["model"], first["budget"]) == (detector, "trained here", None)
    first_known = DAY_MS // STEP_MS
    border = text_of(START_MS + (first_known + int(0.6 * (ROWS - first_known)) - 1) * STEP_MS)[:16]
    assert first["alarms"]["count"] > 0
    assert min(alarm["time"] for alarm in first["top_alarms"]) > border
    assert 0.2 < first["entity_days"] / (2 * ROWS * STEP_MS / 86_400_000) < 0.5
    assert any("only later records are counted" in note for note in summary["notes"])


def test_a_published_model_says_what_it_has_seen_and_measured(folder, tmp_path):
    given = trained(Detector.ONE_CLASS_SVM)
    found = []
    for model in (
        replace(given.model, version="2100-01-01T00:00:00Z"),
        replace(given.model, version="2000-01-01T00:00:00Z", metrics=("rpm", "network")),
    ):
        artifacts.publish(tmp_path, model, {"input": {"topic": "elsewhere"}}, given.canary)
        options = BacktestOptions(of(folder), compared="model=CURRENT")
        summary = backtest(
            lambda flags: load(merged({"models_dir": tmp_path}, flags)), options, io.StringIO()
        )
        found.append([note for note in summary["notes"] if note.startswith("model ")])
    ((trained_later,), (of_others,)) = found
    assert f"{2 * ROWS:,} of the {2 * ROWS:,} records scored are not later" in trained_later
    assert "none of its metrics (rpm, network) is in the input, which has cpu" in of_others


def test_too_little_to_train_on_is_said(folder):
    with pytest.raises(
        DataError, match=r"--train: .* training rows, 500 are needed \(train\.min_rows\)"
    ):
        run(input=of(folder), fit=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"detector": "isolation_forest"},
            "detector isolation_forest needs a model: --model SHA256",
        ),
        ({"detector": "forest"}, "detector"),
        ({"threshold": 0.0}, "detection.threshold"),
        ({"model": "xyz"}, "--model xyz: CURRENT, or the SHA-256"),
        ({"model": "0123456789"}, "--model 0123456789: no artefacts in"),
        ({"model": "CURRENT", "fit": True}, "--model and --train exclude each other"),
        ({"compared": "threshold"}, "--compare threshold: write KEY=VALUE"),
        (
            {"compared": "tresh=2"},
            "--compare tresh: no such key; allowed are detector, model, window, threshold",
        ),
        ({"compared": "quality.threshold=2"}, "--compare quality.threshold: no such key"),
        ({"compared": "threshold=99"}, "detection.threshold"),
        ({"tolerance_min": 5.0}, "--tolerance 5: minutes, 0 or more, and only with --compare"),
    ],
)
def test_impossible_wishes_are_refused(folder, options, message):
    with pytest.raises(ConfigError) as caught:
        run(input=of(folder), **options)
    assert message in str(caught.value)


# -- what is written -------------------------------------------------------------------------------


def test_files(folder, labels, tmp_path):
    out = tmp_path / "made" / "out"
    summary, _ = run(input=of(folder), labels=labels, out=out, compared="threshold=3")
    assert json.loads((out / "summary.json").read_text()) == summary
    rows = list(csv.DictReader((out / "alarms.csv").open()))
    alarms = [row for row in rows if row["kind"] == "anomaly"]
    assert {row["configuration"] for row in alarms} <= {"first", "second", "both"}
    assert (
        sum(row["configuration"] != "second" for row in alarms)
        == summary["first"]["alarms"]["count"]
    )
    assert all(bool(row["end"]) == bool(row["closed_because"]) for row in alarms)
    assert len(rows) - len(alarms) == sum(summary["first"]["data_quality"].values())
    result = out / "results/lapwing/web/lapwing_a_cpu_utilization.csv"
    read = list(csv.DictReader(result.open()))
    assert list(read[0]) == ["timestamp", "value", "anomaly_score", "label"]
    assert [row["timestamp"] for row in read] == [
        text_of(START_MS + row * STEP_MS) for row in range(ROWS)
    ]
    assert float(read[SPIKE]["value"]) == 90.0
    alarmed = [row["timestamp"] for row in read if float(row["anomaly_score"]) >= 0.5]
    mine = [
        r
        for r in alarms
        if r["entity"] == "web/a_cpu_utilization" and r["configuration"] != "second"
    ]
    assert [time[:16] for time in alarmed] == [row["time"] for row in mine]
    assert sum(int(row["label"]) for row in read) == 11 + 6 + 4
    run(input=of(folder), out=out)  # an earlier backtest may be replaced


def test_the_report_is_whole_and_loads_nothing(folder, labels, tmp_path):
    summary, _ = run(
        input=of(folder), labels=labels, out=tmp_path, compared="cold_start=false,threshold=3"
    )
    page = outline(tmp_path / "report.html")
    assert page.loaded == []
    assert page.links <= page.ids
    text = "".join(page.text)
    assert "web/a_cpu_utilization" in text
    assert "1 of 2" in text
    assert all(alarm["reason"] in text for alarm in summary["first"]["top_alarms"])
    assert "With cold_start=false,threshold=3" in text
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "http" not in html
    assert 'class="span label missed"' in html
    assert 'class="band"' in html


def test_names_from_outside_are_text_in_the_report(tmp_path):
    rows = [
        f"{text_of(START_MS + row * STEP_MS)},<script>alert(1)</script>,{value:.4f}"
        for row, value in enumerate(wave(60, 50))
    ]
    (tmp_path / "wide.csv").write_text("timestamp,host,cpu\n" + "\n".join(rows) + "\n")
    run(input=of(tmp_path / "wide.csv"), out=tmp_path / "out")
    assert "<script" not in (tmp_path / "out/report.html").read_text("utf-8")
    outline(tmp_path / "out/report.html")
    (written,) = (tmp_path / "out/results").rglob("*.csv")
    assert written.name.startswith("lapwing_")


def test_a_folder_of_other_things_is_left_alone(tmp_path, folder):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"it contains thesis\.txt"):
        run(input=of(folder), out=tmp_path)
    with pytest.raises(ConfigError, match="that is a file"):
        check_folder(tmp_path / "thesis.txt")
