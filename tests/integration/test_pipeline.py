"""The main job on a real Kafka, from CSV to anomaly, in processes of their own."""

import io
import random
import signal
import sys

import pytest

import schemas
from lapwing.explain.explain_command import Explanation, explain
from lapwing.explain.explain_target import ExplainTarget
from lapwing.topics import ensure
from shared.encode.records import decode_records
from shared.errors import ArtifactRefused, ConfigError
from tests.support.services.stack import DAYS, HOSTS, Stack, conserved, log_of, oracle

pytestmark = pytest.mark.integration


def test_each_record_has_one_result_and_it_is_the_right_one(replayed):
    predictor = replayed.start("consumer_prediction")
    replayed.wait_until_scored()
    predictor.send_signal(signal.SIGTERM)
    assert predictor.wait(20) == 0, log_of(predictor)
    conserved(replayed)
    results = replayed.results()
    values = [value for _, value, _ in results["anomalies"]]
    events = decode_records(values, [schemas.text(schemas.ANOMALY_EVENT)] * len(values))
    assert any(event["is_anomaly"] for event in events)
    assert results == oracle(replayed)


def test_the_native_client_gives_the_same_bytes(replayed):
    """It reads the same log, and writes to topics of its own what the other client has written."""
    topics = replayed.settings.topics
    own = ("scores", "anomalies", "dead_letters", "activations")
    native = Stack(
        replayed.settings,
        replayed.folder,
        LAPWING_ENGINE="native",
        LAPWING_TOPICS__INPUT=topics.input,
        LAPWING_PREDICT__GROUP=f"{replayed.settings.predict.group}-native",
        **{f"LAPWING_TOPICS__{name.upper()}": f"{getattr(topics, name)}.native" for name in own},
    )
    ensure(native.settings).checked()
    predictor = native.start("consumer_prediction")
    try:
        native.wait_until_scored()
        predictor.send_signal(signal.SIGTERM)
        assert predictor.wait(20) == 0, log_of(predictor)
        written, expected = native.results(), replayed.results()
    finally:
        native.close()
    assert len(expected["scores"]) > 1000
    assert {name: written[name] for name in ("scores", "anomalies")} == {
        name: expected[name] for name in ("scores", "anomalies")
    }
    dead = [record[:2] for record in expected["dead"]]
    assert [record[:2] for record in written["dead"]] == dead, "headers name the group"


def test_explain_repeats_verdicts_across_a_restart_and_a_swap(replayed, tmp_path):
    """Further records are scored with another model and threshold, by a predictor that is killed.

    It runs last, because it changes the input.
    """
    fleet = ("producer", "--fleet", str(HOSTS), "--speed", "max", "--resume", "--days")
    for days, threshold in ((DAYS + 1, "0.7"), (DAYS + 2, "1.0")):
        replayed.run(*fleet, str(days))
        predictor = replayed.start("consumer_prediction", LAPWING_DETECTION__THRESHOLD=threshold)
        replayed.wait_until_scored()
        predictor.kill()
        predictor.wait()
        if threshold == "0.7":
            replayed.run("consumer_training", "--once", "--detector", "one_class_svm")

    settings = replayed.settings
    scores = [value for _, _, _, value, _ in replayed.records(settings.topics.scores)]
    scores = decode_records(scores, [schemas.text(schemas.SCORE_EVENT)] * len(scores))
    alarms = [event for event in scores if event["is_anomaly"]]
    chance = random.Random(7)
    chosen = chance.sample(scores, 3) + chance.sample(alarms, 2)
    models = {event["model_id"] for event in chosen + chance.sample(scores, 200)}
    assert len(models) == 2, "both models have scored"
    explanation = Explanation(settings, sys.stderr)
    for event in chosen:
        target = ExplainTarget(partition=event["source_partition"], offset=event["source_offset"])
        facts, _ = explanation.of(target)
        assert facts["verdict"] == "identical", facts["results"]
        assert facts["why"]["entity"] == event["entity"]
        assert facts["recomputed"]["model_id"] == event["model_id"]

    picture = tmp_path / "why.svg"
    out = io.StringIO()
    assert explain(settings, alarms[-1]["episode_id"], picture=picture, out=out) == 0
    assert out.getvalue().startswith("identical: ")
    assert picture.read_text("utf-8").count('class="chart"') == 3

    newest = max(event["source_offset"] for event in scores if event["source_partition"] == 0)
    bad = {
        "3:x": "EVENT_ID|event id",
        "0" * 32: "neither in",
        f"0:{newest + 1000}": "does not exist yet",
        "99:0": "has no partition 99",
    }
    for target, message in bad.items():
        with pytest.raises(ConfigError, match=message):
            explain(settings, target, out=out)

    partition, offset = alarms[-1]["source_partition"], alarms[-1]["source_offset"]
    in_force = next(settings.models_dir.glob(f"{alarms[-1]['model_id']}*")) / "model.npz"
    content = bytearray(in_force.read_bytes())
    content[len(content) // 2] ^= 1
    in_force.chmod(0o644)
    in_force.write_bytes(content)
    with pytest.raises(ArtifactRefused, match=alarms[-1]["model_id"]):
        explain(settings, f"{partition}:{offset}", out=out)
