"""``lapwing explain ID``: the same bytes from one entity's records; what differs if not."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

import schemas
from consumer_prediction.outgoing import Encoder, SchemaIds
from lapwing.explain.explain_target import ExplainTarget
from lapwing.explain.explanation_picture import explanation_picture
from lapwing.explain.explanation_text import to_json, to_text
from lapwing.explain.model_evidence import heaviest_vectors, model_evidence, shortest_path
from lapwing.explain.recomputation import Question, Recomputation, anomalies_of
from lapwing.explain.row_evidence import row_evidence
from lapwing.explain.source_records import rows_containing
from lapwing.explain.verdict_comparison import (
    Agreement,
    Compared,
    ResultRecord,
    compare,
    verdict_of,
)
from shared.batch import Blob
from shared.encode.records import decode_records
from shared.errors import ConfigError
from shared.events import Detector
from shared.models.model import Forest, Model, Svm
from shared.models.peers import Peers
from shared.models.value_rows import list_entities, value_rows
from shared.scoring.explaining import Trained
from shared.scoring.state import PartitionState
from shared.scoring.values_seen import ValuesSeen
from tests.support.fakes import LinearModel
from tests.support.loop_world import (
    GROUP,
    HOSTS,
    INPUT,
    SLOW,
    TOPICS,
    A,
    B,
    World,
    begun,
    configured,
    metric_event,
)
from tests.support.models import trained

SCORE = schemas.text(schemas.SCORE_EVENT)
ANOMALY = schemas.text(schemas.ANOMALY_EVENT)
IDS = SchemaIds(1, 2, 3)


BY_ID = {IDS.score: SCORE, IDS.anomaly: ANOMALY}.get


def scored_world(folder, seed):
    """A log that was scored by several predictors, with model and setting swaps between."""
    world = World(folder, seed, records=160 if SLOW else 300)
    chance = random.Random(seed)
    loop = begun(world)
    for k in range(6):
        world.step(loop, chance.randrange(1, 8))
        world.models.current = chance.choice([None, A, B])
        if chance.random() < 0.5:
            world.configuration = configured(
                Detector.ENSEMBLE if k % 2 else Detector.ISOLATION_FOREST,
                threshold=chance.choice([0.2, 0.3, 0.6]),
            )
            loop.drain(commit=chance.random() < 0.5)
            loop = begun(world, slot="b")
    world.models.current = A
    world.finish(loop)
    world.assert_conserved()
    return world


def written_of(world, topic):
    """(partition, source offset, entity) -> the records of a topic."""
    text, found = (SCORE if topic == TOPICS.scores else ANOMALY), {}
    for *_, record in world.log.visible(topic):
        [event] = decode_records([record.value], [text])
        key = event["source_partition"], event["source_offset"], event["entity"]
        found.setdefault(key, []).append(
            ResultRecord(record.key, record.value, tuple(record.headers))
        )
    return found


def recompute(world, partition, offset, entity, *, change=lambda batch: batch, **window):
    """Recompute one verdict from the whole log of its partition, cut into small batches."""
    evidence = []
    recomputation = Recomputation(
        Question(offset, entity, **window),
        PartitionState(0),
        [a for p, a in world.activations() if p == partition],
        world.models.load,
        world.registry,
        Encoder(TOPICS, IDS, GROUP, INPUT.max_record_bytes).outcome,
        lambda found: evidence.append(row_evidence(found)),
    )
    end = 10_000 if window else offset + 1
    batch, _ = world.log.read(TOPICS.input, partition, 0, end)
    batch = change(batch)
    for start in range(0, len(batch), 37):
        part = batch.rows(start, min(start + 37, len(batch)))
        world.registry.prepare(part)
        recomputation.feed(part)
    return recomputation, evidence[0]


def agreement(written, recomputed, schema=BY_ID):
    if written is None:
        return Agreement.MISSING
    return compare("score", "", recomputed, written, schema, may_be_gone=False).agreement


@pytest.mark.parametrize("seed", range(2 if SLOW else 6))
def test_random_verdicts_are_identical_from_the_records_of_one_entity(tmp_path, seed):
    world = scored_world(tmp_path, seed)
    scores, anomalies = (written_of(world, t) for t in (TOPICS.scores, TOPICS.anomalies))
    chance = random.Random(seed)
    wanted = chance.sample(sorted(scores), 5 if SLOW else 40)
    alarming = [key for key in sorted(anomalies) if key in scores]
    wanted += chance.sample(alarming, min(len(alarming), 3 if SLOW else 20))
    for key in wanted:
        found, why = recompute(world, *key)
        if key[0] == 0 and key[1] > 40:  # two entities share this partition
            assert found.rows_folded < 0.8 * found.records_read
        [score] = [ResultRecord(*sent) for sent in anomalies_of(found.result.sent, TOPICS.scores)]
        assert agreement(scores[key][0], score) is Agreement.IDENTICAL, key
        mine = [
            ResultRecord(*sent)
            for sent in anomalies_of(found.result.sent, TOPICS.anomalies)
            if sent[0].decode() == key[2]
        ]
        assert [(one.key, one.value, one.headers) for one in mine] == [
            (one.key, one.value, one.headers) for one in anomalies.get(key, [])
        ]
        assert why["entity"] == key[2]


def test_an_episode_that_a_change_of_settings_ended_at_another_entitys_record(tmp_path):
    """The closing record has the coordinates of the first record under the other settings."""
    for seed in range(30):
        world = scored_world(tmp_path / str(seed), seed)
        scores, anomalies = (written_of(world, t) for t in (TOPICS.scores, TOPICS.anomalies))
        closed = [key for key in sorted(anomalies) if key not in scores]
        if closed:
            break
    else:
        pytest.fail("no scene ended an episode by another entity's record")
    found, _ = recompute(world, *closed[0])
    sent = anomalies_of(found.result.sent, TOPICS.anomalies)
    mine = [one for one in sent if one[0].decode() == closed[0][2]]
    assert mine == [(one.key, one.value, one.headers) for one in anomalies[closed[0]]]


def test_one_changed_byte_of_history_or_another_model_differs(tmp_path):
    world = scored_world(tmp_path, 1)
    scores = written_of(world, TOPICS.scores)
    key = [key for key in sorted(scores) if key[0] == 0][-1]
    history = [k for k in sorted(scores) if k[0] == 0 and k[2] == key[2]]

    def changed(batch):
        """Change the value of one earlier record of the entity."""
        row = int(np.searchsorted(batch.offsets, history[-2][1]))
        values = [batch.values[k] for k in range(len(batch))]
        [event] = decode_records([values[row]], [schemas.text(schemas.METRIC_EVENT)])
        minute = (event["timestamp"] - 1_400_000_000_000) // 3_600_000
        values[row] = metric_event(event[INPUT.entity_fields[0]], minute, event["cpu"] + 1.0)
        return replace(batch, values=Blob.join(values))

    def score_of(found):
        return next(ResultRecord(*sent) for sent in anomalies_of(found.result.sent, TOPICS.scores))

    same, _ = recompute(world, *key)
    other, _ = recompute(world, *key, change=changed)
    assert agreement(scores[key][0], score_of(same)) is Agreement.IDENTICAL
    compared = compare("score", "", score_of(other), scores[key][0], BY_ID, may_be_gone=False)
    assert compared.agreement is Agreement.DIFFERS
    assert {name for name, *_ in compared.differences} <= compared_fields(scores[key][0])
    world.models.all[A] = LinearModel(B)
    world.models.all[A].sha256 = A
    last = [key for key in sorted(scores) if key[0] == 0][-20:]
    swapped = {agreement(scores[k][0], score_of(recompute(world, *k)[0])) for k in last}
    assert Agreement.DIFFERS in swapped


def compared_fields(record):
    [event] = decode_records([record.value], [SCORE])
    metrics = {f"{m['name']}.{part}" for m in event["metrics"] for part in m}
    return {*event, *metrics}


def test_the_rows_around_it_for_the_picture(tmp_path):
    world = scored_world(tmp_path, 2)
    scores = written_of(world, TOPICS.scores)
    key = sorted(scores)[len(scores) // 3]
    [event] = decode_records([scores[key][0].value], [SCORE])
    at_ms = event["event_time"]
    window = {"from_ms": at_ms - 20 * 3_600_000, "until_ms": at_ms + 9 * 3_600_000}
    found, why = recompute(world, *key, **window)
    times = [row.time_ms for row in found.rows]
    own = [
        e["event_time"]
        for k in scores
        if k[0] == key[0] and k[2] == key[2]
        for e in decode_records([scores[k][0].value], [SCORE])
    ]
    expected = sorted(t for t in own if window["from_ms"] <= t <= window["until_ms"])
    assert sorted(times) == expected
    assert found.is_past == (max(own) > window["until_ms"])
    svg = explanation_picture(f"{key[2]} <now>", found.rows, at_ms, why["severity"]).decode()
    assert svg.startswith("<svg xmlns=")
    assert ">cpu</text>" in svg
    assert "<now>" not in svg
    assert svg.count('class="chart"') == 1, "metrics that are always missing have no panel"


def test_what_led_to_a_verdict(tmp_path):
    world = scored_world(tmp_path, 3)
    scores = written_of(world, TOPICS.scores)
    key = sorted(scores)[-1]
    _, why = recompute(world, *key)
    [event] = decode_records([scores[key][0].value], [SCORE])
    assert (why["event_time"], why["state"]) == (event["event_time"], event["state"])
    [cpu] = [metric for metric in why["metrics"] if metric["name"] == "cpu"]
    [written] = [metric for metric in event["metrics"] if metric["name"] == "cpu"]
    assert {name: cpu[name] for name in written} == written
    assert len(cpu["alike_days"]) <= 3
    differences = [day["difference"] for day in cpu["alike_days"]]
    assert differences == sorted(differences)
    ratios = [abs(view["ratio"]) for view in cpu["views"]]
    assert ratios == sorted(ratios, reverse=True)
    assert all(
        view["level"] is None or abs(view["seen"] - view["ratio"] * view["level"]) < 1e-9
        for view in cpu["views"]
    )


def features_of(model, random_state=0):
    chance = np.random.default_rng(random_state)
    x = np.ascontiguousarray(np.abs(chance.standard_normal((1, len(model.usual)))) * 3)
    return Trained(x, np.zeros(x.shape, np.int32), np.zeros((1, 1)), np.zeros((1, 1)), ["cpu"])


def test_the_forests_shortest_path_leads_to_its_leaf():
    model = trained(Detector.ISOLATION_FOREST).model
    seen = features_of(model)
    evidence = model_evidence(model, seen, 0)
    path = evidence["shortest_path"]
    assert abs(sum(one["share"] for one in evidence["features"]) - 1.0) < 1e-9
    member = model.member
    assert isinstance(member, Forest)
    mean = path["mean_path_length"]
    assert abs(2.0 ** (-mean * path["trees"] / member.denominator) - abs(evidence["score"])) < 1e-9
    for one in path["conditions"]:
        left = np.float32(one["value"]) <= np.float32(one["threshold"])
        assert one["is"] == ("<=" if left else ">")
    assert path == shortest_path(member, seen.features[0])
    assert path["path_length"] <= mean


def test_the_heaviest_support_vectors_are_those_of_the_score():
    model = trained(Detector.ONE_CLASS_SVM).model
    seen = features_of(model)
    member = model.member
    assert isinstance(member, Svm)
    x = member.vectors[2]
    found = heaviest_vectors(member, x)
    weights = [
        float(c * np.exp(-member.gamma * ((v - x) ** 2).sum()))
        for c, v in zip(member.coefficients, member.vectors, strict=True)
    ]
    assert [one["weight"] for one in found] == pytest.approx(sorted(weights, reverse=True)[:3])
    assert 0.0 in [one["distance"] for one in found]
    assert model_evidence(model, seen, 0)["support_vectors"]
    assert model_evidence(None, seen, 0) is None
    unknown = seen._replace(features=np.full_like(seen.features, np.nan))
    assert model_evidence(model, unknown, 0) is None


def test_a_row_is_shown_beside_its_peers():
    peers = Peers(
        list_entities(["a", "b", "c"]),
        np.array([0, 0, -1], np.int32),
        np.array([[[10.0, 100.0]]]),
        np.array([[[1.0, 20.0]]]),
    )
    model = Model(
        "ab" * 32,
        "2024-01-01",
        Detector.PEER_GROUPS,
        ("cpu", "disk"),
        np.empty(0),
        peers,
        3.0,
        np.linspace(0.0, 6.0, 40),
    )
    rows = np.array([[0.0, 12.0, 16.0, 110.0]])
    seen = ValuesSeen(rows, np.array([1.0]), np.array([True]))
    evidence = model_evidence(model, seen, 0)
    assert evidence["peers"] == 2
    assert [(one["feature"], one["value"], one["usual"]) for one in evidence["features"]] == [
        ("cpu", 16.0, 10.0),
        ("disk", 110.0, 100.0),
    ]
    assert evidence["score"] == float(model.score(rows)[0])
    assert model_evidence(model, replace(seen, known=np.array([False])), 0) is None


def test_a_row_is_shown_beside_its_reconstruction():
    model = trained(Detector.RECONSTRUCTION).model
    rows = value_rows(np.array([0]), np.array([12.0]), np.array([[1.0, 30.0]]), [0, 1])
    evidence = model_evidence(model, ValuesSeen(rows, np.array([1.0]), np.array([True])), 0)
    assert "peers" not in evidence
    usual = {
        metric: model.member.expected(rows[0], place)[0]
        for place, metric in enumerate(model.metrics)
    }
    assert {one["feature"]: one["usual"] for one in evidence["features"]} == usual
    assert abs(sum(one["share"] for one in evidence["features"]) - 1.0) < 1e-9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3:1024", ExplainTarget(partition=3, offset=1024)),
        ("in.raw[3]@1024", ExplainTarget(partition=3, offset=1024)),
        ("AB" * 16, ExplainTarget(event_id="ab" * 16)),
    ],
)
def test_targets(text, expected):
    assert ExplainTarget.parse(text, "in.raw") == expected


@pytest.mark.parametrize("text", ["", "3", "3:-1", "ab" * 15, "other[0]@1", "3:1:2", "x:1"])
def test_malformed_targets_are_named(text):
    with pytest.raises(ConfigError, match="explain"):
        ExplainTarget.parse(text, "in.raw")


def test_a_result_that_retention_removed_is_not_a_difference():
    record = ResultRecord(b"k", b"\0\0\0\0\1abc")
    gone = compare("score", "id", record, None, BY_ID, may_be_gone=True)
    missing = compare("score", "id", record, None, BY_ID, may_be_gone=False)
    assert (verdict_of([gone]), verdict_of([missing])) == ("not compared", "differs")
    identical = Compared("a", "", Agreement.IDENTICAL)
    unexpected = Compared("b", "", Agreement.UNEXPECTED)
    assert verdict_of([identical, gone]) == "identical"
    assert verdict_of([identical, unexpected]) == "differs"


def test_headers_and_keys_are_compared_too():
    record = ResultRecord(b"k", b"\0\0\0\0\1abc", (("ce_id", b"1"),))
    for other, field in (
        (replace(record, key=b"x"), "key"),
        (replace(record, headers=(("ce_id", b"2"),)), "header ce_id"),
        (replace(record, value=b"\0\0\0\0\1abd"), "value"),
    ):
        compared = compare("a", "", other, record, lambda _: None, may_be_gone=False)
        assert [name for name, *_ in compared.differences] == [field]
    other_id = replace(record, value=b"\0\0\0\0\2abc")
    assert agreement(record, other_id) is Agreement.IDENTICAL, "another version of the schema"


def test_bytes_are_found_within_values_only():
    values = Blob.join([b"xxab", b"cdab", b"", b"abcdabcd", b"x"])
    assert rows_containing(values, b"abcd") == [3]
    assert rows_containing(values, b"ab") == [0, 1, 3]
    cut = Blob(values.data, values.bounds[1:4])
    assert rows_containing(cut, b"ab") == [0]


def test_text_and_json_show_the_same(tmp_path):
    world = scored_world(tmp_path, 4)
    scores = written_of(world, TOPICS.scores)
    key = sorted(scores)[-1]
    _, why = recompute(world, *key)
    model = trained(Detector.ISOLATION_FOREST).model
    facts = {
        "verdict": "differs",
        "event_id": None,
        "source": {
            "topic": "in",
            "partition": key[0],
            "offset": key[1],
            "entity": key[2],
            "event_time": why["event_time"],
        },
        "recomputed": {
            "detector": "ensemble",
            "model_id": None,
            "settings_id": "abcd",
            "state_version": 7,
            "activation_offset": 0,
            "from_snapshot": False,
            "from_offset": 0,
            "whole_partition": False,
            "rows_folded": 12,
            "records_read": 1200,
            "seconds": 1.5,
            "note": "",
        },
        "results": [
            {
                "name": "score",
                "event_id": "ff",
                "agreement": "differs",
                "coordinates": "s[0]@1",
                "size_bytes": 9,
                "differences": [("score", 1.0, None)],
            }
        ],
        "why": why | {"reasons": ["cpu is 40"]},
        "model": model_evidence(model, features_of(model), 0),
    }
    text = to_text(facts)
    assert f"differs: in[{key[0]}]@{key[1]}" in text
    assert "score: written 1.0, recomputed nothing" in text
    assert "cpu is 40" in text
    assert "isolates it soonest" in text
    assert key[2] in HOSTS
    document = json.loads(to_json(facts))
    assert document["source"]["event_time"].endswith("Z")
    assert document["recomputed"]["seconds"] == 1.5
    assert document["model"]["shortest_path"] == facts["model"]["shortest_path"]
