"""``lapwing dlq`` on the embedded broker and registry: dead letters are shown and sent back."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from typer.testing import CliRunner

from lapwing.app import app
from lapwing.dlq import replay as dlq_replay
from lapwing.dlq.letters import Filters, Letter
from lapwing.dlq.show import summarize
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from shared.batch import Blob, Outgoing
from shared.errors import ConfigError, DataError
from shared.events import Reason
from tests.reference.records import METRIC_EVENT, T0, encode, event
from tests.support.dead_letter_site import (
    DLQ,
    INPUT,
    LATER,
    PARTITIONS,
    Site,
    partition_of_key,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    before = dict(os.environ)
    with (
        EmbeddedBroker({INPUT: PARTITIONS, DLQ: PARTITIONS}) as broker,
        serve("127.0.0.1", 0) as registry,
    ):
        site = Site(broker, registry.url, monkeypatch)
        yield site
        site.close()
    os.environ.clear()
    os.environ.update(before)


# -- list ------------------------------------------------------------------------------------------


def test_list_counts_by_reason_and_shows_the_newest(world: Site) -> None:
    for offset in range(3):
        world.kill(b"web-1", b"junk", Reason.NOT_AVRO, offset=offset)
    world.kill(b"web-2", event("web-2")[:-3], Reason.TRUNCATED, offset=9)
    text = world.dlq("list", "--max", "2")
    assert f"{DLQ}: 4 dead letters\n" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["not_avro", "3"] in [row[:2] for row in rows]
    assert rows[3][-1] == f"{INPUT}[{partition_of_key(b'web-1')}]"
    assert "newest 2:" in text
    assert len([line for line in text.splitlines() if line.startswith("dlq[")]) == 2
    (newest,) = [line for line in text.splitlines() if " truncated at " in line]
    assert f"source={INPUT}[{partition_of_key(b'web-2')}]@9 key=web-2" in newest
    assert newest.endswith("because the bytes end before the last field")


def test_list_says_once_what_many_have_as_their_message(world: Site) -> None:
    for offset in range(20):
        world.kill(b"web-1", b"junk", Reason.NOT_AVRO, offset=offset)
    world.kill(b"web-2", event("web-2")[:-3], Reason.TRUNCATED, offset=9)
    text = world.dlq("list")
    assert text.count(Reason.NOT_AVRO.sentence) == 1
    assert f"\n19 not_avro because {Reason.NOT_AVRO.sentence}" in text
    assert len([line for line in text.splitlines() if line.startswith("  dlq[")]) == 19
    for offset in range(1, 20):
        assert (
            f"source={INPUT}[{partition_of_key(b'web-1')}]@{offset} key=web-1 size_bytes=4\n"
            in text
        )
    assert len([line for line in text.splitlines() if line.startswith("dlq[")]) == 1
    assert f"because {Reason.TRUNCATED.sentence}\n" in text


def test_list_filters_and_says_of_how_many(world: Site) -> None:
    world.kill(b"web-1", b"junk", Reason.NOT_AVRO)
    world.kill(b"web-2", b"", Reason.EMPTY)
    found = json.loads(world.dlq("list", "--reason", "empty", "--json"))
    assert (found["total"], found["matching"]) == (2, 1)
    assert [one["key"] for one in found["newest"]] == ["web-2"]
    assert found["reasons"][0]["sources"] == {INPUT: [partition_of_key(b"web-2")]}
    assert (
        json.loads(world.dlq("list", "--entity", "web-1", "--json"))["reasons"][0]["reason"]
        == "not_avro"
    )
    assert json.loads(world.dlq("list", "--since", "1h", "--json"))["matching"] == 2
    assert json.loads(world.dlq("list", "--since", "2100-01-01", "--json"))["matching"] == 0
    assert "0 of 2 dead letters" in world.dlq("list", "--key", "nobody")


def test_list_of_an_empty_topic(world: Site) -> None:
    assert world.dlq("list") == f"{DLQ} has no dead letters\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "--reason", "bad"), r"--reason bad: one of empty, too_large"),
        (("list", "--since", "soon"), r"--since soon: write a duration"),
        (("replay",), "either PARTITION OFFSET, or --reason"),
        (("replay", "0"), "PARTITION OFFSET: give both"),
        (("replay", "0", "1", "--reason", "empty"), "either PARTITION OFFSET, or --reason"),
        (("replay", "--reason", "empty", "--value-file", "x"), "--value-file corrects one record"),
        (("replay", "0", "1", "--value-file", "x", "--json-file", "y"), "exclude each other"),
        (
            ("replay", "0", "1", "--schema-id", "1"),
            "--schema-id is the writer schema of --json-file",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_before_any_connection(
    words: tuple[str, ...], message: str
) -> None:
    ran = CliRunner().invoke(app, ["--bootstrap-servers", "127.0.0.1:1", "dlq", *words])
    assert isinstance(ran.exception, ConfigError)
    assert re.search(message, str(ran.exception))


def letters(*given: tuple[int, int, int]) -> list[Letter]:
    """Letters by partition, offset, time."""
    return [
        Letter(
            "d",
            p,
            o,
            t,
            b"",
            b"",
            (),
            {"reason": "empty", "source_partition": p, "source_topic": "t"},
        )
        for p, o, t in given
    ]


def test_the_newest_are_by_time_whatever_the_order() -> None:
    given = letters((0, 1, 50), (0, 2, 70), (1, 1, 60), (1, 2, 80), (2, 1, 10))
    for order in (given, given[::-1]):
        listing = summarize(order, Filters(), 3)
        assert [letter.time_ms for letter in listing.newest] == [80, 70, 60]
        (group,) = listing.groups
        assert (group.count, group.first_ms, group.last_ms, group.sources) == (
            5,
            10,
            80,
            {"t": {0, 1, 2}},
        )


# -- show ------------------------------------------------------------------------------------------


def test_show_reads_the_fields_as_far_as_they_go(world: Site, tmp_path: Path) -> None:
    value = event("web-1", cpu=12.5, network_in=3.0)[:-5]
    place = world.kill(
        b"web-1", value, Reason.TRUNCATED, offset=77, headers=[("traceparent", b"00-ab")]
    )
    text = world.dlq("show", *place, "--raw", str(tmp_path / "raw"))
    assert (tmp_path / "raw").read_bytes() == value
    for message in (
        f"{INPUT}[{partition_of_key(b'web-1')}]@77",
        "truncated: the bytes end before the last field", "all fields of the writer schema",
        "id 1: lapwing.MetricEvent", '  host = "web-1"', "  cpu = 12.5", "  traceparent = 00-ab",
        "lapwing.reason = truncated", "ends here: field 'network_in'",
        "00000000  00 00 00 00 01 0a 77 65", "|.....", "now       truncated",
    ):  # fmt: skip
        assert message in text, message
    assert "network_in =" not in text
    found = json.loads(world.dlq("show", *place, "--json"))
    assert found["fields"] == {"host": "web-1", "timestamp": T0, "cpu": 12.5}
    assert "8 bytes are needed, 4 are left" in found["fields_end"]


def test_show_says_what_was_cut_and_whether_it_would_do_now(world: Site) -> None:
    big = b"\0" * 300
    cut = world.dlq("show", *world.kill(b"a", big, Reason.TOO_LARGE, limit=100))
    assert "the first 100 of 300; SHA-256 of all: " + hashlib.sha256(big).hexdigest() in cut
    assert "it was cut and cannot be sent back" in cut
    good = json.loads(
        world.dlq("show", *world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA), "--json")
    )
    assert good["now"] == "it would be accepted"
    unknown = world.dlq(
        "show",
        *world.kill(b"a", encode(METRIC_EVENT, 99, json.loads(RECORD)), Reason.UNKNOWN_SCHEMA),
    )
    assert "id 99: the registry does not know it" in unknown


def test_show_hides_nothing_when_the_registry_is_away(
    world: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = world.kill(b"a", event("a")[:-1], Reason.TRUNCATED)
    monkeypatch.setenv("LAPWING_REGISTRY__URL", "http://127.0.0.1:1")
    text = world.dlq("show", *place)
    assert "schema    id 1: unknown: http://127.0.0.1:1" in text
    assert "lapwing.reason = truncated" in text


# -- replay ----------------------------------------------------------------------------------------

RECORD = json.dumps(
    {"host": "a", "timestamp": T0, "cpu": 1.0, "network_in": None, "disk_write": None}
)


def test_replay_by_reason_once_the_registry_has_the_schema(world: Site) -> None:
    value = encode(LATER, 2, json.loads(RECORD))
    for offset, key in ((4, b"a"), (3, b"b"), (5, b"a")):
        world.kill(
            key, value, Reason.UNKNOWN_SCHEMA, offset=offset, headers=[("traceparent", b"00-ab")]
        )
    world.kill(b"a", b"junk", Reason.NOT_AVRO, offset=6)
    before = world.dlq("replay", "--reason", "unknown_schema", "--yes", code=1)
    assert before.count("it would be rejected again, unknown_schema") == 3
    assert world.input() == []
    assert world.registry.register("other-value", LATER, "NONE") == 2
    tried = world.dlq("replay", "--reason", "unknown_schema", "--dry-run")
    assert "dry run: 3 would be sent" in tried
    assert world.input() == []
    done = world.dlq("replay", "--reason", "unknown_schema", "--yes")
    assert f"3 sent to {INPUT}" in done
    found = world.input()
    assert sorted((partition, key) for partition, key, _, _ in found) == sorted(
        (partition_of_key(k), k) for k in (b"a", b"a", b"b")
    )
    assert {one[2] for one in found} == {value}
    assert all(set(headers) == {"traceparent", "lapwing.replayed.from"} for *_, headers in found)
    sources = [headers["lapwing.replayed.from"] for _, key, _, headers in found if key == b"a"]
    assert sources == sorted(sources), "in the order of the source"
    for _, _, _, headers in found:
        name = headers["lapwing.replayed.from"].decode().replace(DLQ, "dlq")
        assert f"sent     {name} -> {INPUT}[" in done


def test_what_was_sent_before_is_refused_unless_again(
    world: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send(Outgoing(INPUT, Blob.join([b"x"] * 4), Blob.join([b"a"] * 4)))
    place = world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA, offset=2)
    assert f"{INPUT}[{partition_of_key(b'a')}]@4" in world.dlq("replay", *place, "--yes")
    refused = world.dlq("replay", *place, "--yes", code=1)
    assert f"it was sent before, as {INPUT}[{partition_of_key(b'a')}]@4" in refused
    assert len(world.input()) == 5
    assert json.loads(world.dlq("replay", *place, "--yes", "--again", "--json"))["sent"] == 1
    assert len(world.input()) == 6
    monkeypatch.setattr(dlq_replay, "MAX_SEARCHED_RECORDS", 2)
    assert "metrics.cloudwatch.raw has 3 later records, too many to search" in world.dlq(
        "replay", *place, "--dry-run"
    )


def test_a_replay_that_was_rejected_again_is_known_from_its_new_dead_letter(
    world: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition, offset = world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA)
    origin = f"{DLQ}[{partition}]@{offset}"
    place = world.kill(
        b"a",
        event("a"),
        Reason.TRUNCATED,
        offset=1,
        headers=[("lapwing.replayed.from", origin.encode())],
    )
    monkeypatch.setattr(dlq_replay, "MAX_SEARCHED_RECORDS", -1)
    refused = world.dlq("replay", "--reason", "unknown_schema", "--yes", code=1)
    assert f"and rejected again as dlq[{place[0]}]@{place[1]}" in refused
    assert f"from {origin}, and rejected again" in world.dlq("show", *place)


def test_a_corrected_record_as_json(world: Site, tmp_path: Path) -> None:
    place = world.kill(b"a", event("a", cpu=math.nan), Reason.NOT_FINITE)
    shown = json.loads(world.dlq("show", *place, "--json"))["fields"]
    assert shown["cpu"] == "NaN"
    file = tmp_path / "fixed.json"
    file.write_text(json.dumps(shown | {"cpu": None, "timestamp": "2014-04-16T03:35:00Z"}))
    assert "it would be rejected again, not_finite: a metric is NaN" in world.dlq(
        "replay", *place, "--yes", code=1
    )
    assert "a at 2014-04-16 03:35:00" in world.dlq(
        "replay", *place, "--json-file", str(file), "--yes"
    )
    ((_, key, value, _),) = world.input()
    assert (key, value) == (b"a", event("a", 1_397_619_300_000))


def test_a_corrected_record_takes_the_newest_schema_where_its_own_is_unknown(
    world: Site, tmp_path: Path
) -> None:
    place = world.kill(b"a", b"\0\0\0\0\x63rest", Reason.UNKNOWN_SCHEMA)
    file = tmp_path / "fixed.json"
    file.write_text(RECORD)
    world.dlq("replay", *place, "--json-file", str(file), "--yes")
    assert world.input()[0][2] == event("a", cpu=1.0)
    with pytest.raises(ConfigError, match=r"--schema-id 44: .* does not know it"):
        world.dlq("replay", *place, "--json-file", str(file), "--schema-id", "44", "--yes")


def test_a_file_that_is_no_correction_is_named(world: Site, tmp_path: Path) -> None:
    place = world.kill(b"a", event("a")[:-1], Reason.TRUNCATED)
    file = tmp_path / "fixed.json"
    for text, message in (
        (None, "it cannot be read"),
        ("{", "it is not JSON"),
        ("{}", "schema id 1: .* lacks host, timestamp"),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(DataError, match=f"--json-file {file}: {message}"):
            world.dlq("replay", *place, "--json-file", str(file), "--yes")
    with pytest.raises(DataError, match=r"--value-file /nowhere: it cannot be read"):
        world.dlq("replay", *place, "--value-file", "/nowhere", "--yes")


def test_coordinates_of_nothing_are_said(world: Site) -> None:
    partition, _ = world.kill(b"a", b"", Reason.EMPTY)
    other = str((int(partition) + 1) % PARTITIONS)
    for words, message in (
        (("7", "0"), "has no partition 7; it has 0, 1, 2"),
        ((other, "5"), f"dlq[{other}]@5: the partition is empty"),
        ((partition, "1"), f"dlq[{partition}]@1: the partition has offsets 0 to 0"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            world.dlq("show", *words)


def test_what_was_cut_is_sent_only_when_corrected(world: Site, tmp_path: Path) -> None:
    place = world.kill(b"a", event("a") + b"x" * 99, Reason.TRAILING_BYTES, limit=len(event("a")))
    for words in ((), ("--force",)):
        assert "bytes are left" in world.dlq("replay", *place, "--yes", *words, code=1)
    assert world.input() == []
    file = tmp_path / "fixed"
    file.write_bytes(event("a"))
    world.dlq("replay", *place, "--value-file", str(file), "--yes")
    assert [one[2] for one in world.input()] == [event("a")]


def test_a_record_goes_back_to_the_partition_that_it_came_from(
    world: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever partitioner its producer used, and without a key as well."""
    other = (partition_of_key(b"a") + 1) % PARTITIONS
    place = world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA, partition=other)
    assert "note: " not in world.dlq("replay", *place, "--dry-run")
    monkeypatch.setenv("LAPWING_INPUT__PARTITIONER", "murmur2")
    message = world.dlq("replay", *place, "--yes")
    assert f"-> {INPUT}[{other}]: a at " in message
    assert "by input.partitioner = murmur2" in message
    assert "1 of the keys belong in other partitions" in message
    for offset in range(6):
        world.kill(b"", event("b"), Reason.TRUNCATED, partition=other, offset=offset)
    assert "6 sent to" in world.dlq("replay", "--reason", "truncated", "--yes")
    assert [(one[0], one[1]) for one in world.input()] == [(other, b"a")] + [(other, b"")] * 6


