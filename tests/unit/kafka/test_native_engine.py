"""The native engine: the same bytes as the other client on an embedded broker; its refusals."""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext

import pytest
from numba import config

from lapwing.embedded.broker import EmbeddedBroker
from shared.batch import Batch, Blob, Outgoing, Position
from shared.errors import ConfigError
from shared.kafka import engine as engines
from shared.kafka.engine import ENGINES, engine_name, engine_of
from shared.kafka.engine.codes import Code
from shared.kafka.engine.native import NativeEngine, Unavailable
from shared.kafka.engine.native.compiled import check_compiler
from shared.kafka.engine.native.consumer import NativeConsumer
from shared.kafka.engine.native.layout import check_layout
from shared.kafka.engine.native.library import Library, check_version, load
from shared.kafka.engine.native.positions import position_list, positions
from shared.kafka.engine.native.structs import VERSION
from shared.kafka.engine.port import ClientError, Consumer, Engine, Fetched, Flags, Producer
from shared.settings import Settings

compiled_only = pytest.mark.skipif(
    bool(config.DISABLE_JIT), reason="it reads foreign memory, which plain Python does not"
)
ENGINE_NAMES = ("python", "native")
PARTITIONS = 2

VALUES = [b"plain", b"", b"\0" * 300, b"with headers", b"\xff\x00\x01", b"fixed"] + [
    b"%d" % number for number in range(50)
]
KEYS = [b"a", b"b", b"", b"a", b"c", b"c"] + [b"k%d" % (number % 7) for number in range(50)]
RECORDS = Outgoing(
    "unset",
    Blob.join(VALUES),
    Blob.join(KEYS),
    {3: (("name", b"value"), ("empty", b""), ("name", b"again")), 5: (("é", b"\0\1"),)},
    {5: 1, 9: 0},
)


TESTS = ("same", "ends", "full", "dropped", "group", "raises", "noted", "closed", "gathered")


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    topics = {f"{test}.{name}": PARTITIONS for test in TESTS for name in (*ENGINE_NAMES, "kept")}
    with EmbeddedBroker(topics) as broker:
        yield broker


class World:
    """Clients of the embedded broker, which are closed in the end."""

    def __init__(self, broker: EmbeddedBroker, stack: ExitStack) -> None:
        self.address = broker.client_settings
        self.stack = stack
        self.reported: list[ClientError] = []

    def producer(self, name: str, failed: list[ClientError], **more: str) -> Producer:
        config = {**self.address, "acks": "all", "partitioner": "murmur2", **_dotted(more)}
        made = _engine(name).producer(config, self.reported.append, failed.append)
        self.stack.callback(made.close)
        return made

    def consumer(self, name: str, **more: str) -> Consumer:
        config = {**self.address, "group.id": f"g-{name}", "fetch.wait.max.ms": "5"}
        made = _engine(name).consumer({**config, **_dotted(more)}, self.reported.append)
        self.stack.callback(made.close)
        return made


@pytest.fixture
def world(broker: EmbeddedBroker) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(broker, stack)


def _engine(name: str) -> Engine:
    return ENGINES[name]()


def _dotted(settings: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in settings.items()}


def collected(consumer: Consumer, enough: Callable[[Sequence[Fetched]], bool]) -> list[Fetched]:
    """Fetch until it is enough."""
    fetched: list[Fetched] = []
    deadline = time.monotonic() + 30
    while not enough(fetched):
        assert time.monotonic() < deadline, fetched
        fetched.append(consumer.fetch(20, 0.2))
    return fetched


def records_of(fetched: Sequence[Fetched]) -> int:
    return sum(len(batch) for one in fetched for batch in one.batches)


def columns(fetched: Sequence[Fetched], *, times: bool) -> dict[int, tuple[object, ...]]:
    """Return what was read of each partition, with or without Kafka's timestamps."""
    partitions: dict[int, list[Batch]] = {}
    for one in fetched:
        for batch in one.batches:
            partitions.setdefault(batch.partition, []).append(batch)
    whole = {partition: Batch.join(batches) for partition, batches in partitions.items()}
    return {
        partition: (
            [batch.values[row] for row in range(len(batch))],
            [batch.keys[row] for row in range(len(batch))],
            batch.offsets.tolist(),
            {row: list(pairs) for row, pairs in batch.headers.items()},
            batch.broker_ms.tolist() if times else None,
        )
        for partition, batch in whole.items()
    }


def send(producer: Producer, records: Outgoing) -> None:
    row = 0
    while row < len(records):
        row, error = producer.put(records, row)
        assert error is None
        producer.poll(0.01)
    assert producer.flush(20.0) == 0


