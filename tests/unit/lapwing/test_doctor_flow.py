"""What the doctor says of dead letters and of results, on topics in memory."""

from __future__ import annotations

import numpy as np
import pytest

from lapwing.doctor import flow
from lapwing.doctor.flow import RECENT_RECORDS, TAIL_OFFSETS, Flow
from shared.batch import Batch, Blob, Position
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.dead_letters import dead_letters
from shared.errors import TransportError
from shared.events import Reason
from shared.settings import Settings, load_settings

SETTINGS = Settings()
TOPICS = SETTINGS.topics
NO_SCHEMA = AvroDecoder.of_schemas({}, SETTINGS.input)
AVRO = bytes.fromhex("0261 80a0abfef962 02000000000000f83f 0000")


class Kafka:
    """Kafka in memory: batches of each partition, committed positions, actions during sleeps."""

    def __init__(self, partitions=2):
        self.ends = {
            topic: dict.fromkeys(range(partitions), 0)
            for topic in (TOPICS.input, TOPICS.scores, TOPICS.dead_letters)
        }
        self.starts = {topic: dict.fromkeys(range(partitions), 0) for topic in self.ends}
        self.records = {topic: {p: [] for p in range(partitions)} for topic in self.ends}
        self.positions = {}
        self.member_count = 1
        self.now_s = 100.0
        self.meanwhile = []
        self.down = False
        self.asked = []
        self.flow = Flow(SETTINGS, self, self)

    def bounds(self, topic):
        return dict(self.starts[topic]), self.end_offsets(topic)

    def end_offsets(self, topic):
        if self.down:
            raise TransportError("no answer from nowhere:1")
        return dict(self.ends[topic])

    def committed(self, group, topic):
        assert group == SETTINGS.predict.group
        return {p: Position(offset) for p, offset in self.positions.items()}

    def members(self, group):
        if self.member_count is None:
            raise TransportError("the embedded broker does not tell")
        return self.member_count

    def read(self, topic, start, end):
        self.asked.append((topic, dict(start), dict(end)))
        for partition, batches in self.records[topic].items():
            for batch in batches:
                low = int(np.searchsorted(batch.offsets, start.get(partition, 0)))
                high = int(np.searchsorted(batch.offsets, end.get(partition, 0)))
                if low < high:
                    yield batch.rows(low, high)

    def sleep(self, seconds):
        self.now_s += seconds
        for happen in self.meanwhile:
            happen()

    def clock(self):
        return self.now_s

    # -- what the tests put in ---------------------------------------------------------------------

    def receive(self, count, partition=0, *, readable=True):
        """Records arrive in the input; marks of transactions take offsets and cannot be read."""
        first = self.ends[TOPICS.input][partition]
        self.ends[TOPICS.input][partition] += count
        if readable:
            offsets = np.arange(first, first + count)
            blob = Blob.join([b"x"] * count)
            self.records[TOPICS.input][partition].append(
                Batch(TOPICS.input, partition, blob, blob, offsets, offsets)
            )

    def reject(
        self,
        offsets,
        partition=0,
        *,
        into=0,
        reason=Reason.NOT_AVRO,
        value=b"junk",
        headers=(),
        topic=TOPICS.input,
        group=SETTINGS.predict.group,
    ):
        """Records of the input become dead letters."""
        rows = np.arange(len(offsets))
        values = Blob.join([value] * len(rows))
        given = dict.fromkeys(rows.tolist(), headers) if headers else {}
        source = Batch(topic, partition, values, values, np.array(offsets), rows, given)
        out = dead_letters(
            TOPICS.dead_letters,
            source,
            rows,
            np.full(len(rows), reason, np.uint8),
            NO_SCHEMA,
            group,
            1000,
        )
        first = self.ends[TOPICS.dead_letters][into]
        numbers = np.arange(first, first + len(rows))
        self.records[TOPICS.dead_letters][into].append(
            Batch(
                TOPICS.dead_letters,
                into,
                out.values,
                out.keys,
                numbers,
                1_400_000_000_000 + numbers,
                out.headers,
            )
        )
        self.ends[TOPICS.dead_letters][into] += len(rows)

    def commit(self, **positions):
        self.positions = {int(name[1:]): offset for name, offset in positions.items()}

    def measure(self):
        return self.flow.measure(self.clock)

    def letters(self):
        return self.flow.check_dead_letters(self.measure())

    def results(self):
        return self.flow.check_results(self.measure(), self.sleep, self.clock)


