"""The fault suite's accounting of missing, doubled, changed and reordered records."""

from __future__ import annotations

from collections import Counter

import pytest

import schemas
from shared.encode.records import encode_records
from tests.faults.content import POISON, START_MS, Content, Mix, evolved_schemas
from tests.faults.run import Counts, compare
from tests.faults.suite import chosen
from tests.faults.table import ROWS, Tally, as_text
from tests.support.services.auditor import Account, Result

GROUP = "predictors"
A, B, C = (0, 0), (0, 1), (1, 0)
IDS = {name: 10 + k for k, name in enumerate(evolved_schemas())}


def result(text: bytes, *headers: tuple[str, bytes]) -> Result:
    return b"key", text, headers


def counted(expected, found) -> tuple[int, int, int]:
    counts = compare(expected, found, GROUP)
    return counts.lost, counts.duplicates, counts.wrong


RIGHT = {A: [result(b"a")], B: [result(b"b1"), result(b"b2")], C: [result(b"c")]}


@pytest.mark.parametrize(
    ("found", "lost", "duplicates", "wrong"),
    [
        (RIGHT, 0, 0, 0),
        (RIGHT | {B: RIGHT[B][::-1]}, 0, 0, 0),
        (RIGHT | {A: []}, 1, 0, 0),
        ({}, 4, 0, 0),
        (RIGHT | {B: RIGHT[B][:1]}, 1, 0, 0),
        (RIGHT | {A: [result(b"a")] * 2}, 0, 1, 0),
        (RIGHT | {A: [result(b"a"), result(b"x")]}, 0, 1, 1),
        (RIGHT | {A: [result(b"x")]}, 0, 0, 1),
        (RIGHT | {A: [(b"other", b"a", ())]}, 0, 0, 1),
        (RIGHT | {A: [result(b"a", ("more", b""))]}, 0, 0, 1),
        (RIGHT | {B: [result(b"b1"), result(b"b1")]}, 0, 0, 1),
        (RIGHT | {(2, 5): [result(b"nobody's")]}, 0, 0, 1),
    ],
)
def test_each_difference_is_counted_as_what_it_is(found, lost, duplicates, wrong):
    assert counted(RIGHT, found) == (lost, duplicates, wrong)


def test_a_dead_letter_may_name_the_group_of_its_run_and_no_other():
    name = "__connect.errors.connector.name"
    expected = {A: [result(b"a", (name, b"oracle"))]}
    assert counted(expected, {A: [result(b"a", (name, GROUP.encode()))]}) == (0, 0, 0)
    assert counted(expected, {A: [result(b"a", (name, b"another"))]}) == (0, 0, 1)


def activation(partition: int, offset: int) -> Result:
    record = {
        "group": "g", "source_topic": "t", "source_partition": partition, "source_offset": offset,
        "detector_id": "d", "model_sha256": "", "model_version": "", "state_version": 1,
        "settings": "{}",
    }  # fmt: skip
    return result(encode_records(schemas.text(schemas.MODEL_ACTIVATION), 1, [record])[0])


def test_order_is_that_of_the_input_within_a_partition_of_the_results():
    account = Account()
    for place, (partition, offset) in enumerate([(0, 0), (1, 5), (0, 1), (1, 5), (1, 6), (0, 4)]):
        account.note("activations", 0, place, activation(partition, offset))
    assert account.disorder == 0
    account.note("activations", 1, 0, activation(0, 2))
    assert account.disorder == 0
    account.note("activations", 0, 9, activation(0, 3))
    assert account.disorder == 1


def test_progress_says_when_a_record_was_first_followed_by_a_result():
    account = Account()
    account.progress[0] += [(1.0, 3), (2.0, 7)]
    assert [account.reached_s(0, offset) for offset in (0, 3, 4, 7, 8)] == [
        1.0,
        1.0,
        2.0,
        2.0,
        None,
    ]
    assert account.reached_s(1, 0) is None


def test_a_tally_with_anything_in_it_is_not_clean():
    assert Tally("ci", None).clean
    for one in (
        Counts(lost=1),
        Counts(duplicates=1),
        Counts(wrong=1),
        Counts(disorder=1),
        Counts(problems=["no"]),
    ):
        assert not Tally("ci", None, counts=one).clean


def test_the_table_shows_every_figure():
    record = Tally(
        "ci", None, runs=2, kills=3, counts=Counts(4, 5, 6, 7), recoveries=[1.0, 2.0, 9.0]
    ).record("fault")
    assert as_text([record]).splitlines()[1].split() == [
        "fault",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "2.0",
        "9.0",
    ]


def test_every_row_has_a_name_of_its_own_and_the_levels_grow():
    assert len({row.name for row in ROWS}) == len(ROWS) >= 20
    assert all(row.times["few"] <= row.times["ci"] for row in ROWS)
    assert all(row.times["ci"] <= max(row.times["quick"], row.times["full"]) for row in ROWS)
    assert 3 <= len(chosen("few")) < len(chosen("ci")) < len(chosen("quick")) <= len(chosen("full"))


def test_the_stream_is_the_same_however_far_it_is_read():
    mix = Mix(poison=0.1, bursts={40: 30}, evolve_at=50)
    once, twice, other = (Content(seed, IDS, 6, mix) for seed in (7, 7, 8))
    once.need(600)
    for count in range(0, 600, 7):
        twice.need(count)
    other.need(600)
    assert once.records[:590] == twice.records[:590]
    assert once.places[:590] == twice.places[:590]
    assert once.records[:590] != other.records[:590]
    assert sum(once.counts(600).values()) == 600


def test_bad_records_come_in_every_kind_and_leave_the_good_ones_alone():
    mix = Mix(poison=0.5, bursts={100: 50})
    content, clean = Content(3, IDS, 6, mix), Content(3, IDS, 6, mix.without_poison())
    content.need(1000)
    good = [
        record for record, is_good in zip(content.records, content.good, strict=True) if is_good
    ]
    clean.need(len(good))
    assert good == clean.records[: len(good)]
    assert all(clean.good)
    assert content.good.count(False) > 50 + len(POISON)


def test_the_stream_holds_what_real_ones_do():
    content = Content(5, IDS, 6, Mix(poison=0.0, duplicates=0.05, late=0.05, evolve_at=100))
    content.need(3000)
    assert max(Counter(content.records).values()) > 1
    assert {value[4] for _, value in content.records} == {IDS["v1"], IDS["v2"], IDS["v3"]}
    assert START_MS > 0


def test_pods_come_and_go_beside_hosts_whose_records_stay_as_they_are():
    plain = Content(3, IDS, 6, Mix(poison=0.0, evolve_at=10_000))
    mixed = Content(3, IDS, 6, Mix(poison=0.0, evolve_at=10_000, pods=5))
    plain.need(3_000)
    mixed.need(6_000)
    hosts = [record for record in mixed.records if record[0].startswith(b"host-")]
    assert plain.records[: len(hosts)] == hosts[: len(plain.records)]
    pods = Counter(key for key, _ in mixed.records if key.startswith(b"pod-"))
    assert len(pods) == 5
    assert all(20 < count < len(hosts) / 12 for count in pods.values())
