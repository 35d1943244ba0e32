"""confluent-kafka under the port: its codes, its messages, its log, its membership."""

from __future__ import annotations

import logging
import struct

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from shared.batch import Blob, Outgoing
from shared.kafka.engine.codes import Code
from shared.kafka.engine.confluent.consumer import ConfluentConsumer
from shared.kafka.engine.confluent.errors import client_error
from shared.kafka.engine.confluent.messages import to_batches
from shared.kafka.engine.confluent.producer import ConfluentProducer, split
from shared.kafka.engine.librdkafka import LOG, REPEAT_S, is_member
from shared.kafka.engine.port import ClientError, Flags

NOWHERE = {"bootstrap.servers": "127.0.0.1:1"}


@pytest.mark.parametrize("code", Code)
def test_a_code_is_the_librarys(code: Code) -> None:
    name = code.name.removeprefix("LOCAL") if code.name.startswith("LOCAL_") else code.name
    assert getattr(KafkaError, name) == code
    assert KafkaError(code).name() == name


def test_flags_are_the_librarys() -> None:
    error = KafkaError(KafkaError._FAIL, "because", True, True, True)
    assert client_error(error).flags == Flags.FATAL | Flags.RETRIABLE | Flags.ABORT
    assert client_error(KafkaError(KafkaError._FAIL)).flags == Flags.NONE


def test_a_producer_goes_on_where_its_queue_was_full_and_names_the_record_it_refuses() -> None:
    config = NOWHERE | {"queue.buffering.max.messages": "3", "message.max.bytes": "2000"}
    failed: list[ClientError] = []
    producer = ConfluentProducer(config, failed.append)
    values = [b"%d" % n for n in range(5)] + [b"x" * 5000]
    records = Outgoing("t", Blob.join(values), Blob.join([b"k"] * 6), {0: (("h", b"v"),)})
    assert producer.put(records, 0) == (3, None)
    assert producer.put(records, 3) == (3, None)
    assert producer.waiting() >= 3
    producer.drop()
    producer.flush(1.0)
    assert [error.code for error in failed] == [KafkaError._PURGE_QUEUE] * 3
    row, error = producer.put(records, 3)
    assert (row, error and error.code) == (5, Code.MSG_SIZE_TOO_LARGE)
    producer.drop()
    producer.close()


def test_a_call_that_finds_the_client_unusable_tells_why() -> None:
    class Library:
        def commit_transaction(self, timeout_s: float) -> None:
            raise KafkaException(KafkaError(KafkaError._FATAL, "unusable", True))

        def poll(self, wait_s: float) -> int:
            cause = KafkaException(KafkaError(KafkaError._FENCED, "newer", True))
            raise SystemError("called back") from cause

    producer = ConfluentProducer(NOWHERE, None)
    producer._client = Library()
    with pytest.raises(ClientError, match="newer") as found:
        producer.commit_transaction(1.0)
    assert (found.value.code, found.value.flags) == (Code.LOCAL_FENCED, Flags.FATAL)


def test_the_first_flush_tells_why_no_record_could_be_sent() -> None:
    class Library:
        """A flush serves failed records after the fatal error, which is then lost."""

        flushed = 0
        refusal: KafkaError | None = KafkaError(
            KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no producer id", True
        )
        waiting = 3

        def __len__(self) -> int:
            return self.waiting

        def poll(self, wait_s: float) -> int:
            if self.refusal is not None:
                raise KafkaException(self.refusal)
            self.waiting -= 1
            return 1

        def flush(self, timeout_s: float) -> int:
            self.flushed += 1
            if self.refusal is not None:
                raise SystemError("returned NULL without setting an exception")
            return self.waiting

    producer = ConfluentProducer(NOWHERE, None)
    producer._client = library = Library()
    assert producer.flush(0.0) == 3
    with pytest.raises(ClientError, match="no producer id") as found:
        producer.flush(1.0)
    assert found.value.code == Code.CLUSTER_AUTHORIZATION_FAILED
    assert library.flushed == 0
    library.refusal = None
    assert producer.flush(1.0) == 0
    assert library.flushed == 1


# -- log -------------------------------------------------------------------------------------------