def to(topic: str) -> Outgoing:
    """Return the records for a topic: of every kind, to any partition."""
    return Outgoing(topic, RECORDS.values, RECORDS.keys, RECORDS.headers, RECORDS.partitions)


def first(topic: str, values: Sequence[bytes]) -> Outgoing:
    """Return records for the first partition of a topic."""
    blob = Blob.join(values)
    return Outgoing(topic, blob, blob, {}, dict.fromkeys(range(len(values)), 0))


def read_all(consumer: Consumer, topic: str, count: int) -> list[Fetched]:
    consumer.start(topic, dict.fromkeys(range(PARTITIONS), 0))
    return collected(consumer, lambda fetched: records_of(fetched) >= count)


@compiled_only
def test_both_clients_write_and_read_the_same(world: World) -> None:
    written = {}
    for writer in ENGINE_NAMES:
        topic = f"same.{writer}"
        send(world.producer(writer, []), to(topic))
        read = {
            reader: columns(read_all(world.consumer(reader), topic, len(RECORDS)), times=True)
            for reader in ENGINE_NAMES
        }
        assert read["native"] == read["python"]
        written[writer] = {place: found[:4] for place, found in read["native"].items()}
    assert written["native"] == written["python"]
    assert sum(len(found[0]) for found in written["native"].values()) == len(RECORDS)
    assert (b"fixed", b"c") in zip(*written["native"][1][:2], strict=True)


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_ends_of_partitions_are_reported(world: World, name: str) -> None:
    topic, values = f"ends.{name}", [b"%d" % number for number in range(30)]
    send(world.producer(name, []), first(topic, values))
    consumer = world.consumer(name, enable_partition_eof="true")
    consumer.start(topic, {0: 3})
    fetched = collected(consumer, lambda seen: any(one.ends for one in seen))
    assert [one.ends for one in fetched if one.ends] == [{0: len(values)}]
    assert columns(fetched, times=False)[0][0] == values[3:]
    assert consumer.bounds(topic, 0, 5.0) == (0, len(values))
    assert consumer.cached_end(topic, 0) == len(values)
    assert consumer.cached_end(topic, 1) == -1


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_fetch_gathers_until_it_is_full_or_its_wait_is_over(world: World, name: str) -> None:
    topic = f"gathered.{name}"
    send(world.producer(name, []), first(topic, [b"%d" % number for number in range(10)]))
    consumer = world.consumer(name)
    consumer.start(topic, {0: 0})
    gathered = collected(consumer, lambda fetched: records_of(fetched) > 0)
    records = records_of(gathered)
    if records < 10:  # one by one, as they came from the broker
        records += records_of([consumer.fetch(10 - records, 20.0, 20.0)])
    assert records == 10
    assert consumer.fetch(5, 0.0, 20.0).batches == []
    later = threading.Timer(0.3, send, (world.producer(name, []), first(topic, [b"a", b"b"])))
    later.start()
    began_s = time.monotonic()
    assert records_of([consumer.fetch(2, 25.0, 25.0)]) == 2
    assert time.monotonic() - began_s < 20.0, "a full fetch waits for nothing"
    later.join()
    send(world.producer(name, []), first(topic, [b"c"]))
    assert records_of([consumer.fetch(5, 3.0, 0.2)]) == 1
    assert consumer.fetch(5, 0.01).batches == []


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
@pytest.mark.parametrize("has_partitions", [False, True])
def test_a_full_queue_and_a_record_too_large_stop_at_their_row(
    world: World, name: str, has_partitions: bool
) -> None:
    producer = world.producer(name, [], queue_buffering_max_messages="10", linger_ms="5000")
    blob = Blob.join([b"%02d" % number for number in range(40)])
    large = Blob.join([b"small", b"x" * 2_000_000, b"after"])
    partitions = dict.fromkeys(range(len(blob)), 0) if has_partitions else {}
    topic = f"full.{name}"
    records = Outgoing(topic, blob, blob, {}, partitions)
    assert producer.put(records, 0) == (10, None)
    assert producer.put(records, 10) == (10, None)
    assert producer.flush(20.0) == 0
    assert producer.put(records, 35) == (40, None)
    assert producer.flush(20.0) == 0
    row, error = producer.put(Outgoing(topic, large, large, {}, partitions), 0)
    assert row == 1
    assert error is not None
    assert (error.code, error.flags) == (Code.MSG_SIZE_TOO_LARGE, Flags.NONE)
    assert "Broker: Message size too large (MSG_SIZE_TOO_LARGE)" in error.text
    assert producer.flush(20.0) == 0


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_records_that_are_dropped_are_reported_one_by_one(world: World, name: str) -> None:
    failed: list[ClientError] = []
    producer = world.producer(name, failed, linger_ms="5000")
    assert producer.put(to(f"dropped.{name}"), 0) == (len(RECORDS), None)
    assert producer.waiting() >= len(RECORDS)
    producer.drop()
    producer.poll(0.1)
    assert len(failed) == len(RECORDS)
    assert {error.text for error in failed} == {"Local: Purged in queue (_PURGE_QUEUE)"}


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_statistics_go_to_the_log(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "lapwing.kafka")
    producer = world.producer(name, [], statistics_interval_ms="20")
    deadline = time.monotonic() + 10
    while "statistics {" not in caplog.text and time.monotonic() < deadline:
        producer.poll(0.05)
    lines = [one.getMessage() for one in caplog.records if "statistics {" in one.getMessage()]
    assert json.loads(lines[0].removeprefix("statistics "))["type"] == "producer"


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_an_unknown_setting_is_named(world: World, name: str) -> None:
    unknown = r'^kafka settings: No such configuration property: "no\.such"$'
    with pytest.raises(ConfigError, match=unknown):
        world.consumer(name, no_such="1")
    invalid = r'^kafka settings: Invalid value for .*"queue\.buffering'
    with pytest.raises(ConfigError, match=invalid):
        world.producer(name, [], linger_ms="x")