def test_a_new_key_goes_where_the_producers_partitioner_puts_it(
    world: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{number}".encode() for number in range(3)]
    assert [crc32(key) % PARTITIONS for key in keys] != [partition_of_key(key) for key in keys]
    for name, where in (
        ("crc32", lambda key: crc32(key) % PARTITIONS),
        ("murmur2", partition_of_key),
        ("unchecked", partition_of_key),
    ):
        monkeypatch.setenv("LAPWING_INPUT__PARTITIONER", name)
        before = len(world.input())
        for key in keys:
            place = world.kill(b"lost", event(key.decode()), Reason.ENTITY_INVALID, partition=0)
            world.dlq("replay", *place, "--new-key", key.decode(), "--yes")
        found = [one for one in world.input() if one[1] in keys]
        assert len(world.input()) - before == len(keys)
        assert [one for one in keys if (where(one), one) not in [f[:2] for f in found]] == []
    assert len(found) == 3 * len(keys)
    counts = Counter((partition, key) for partition, key, *_ in found)
    wanted = Counter([(partition_of_key(key), key) for key in keys] * 2)
    assert counts == wanted + Counter((crc32(key) % PARTITIONS, key) for key in keys)


def test_a_record_whose_partition_is_gone_or_of_another_topic_is_refused(world: Site) -> None:
    place = world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA, partition=7)
    message = world.dlq("replay", *place, "--yes", code=1)
    assert f"it came from partition 7, and {INPUT} has {PARTITIONS} now" in message
    other = world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA, topic="metrics.other.raw")
    assert "it came from metrics.other.raw, not from" in world.dlq(
        "replay", *other, "--yes", code=1
    )
    assert world.input() == []
    world.dlq("replay", *place, "--yes", "--force")
    assert [(one[0], one[1]) for one in world.input()] == [(partition_of_key(b"a"), b"a")]