@pytest.fixture
def kafka():
    return Kafka()


# -- dead letters ----------------------------------------------------------------------------------


def test_before_anything_was_read(kafka):
    kafka.receive(10)
    finding = kafka.letters()
    assert (finding.result, finding.message) == (
        "skipped",
        "group lapwing-prediction has read no record yet",
    )


def test_no_dead_letters(kafka):
    kafka.receive(300)
    kafka.commit(p0=300)
    assert (kafka.letters().result, kafka.letters().message) == (
        "ok",
        "none of the last 300 records that were read",
    )


def test_every_record_became_one(kafka):
    kafka.receive(300)
    kafka.receive(50, 1)
    kafka.commit(p0=300, p1=50)
    kafka.reject(range(300), into=1)
    kafka.reject(range(50), 1, reason=Reason.TRUNCATED)
    finding = kafka.letters()
    assert finding.result == "failed"
    assert finding.message.startswith(
        "350 of the last 350 records that were read became dead letters: 300 not_avro, 50"
        " truncated; the newest, of 2014-05-13 "
    )
    assert (
        "is dlq[1]@299 from metrics.cloudwatch.raw[0]@299: not_avro, neither its headers nor its"
        " first bytes name a schema" in finding.message
    )
    assert finding.remedy == (
        "have the producer write Avro with a schema registry's serializer (in Flink SQL, the format"
        " avro-confluent instead of avro); `lapwing dlq show 1 299` shows it; docs/dead-letters.md"
        " has the remedies"
    )


@pytest.mark.parametrize(("bad", "result"), [(1, "warning"), (99, "warning"), (100, "failed")])
def test_a_few_are_a_warning_and_a_tenth_is_a_failure(kafka, bad, result):
    kafka.receive(1000)
    kafka.commit(p0=1000)
    kafka.reject(range(bad))
    assert kafka.letters().result == result
    assert f"{bad} of the last 1,000 records" in kafka.letters().message


def test_only_the_newest_records_count_and_only_those_that_were_read(kafka):
    kafka.receive(50_000)
    kafka.commit(p0=40_000)
    kafka.reject([0, 38_999, 40_000, 49_999])
    finding = kafka.letters()
    assert finding.result == "ok"
    assert (
        finding.message
        == "none of the last 1,000 records that were read; metrics.cloudwatch.raw.dlq has older"
        " ones (`lapwing dlq list`)"
    )
    kafka.reject([39_000])
    assert kafka.letters().message.startswith(f"1 of the last {RECENT_RECORDS:,} records")


def test_repeats_and_letters_of_other_topics_do_not_count(kafka):
    kafka.receive(100)
    kafka.commit(p0=100)
    kafka.reject([5])
    kafka.reject([5], into=1)
    kafka.reject([6], topic="metrics.other.raw")
    kafka.reject([1], 7)
    assert kafka.letters().message.startswith("1 of the last 100 records")


def test_somebody_elses_record_in_the_topic_is_passed_over(kafka):
    kafka.receive(100)
    kafka.commit(p0=100)
    blob = Blob.join([b"?"])
    kafka.records[TOPICS.dead_letters][0].append(
        Batch(
            TOPICS.dead_letters,
            0,
            blob,
            blob,
            np.array([0]),
            np.array([1]),
            {0: [(b"x".decode(), b"y")]},
        )
    )
    kafka.ends[TOPICS.dead_letters][0] = 1
    assert kafka.letters().result == "ok"


def test_dead_letters_of_other_groups_do_not_count(kafka):
    kafka.receive(100)
    kafka.commit(p0=100)
    kafka.reject(range(50), group="somebody-else")
    assert kafka.letters().result == "ok"
    kafka.reject([7])
    assert kafka.letters().message.startswith("1 of the last 100 records")