@compiled_only
def test_metadata_ends_with_a_nul_as_the_other_client_writes_it() -> None:
    library = load()
    wanted = {0: Position(7, "état"), 1: Position(8, ""), 2: None}
    with position_list(library, "topic", wanted) as made:
        elements = [made.contents.elements[k] for k in range(made.contents.count)]
        assert [element.metadata_bytes for element in elements] == [len("état".encode()) + 1, 0, 0]
        assert ctypes.string_at(elements[0].metadata, 6) == "état\0".encode()
        assert positions(made) == wanted


class Events:
    """Starts what is assigned at offset 0, then fails once where it is told to."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self.consumer = consumer
        self.topic = topic
        self.failure: BaseException | None = None
        self.calls: list[tuple[str, list[int]]] = []

    def _note(self, call: str, partitions: Sequence[int]) -> None:
        self.calls.append((call, sorted(partitions)))
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def assigned(self, partitions: Sequence[int]) -> None:
        self.consumer.start(self.topic, dict.fromkeys(partitions, 0))
        self._note("assigned", partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        self.consumer.stop(self.topic, partitions)
        self._note("revoked", partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        self.consumer.stop(self.topic, partitions)
        self._note("lost", partitions)


@compiled_only
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_group_assigns_commits_and_lets_go(world: World, name: str) -> None:
    topic = f"group.{name}"
    send(world.producer(name, []), to(topic))
    consumer = world.consumer(
        name, group_protocol="consumer", enable_auto_commit="false", auto_offset_reset="earliest"
    )
    events = Events(consumer, topic)
    consumer.join(topic, events)
    fetched = collected(consumer, lambda seen: records_of(seen) >= len(RECORDS))
    assert events.calls == [("assigned", [0, 1])]
    positions = {
        partition: Position(max(found[2]) + 1, f"état {partition}")
        for partition, found in columns(fetched, times=False).items()
    }
    membership = consumer.membership()
    assert membership is not None
    assert membership.startswith(b"CGMDv2:")
    consumer.commit(topic, positions)
    for reader in ENGINE_NAMES:  # either client reads what the other one has committed
        other = world.consumer(reader, group_id=f"g-{name}")
        assert other.committed(topic, [0, 1], 5.0) == positions
    consumer.pause(topic, [0, 1])
    consumer.resume(topic, [0, 1])
    consumer.close()
    assert events.calls[1:] == [("revoked", [0, 1])]
    with pytest.raises(RuntimeError):
        consumer.fetch(1, 0.0)


@compiled_only
def test_what_a_callback_raises_is_raised_by_fetch_and_no_record_is_lost(world: World) -> None:
    topic = "raises.native"
    send(world.producer("native", []), to(topic))
    consumer = world.consumer("native", group_id="raises", group_protocol="consumer")
    events = Events(consumer, topic)
    events.failure = KeyboardInterrupt("in a callback")
    consumer.join(topic, events)
    with pytest.raises(KeyboardInterrupt, match="in a callback"):
        collected(consumer, lambda _: False)
    fetched = collected(consumer, lambda seen: records_of(seen) >= len(RECORDS))
    read = columns(fetched, times=False)
    assert sum(len(found[0]) for found in read.values()) == len(RECORDS)


@compiled_only
def test_what_was_kept_of_a_partition_goes_when_it_is_stopped(world: World) -> None:
    topic = "same.kept"
    send(world.producer("native", []), to(topic))
    consumer = world.consumer("native")
    assert isinstance(consumer, NativeConsumer)
    fetched = read_all(consumer, topic, len(RECORDS))
    kept = Fetched([batch for one in fetched for batch in one.batches], {}, ())
    consumer._kept = kept  # as after a callback that raised
    consumer.stop(topic, [0])
    again = consumer.fetch(20, 0.0)
    assert {batch.partition for batch in kept.batches} == {0, 1}
    assert again.batches == [batch for batch in kept.batches if batch.partition == 1]


@compiled_only
def test_an_error_of_the_client_within_a_rebalance_comes_with_the_records(world: World) -> None:
    topic = "noted.native"
    send(world.producer("native", []), to(topic))
    consumer = world.consumer("native", group_id="noted", group_protocol="consumer")
    assert isinstance(consumer, NativeConsumer)
    fenced = ClientError(Code.FENCED_INSTANCE_ID, "fenced", Flags.FATAL)

    class Fenced(Events):
        def assigned(self, partitions: Sequence[int]) -> None:
            consumer._handle.note(fenced)  # as the client's error callback does
            super().assigned(partitions)

    events = Fenced(consumer, topic)
    consumer.join(topic, events)
    fetched = collected(consumer, lambda seen: records_of(seen) >= len(RECORDS))
    assert [error for one in fetched for error in one.errors] == [fenced]
    assert events.calls == [("assigned", [0, 1])]


@compiled_only
def test_a_client_that_is_closed_ends_with_the_call_that_uses_it(world: World) -> None:
    producer = world.producer("native", [], linger_ms="5000")
    assert producer.put(to("closed.native"), 0) == (len(RECORDS), None)
    waiting: list[int] = []
    thread = threading.Thread(target=lambda: waiting.append(producer.flush(0.7)))
    thread.start()
    time.sleep(0.1)
    producer.close()
    producer.close()
    with pytest.raises(RuntimeError, match="closed"):
        producer.waiting()
    thread.join(20)
    assert len(waiting) == 1


def test_a_library_of_another_version_is_refused_by_name() -> None:
    check_version(VERSION)
    with pytest.raises(Unavailable, match=r"needs librdkafka 2\.16\.0, .* has librdkafka 2\.17\.1"):
        check_version(0x021101FF)


class Shifted:
    """A library that returns something else for one thing."""

    def __init__(self, library: Library, **other: object) -> None:
        self._library = library
        self._other = other

    def __getattr__(self, name: str) -> object:
        return self._other.get(name) or getattr(self._library, name)


def test_a_library_with_another_layout_is_refused() -> None:
    library = load()
    check_layout(library)
    with pytest.raises(Unavailable, match="memory of a message is not laid out as declared"):
        check_layout(Shifted(library, headers_of=lambda _: ((b"name", b"other"),)))  # type: ignore[arg-type]
    empty = library.topic_partition_list_new
    with pytest.raises(Unavailable, match="memory of a list of positions"):
        check_layout(Shifted(library, topic_partition_list_copy=lambda _: empty(1)))  # type: ignore[arg-type]


@compiled_only
def test_auto_says_why_a_client_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [engine_name(Settings(engine=name)) for name in ("auto", "python", "native")]
    assert names == ["native", "python", "native"]

    def refuse(_: object) -> NativeEngine:
        raise Unavailable("it needs librdkafka 2.16.0")

    monkeypatch.setattr("shared.kafka.engine.native.NativeEngine", refuse)
    engines._native.cache_clear()
    try:
        with pytest.raises(ConfigError, match="engine: native cannot be used: it needs librdkafka"):
            engine_of(Settings(engine="native"))
        with caplog.at_level("INFO", "lapwing.kafka"):
            assert engine_of(Settings()) is ENGINES["python"]()
        assert "engine = auto uses python: it needs librdkafka 2.16.0" in caplog.text
    finally:
        engines._native.cache_clear()


@pytest.mark.parametrize("is_off", [False, True])
def test_without_a_compiler_it_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, is_off: bool
) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", is_off)
    with pytest.raises(Unavailable, match="it needs compiled") if is_off else nullcontext():
        check_compiler()