def test_force_and_a_new_key(world: Site) -> None:
    junk = world.kill(b"a", b"junk", Reason.NOT_AVRO)
    assert "will be rejected again: not_avro" in world.dlq("replay", *junk, "--yes", "--force")
    lost = world.kill(b"b", event("a"), Reason.ENTITY_INVALID)
    assert "its key is 'b', not the entity" in world.dlq("replay", *lost, "--dry-run")
    assert "its key is" not in world.dlq("replay", *lost, "--new-key", "a", "--yes")
    assert sorted((one[0], one[1], one[2]) for one in world.input()) == sorted(
        [(partition_of_key(b"a"), b"a", b"junk"), (partition_of_key(b"a"), b"a", event("a"))]
    )


def test_nothing_is_sent_without_a_yes(world: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    place = world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA)
    with pytest.raises(ConfigError, match="use --yes to send, or --dry-run"):
        world.dlq("replay", *place)
    monkeypatch.setattr("lapwing.dlq.commands._agreed", lambda question: False)
    assert "nothing sent" in world.dlq("replay", *place, code=1)
    assert world.input() == []


def test_more_than_the_limit_is_refused_and_none_is_no_error(world: Site) -> None:
    assert world.dlq("replay", "--reason", "empty", "--yes") == "no dead letter matches\n"
    for offset in range(2):
        world.kill(b"a", event("a"), Reason.UNKNOWN_SCHEMA, offset=offset)
    with pytest.raises(ConfigError, match="more than 1 dead letters match"):
        world.dlq("replay", "--key", "a", "--yes", "--max", "1")