def test_what_is_read_reaches_back_until_all_are_found(kafka):
    """The search for the newest letters goes back until those of all partitions are found.

    The input's partitions were read one after the other, so the newest letters are all of the
    last one. Another partitioner puts them all into one partition.
    """
    for partition in (0, 1):
        kafka.receive(4000, partition)
        kafka.reject(range(4000), partition, into=1)
    kafka.commit(p0=4000, p1=4000)
    assert kafka.letters().message.startswith("1,000 of the last 1,000 records")
    starts = [start[1] for topic, start, _ in kafka.asked if topic == TOPICS.dead_letters]
    assert starts == [8000 - TAIL_OFFSETS, 0]


def test_a_letter_from_before_the_window_ends_the_search(kafka):
    for partition in (0, 1):
        kafka.receive(10_000, partition)
    kafka.reject(range(5000), 0)
    kafka.reject([*range(9000), 9700], 1)
    kafka.reject([*range(500), 9600], 0)
    kafka.commit(p0=10_000, p1=10_000)
    assert kafka.letters().message.startswith("2 of the last 1,000 records")
    (start,) = [start[0] for topic, start, _ in kafka.asked if topic == TOPICS.dead_letters]
    assert start == 14_502 - TAIL_OFFSETS


def test_what_is_read_is_bounded_and_that_is_said(kafka, monkeypatch):
    monkeypatch.setattr(flow, "TAIL_OFFSETS", 100)
    monkeypatch.setattr(flow, "TAIL_LIMIT", 300)
    kafka.receive(1000)
    kafka.receive(1000, 1)
    kafka.commit(p0=1000, p1=1000)
    kafka.reject([600])
    kafka.reject(range(700, 1000), 1)
    finding = kafka.letters()
    assert finding.message.startswith("at least 300 of the last 1,000 records")
    starts = [start[0] for topic, start, _ in kafka.asked if topic == TOPICS.dead_letters]
    assert starts == [201, 1]
    kafka.reject([5] * 300)
    assert kafka.letters().message.startswith(
        "none of the last 1,000 records that were read, as far as the newest 300 of each partition"
    )


@pytest.mark.parametrize(
    ("headers", "text", "remedy"),
    [
        (
            (("__value_schema_id", b"\x01" + bytes(16)),),
            "not_avro, the schema id is in the header __value_schema_id",
            "input.schema_ids=auto, the default, reads it",
        ),
        (
            (("apicurio.value.globalId", bytes(8)), ("apicurio.value.encoding", b"BINARY")),
            "not_avro, the schema id is in Apicurio's headers (apicurio.value.globalId)",
            "input.schema_ids=auto, the default, reads it",
        ),
    ],
)
def test_schema_ids_in_headers_are_named_with_what_helps(kafka, headers, text, remedy):
    kafka.receive(10)
    kafka.commit(p0=10)
    kafka.reject(range(10), value=AVRO, headers=headers)
    finding = kafka.letters()
    assert finding.message.endswith(f": {text}")
    assert remedy in finding.remedy
    assert finding.remedy.endswith(
        "`lapwing dlq show 0 9` shows it; docs/dead-letters.md has the remedies"
    )


def test_a_broker_that_goes_away_meanwhile(kafka):
    kafka.receive(10)
    kafka.commit(p0=10)
    now = kafka.measure()
    kafka.down = True
    finding = kafka.flow.check_dead_letters(now)
    assert (finding.result, finding.message) == ("warning", "no answer from nowhere:1")
    assert finding.remedy


# -- results ---------------------------------------------------------------------------------------


def test_an_empty_input(kafka):
    finding = kafka.results()
    assert (finding.result, finding.message) == (
        "warning",
        "none: metrics.cloudwatch.raw has no records",
    )
    assert "LAPWING_TOPICS__INPUT" in finding.remedy
    assert finding.remedy.startswith("lapwing produce, or start ")