def test_complaints_about_a_connection_are_logged_sparsely(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def say(facility: str, client: str, at_s: float) -> None:
        record = LOG.makeRecord(
            LOG.name,
            logging.ERROR,
            "f",
            1,
            "%s [%s] %s",
            (facility, client, f"line at {at_s}"),
            None,
        )
        record.created = at_s
        LOG.handle(record)

    for at_s in (0, 1, 2, REPEAT_S + 1, REPEAT_S + 2):
        say("FAIL", "one", 1000.0 + at_s)
    say("FAIL", "two", 1002.0)
    say("MAXPOLL", "one", 1002.0)
    say("MAXPOLL", "one", 1002.0)
    LOG.error("a line of our own")
    assert [line.split("] ")[-1] for line in caplog.messages] == [
        "line at 1000.0",
        f"line at {1000 + REPEAT_S + 1}",
        "line at 1002.0",
        "line at 1002.0",
        "line at 1002.0",
        "a line of our own",
    ]


def test_what_a_producer_asks_again_by_itself_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = (
        "[thrd:main]: Failed to acquire idempotence PID from broker b:1/1: Broker: Coordinator load"
        " in progress: retrying"
    )
    LOG.warning("%s [%s] %s", "GETPID", "producer-1", text)
    LOG.warning(
        "%s [%s] %s",
        "GETPID",
        "producer-1",
        "[thrd:main]: Failed to acquire idempotence PID: not authorised",
    )
    assert [line.rpartition(": ")[2] for line in caplog.messages] == ["not authorised"]


@pytest.mark.parametrize(
    ("generation", "member", "expected"),
    [(3, b"m-1", True), (-1, b"m-1", False), (3, b"", False), (-1, b"", False)],
)
def test_only_a_member_with_a_generation_may_commit(
    generation: int, member: bytes, expected: bool
) -> None:
    metadata = b"CGMDv2:" + struct.pack("=i", generation) + b"group\0" + member + b"\0\0instance\0"
    assert is_member(metadata) is expected


def test_the_client_still_writes_membership_as_is_member_reads_it() -> None:
    client = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "some-group", "logger": LOG})
    metadata = client.consumer_group_metadata()
    client.close()
    assert metadata.startswith(b"CGMDv2:" + struct.pack("=i", -1) + b"some-group\0\0")
    assert not is_member(metadata)


# -- columns ---------------------------------------------------------------------------------------


def message(
    partition: int,
    offset: int,
    value: bytes | None,
    key: bytes | None = None,
    headers: object = None,
) -> Message:
    return Message("t", partition, offset, key, value, headers, timestamp=(1, 5_000 + offset))


def test_messages_become_one_batch_per_partition_in_log_order() -> None:
    messages = [
        message(2, 10, b"a", b"k1"),
        message(2, 11, None, b"k2"),
        message(0, 5, b"bb"),
        message(2, 14, b"", b""),
        message(0, 9, b"ccc", b"k3", [("h", b"1"), ("n", None), ("s", "text")]),
    ]
    two, zero = to_batches(messages)
    assert (two.topic, two.partition, zero.partition) == ("t", 2, 0)
    assert two.offsets.tolist() == [10, 11, 14]
    assert zero.offsets.tolist() == [5, 9]
    assert (two.offsets.dtype, two.broker_ms.dtype) == (np.dtype(np.int64), np.dtype(np.int64))
    assert two.broker_ms.tolist() == [5_010, 5_011, 5_014]
    assert split(two.values) == [b"a", b"", b""]
    assert split(two.keys) == [b"k1", b"k2", b""]
    assert split(zero.values) == [b"bb", b"ccc"]
    assert two.headers == {}
    assert zero.headers == {1: (("h", b"1"), ("n", b""), ("s", b"text"))}


def test_a_fetch_separates_records_ends_and_errors_and_loses_none_to_a_failure() -> None:
    class Library:
        """Messages call by call; an exception is raised."""

        def __init__(self, *calls: object) -> None:
            self.calls, self.asked = list(calls), []

        def consume(self, count: int, wait_s: float) -> list[Message]:
            self.asked.append((count, wait_s))
            answer = self.calls.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    end = Message("t", 1, 40, error=KafkaError(KafkaError._PARTITION_EOF))
    broken = Message("t", 2, -1001, error=KafkaError(KafkaError._FAIL, "because"))
    refusal = KafkaException(KafkaError(KafkaError._STATE))
    consumer = ConfluentConsumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"})
    consumer.close()
    library = Library([message(0, 1, b"a")], refusal, [end, message(0, 2, b"b"), broken])
    consumer._client = library
    with pytest.raises(ClientError) as failed:
        consumer.fetch(10, 0.5)
    assert failed.value.code == KafkaError._STATE
    fetched = consumer.fetch(10, 0.5)
    assert [(b.partition, b.offsets.tolist()) for b in fetched.batches] == [(0, [1, 2])]
    assert fetched.ends == {1: 40}
    assert [(e.code, e.text, e.partition) for e in fetched.errors] == [(-196, "because (_FAIL)", 2)]
    assert library.asked == [(1, 0.5), (9, 0.0), (9, 0.0)]
    consumer._client = Library([message(0, 3, b"c")], [], [message(0, 4, b"d")])
    assert [len(b) for b in consumer.fetch(1, 0.5).batches] == [1]
    assert consumer.fetch(1, 0.5) == ([], {}, ())
    assert consumer.fetch(7, 0.0).batches[0].offsets.tolist() == [4]


def test_no_messages_are_no_batches() -> None:
    assert to_batches([]) == []


@pytest.mark.parametrize(
    "code", [Code.FENCED_INSTANCE_ID, Code.UNRELEASED_INSTANCE_ID, Code.GROUP_ID_NOT_FOUND]
)
def test_a_fatal_error_has_the_code_of_its_cause(code: Code) -> None:
    text = f"Fatal error: {KafkaError(code).str()}: said the broker"
    found = client_error(KafkaError(KafkaError._FATAL, text, True))
    assert (found.code, found.flags) == (code, Flags.FATAL)
