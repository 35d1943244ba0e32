"""The route service's loop on a log in memory: failures, crashes and several instances."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.dlq import letters as dlq_letters
from lapwing.route.route_letters import ROWS, ROWS_COUNT
from lapwing.route.route_loop import RouteDependencies, RouteLoop, RouteTopics
from lapwing.route.row_router import Routed
from lapwing.route.rows import Refused
from shared.batch import Position
from shared.encode.dead_letters import PREFIX, REASON
from shared.errors import GuardError, ProducerFenced, TopicRecreated, TransportError
from shared.operations.counters import COMMITS, DEAD_LETTERS, ROUTED_ROWS, Counters
from shared.operations.retry import Outage
from tests.support.fakes import MemoryLog, MemorySink, MemorySource
from tests.support.routing import new_router

GROUP, SOURCE, TARGET, LETTERS = "g", "telegraf", "input", "telegraf.dlq"
T0 = 1_700_000_000


def record(number: int, rows: int, bad: int = -1) -> bytes:
    """A batch of a source partition's own hosts; the value says which row it is."""
    metrics = [
        {
            "name": "cpu",
            "tags": {"host": "" if row == bad else f"p{number % 2}-{row % 3}"},
            "fields": {"v": 1_000 * number + row},
            "timestamp": T0 + number,
        }
        for row in range(rows)
    ]
    return json.dumps({"metrics": metrics}).encode()


class World:
    """One cluster, and instances of the service that come and go."""

    def __init__(self, source_id: str = "s") -> None:
        self.log = MemoryLog({SOURCE: 2, TARGET: 3, LETTERS: 2})
        self.source_id = source_id
        self.counters = Counters()
        self.sinks: dict[str, MemorySink] = {}
        self.sources: dict[str, MemorySource] = {}
        self.registry_down = False
        self.now_s = 0.0

    def open_sink(self, identity: str) -> MemorySink:
        self.sinks[identity] = MemorySink(self.log, identity, GROUP, SOURCE)
        return self.sinks[identity]

    def service(self, identity: str, *partitions: int) -> RouteLoop:
        source = self.sources[identity] = MemorySource(self.log, GROUP, SOURCE)
        source.give(*partitions)
        router, schemas = new_router()

        def schema_id(metrics):
            if self.registry_down:
                raise TransportError("the registry does not answer")
            return schemas(metrics)

        router._schema_id = schema_id
        loop = RouteLoop(
            RouteDependencies(
                source, lambda: self.open_sink(identity), router, lambda: self.now_s, lambda _: None
            ),
            RouteTopics(SOURCE, TARGET, LETTERS, self.source_id, GROUP, 10_000),
            0.1,
            self.counters,
            Outage(1e9, self.counters),
        )
        source.subscribe(loop)
        return loop

    def finish(self, *loops: RouteLoop) -> None:
        for _ in range(10):
            for loop in loops:
                loop.step()
                self.now_s += 1.0

    def values(self) -> dict[str, list[bytes]]:
        """Entity -> the committed events, in order."""
        found = defaultdict(list)
        for _, _, one in self.log.visible(TARGET):
            found[one.key.decode()].append(one.value)
        return dict(found)

    def expected(self) -> dict[str, list[bytes]]:
        found = defaultdict(list)
        for records in self.log.topics[SOURCE]:
            router, _ = new_router()
            for one in records:
                out = Routed()
                router.route(one.value, out)
                for key, value in zip(out.keys, out.values, strict=True):
                    found[key.decode()].append(value)
        return dict(found)


FAILURES = [
    f"{call}: {how}"
    for call in ("send", "commit")
    for how in ("abort", "undecided, kept", "undecided, lost", "outage")
]
actions = st.sampled_from(
    ["step", "step", "later", "append", "append", "crash", "move", "lose", "registry", *FAILURES]
)


@settings(max_examples=60, deadline=None)
@given(course=st.lists(actions, max_size=40), shapes=st.lists(st.integers(0, 9), min_size=12))
def test_whatever_happens_each_row_is_written_once_and_in_order(course, shapes):
    world = World()
    loops = {"a": world.service("a", 0), "b": world.service("b", 1)}
    owner = {0: "a", 1: "b"}
    number, letters = 0, 0
    for action in course:
        call, _, how = action.partition(": ")
        if action == "append" and number < len(shapes):
            bad = 0 if shapes[number] % 3 == 1 else -1
            letters += bad == 0
            world.log.append(SOURCE, number % 2, record(number, shapes[number], bad))
            number += 1
        elif action == "crash":
            loops["a"] = world.service("a", *(p for p in owner if owner[p] == "a"))
        elif action == "later":
            world.now_s += 1.0
        elif action in ("move", "lose"):
            partition = number % 2
            old, new = owner[partition], "b" if owner[partition] == "a" else "a"
            world.sources[old].take(partition, lost=action == "lose")
            loops[old].step()
            world.sources[new].give(partition)
            loops[new].step()
            owner[partition] = new
        elif action == "registry":
            world.registry_down = not world.registry_down
        elif how:
            world.sinks["a"].fail[call] = how
        else:
            loops["a"].step()
            loops["b"].step()
    world.registry_down = False
    for sink in world.sinks.values():
        sink.fail.clear()
    world.finish(*loops.values())
    assert world.values() == world.expected()
    assert len(world.log.visible(LETTERS)) == letters