@pytest.mark.parametrize(
    "own", [{"input": {"entity_fields": "device"}}, {"topics": {"dataset": "own"}}]
)
def test_an_empty_topic_of_ones_own_is_not_for_the_bundled_producer(kafka, own):
    names = {name: getattr(TOPICS, name) for name in ("input", "scores", "dead_letters")}
    flags = own | {"topics": own.get("topics", {}) | names}
    kafka.flow = Flow(load_settings(flags, environ={}), kafka, kafka)
    assert kafka.results().remedy.startswith("start your producer, or set another topic")


def test_all_was_read_and_nothing_comes(kafka):
    kafka.receive(100)
    kafka.commit(p0=100)
    kafka.ends[TOPICS.scores][0] = 100
    finding = kafka.results()
    assert finding.result == "ok"
    assert finding.message.startswith("up to date: ")
    assert kafka.now_s == 100.0 + flow.WATCH_S


def test_the_other_checks_are_part_of_the_wait(kafka):
    kafka.receive(100)
    kafka.commit(p0=100)
    kafka.ends[TOPICS.scores][0] = 100
    first = kafka.measure()
    kafka.now_s += 60
    kafka.flow.check_results(first, kafka.sleep, kafka.clock)
    assert kafka.now_s == 160.0


def test_records_are_read_and_results_come(kafka):
    kafka.receive(1000)
    kafka.commit(p0=100)
    kafka.ends[TOPICS.scores][1] = 90
    kafka.meanwhile = [
        lambda: kafka.commit(p0=400),
        lambda: kafka.ends[TOPICS.scores].update({1: 380}),
    ]
    finding = kafka.results()
    assert (finding.result, finding.message) == (
        "ok",
        "active: 100 records a second read in the last 3 s, 600 behind",
    )


def test_dead_letters_are_results(kafka):
    kafka.receive(1000)
    kafka.commit(p0=100)
    kafka.meanwhile = [lambda: kafka.commit(p0=400), lambda: kafka.reject([200])]
    assert kafka.results().result == "ok"


def test_somebody_else_commits_for_the_group(kafka):
    kafka.receive(1000)
    kafka.commit(p0=100)
    kafka.meanwhile = [lambda: kafka.commit(p0=400)]
    finding = kafka.results()
    assert finding.result == "failed"
    assert (
        "has read 300 records of metrics.cloudwatch.raw within 4 s, but neither"
        " metrics.cloudwatch.scores nor" in finding.message
    )
    assert "predict.group" in finding.remedy


def test_a_group_that_read_everything_before_its_results_went_elsewhere(kafka):
    kafka.receive(1000)
    kafka.commit(p0=1000)
    finding = kafka.results()
    assert finding.result == "failed"
    assert "has already read metrics.cloudwatch.raw up to its end" in finding.message
    assert "LAPWING_PREDICT__GROUP" in finding.remedy
    assert "something else" not in finding.message + finding.remedy


@pytest.mark.parametrize(
    ("members", "result", "text"),
    [
        (2, "failed", "which has not moved for 3 s"),
        (None, "failed", "which has not moved for 3 s"),
        (0, "warning", "no predictor runs"),
    ],
)
def test_records_wait_and_nothing_moves(kafka, members, result, text):
    kafka.member_count = members
    kafka.receive(1000)
    kafka.receive(5, 1)
    kafka.commit(p0=400)
    finding = kafka.results()
    assert finding.result == result
    assert finding.message.startswith(
        "none: 605 records of metrics.cloudwatch.raw are after the position of group lapwing-"
    )
    assert text in finding.message
    assert finding.remedy


def test_a_predictor_that_never_committed(kafka):
    kafka.receive(10)
    assert kafka.results().result == "failed"


def test_marks_of_transactions_at_the_end_are_no_records(kafka):
    kafka.receive(100)
    kafka.receive(1, readable=False)
    kafka.commit(p0=100)
    kafka.ends[TOPICS.scores][0] = 100
    assert kafka.results().result == "ok"


def test_a_broker_that_goes_away_between_the_looks(kafka):
    kafka.receive(10)
    kafka.meanwhile = [lambda: setattr(kafka, "down", True)]
    finding = kafka.results()
    assert (finding.result, finding.message) == ("warning", "no answer from nowhere:1")