def test_a_record_with_a_bad_row_has_one_dead_letter_that_names_it():
    world = World()
    value = record(0, 100, bad=37)
    world.log.append(SOURCE, 0, record(0, 1))
    world.log.append(SOURCE, 0, value, b"key", [("traceparent", b"t")])
    loop = world.service("a", 0)
    world.finish(loop)
    assert sum(map(len, world.values().values())) == 100
    [(_, _, letter)] = world.log.visible(LETTERS)
    headers = dict(letter.headers)
    assert (letter.value, letter.key) == (value, b"key")
    assert headers[REASON] == b"label_missing"
    assert (headers[ROWS], headers[ROWS_COUNT]) == (b"37", b"1")
    assert headers["traceparent"] == b"t"
    places = [headers[PREFIX + name] for name in ("topic", "partition", "offset")]
    assert places == [SOURCE.encode(), b"0", b"1"]
    assert headers[PREFIX + "exception.message"].startswith(
        b"telegraf: metrics[37]: label host is missing"
    )
    counters = world.counters
    assert counters.value(DEAD_LETTERS, "label_missing") == 1
    rows = [counters.value(ROUTED_ROWS, one) for one in ("routed", "refused", "left_out")]
    assert rows == [100, 1, 0]


def test_a_dead_letter_beyond_the_limit_is_truncated():
    world = World()
    world.log.append(SOURCE, 0, b"[" * 20_000)
    world.finish(world.service("a", 0))
    [(_, _, letter)] = world.log.visible(LETTERS)
    assert len(letter.value) == 10_000
    assert dict(letter.headers)["lapwing.cut.bytes"] == b"20000"


def test_commits_wait_for_the_interval():
    world = World()
    loop = world.service("a", 0)
    world.log.append(SOURCE, 0, record(0, 1))
    loop.step()
    assert world.values() == {}
    assert world.counters.total(COMMITS) == 0
    world.now_s += 0.1
    loop.step()
    assert world.values() == world.expected() != {}


def test_a_second_process_with_the_same_slot_stops_the_first():
    world = World()
    first = world.service("a", 0)
    first.step()
    world.service("a", 0)
    world.log.append(SOURCE, 0, record(0, 1))
    with pytest.raises(ProducerFenced):
        world.finish(first)


def test_a_recreated_source_and_a_foreign_position_are_refused():
    world = World()
    world.log.append(SOURCE, 0, record(0, 1))
    world.finish(world.service("a", 0))
    world.source_id = "other"
    with pytest.raises(TopicRecreated, match=r"name another route\.group"):
        world.service("a", 0).step()
    world.log.committed[GROUP, SOURCE, 0] = Position(1, "of another program")
    with pytest.raises(GuardError, match=r"name another route\.group"):
        world.service("a", 0).step()


def test_records_that_retention_deleted_are_skipped_with_a_warning():
    world = World()
    for number in (0, 2, 4):
        world.log.append(SOURCE, 0, record(number, 1))
    world.log.committed[GROUP, SOURCE, 0] = Position(1)
    world.log.starts[SOURCE, 0] = 2
    world.finish(world.service("a", 0))
    assert len(world.log.visible(TARGET)) == 1


def test_readiness_names_what_is_missing():
    world = World()
    loop = world.service("a")
    loop.step()
    assert "standby" in loop.reason()
    world.sources["a"].give(0)
    loop.step()
    assert loop.reason() == ""
    world.log.append(SOURCE, 0, record(0, 1))
    world.registry_down = True
    loop.step()
    assert "the registry does not answer" in loop.reason()


def test_dead_letters_of_route_are_known_to_the_commands_about_dead_letters():
    assert set(Refused) <= set(dlq_letters.REASONS)
    assert (dlq_letters.ROWS, dlq_letters.ROWS_COUNT) == (ROWS, ROWS_COUNT)
