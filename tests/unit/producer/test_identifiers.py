"""Identifiers in files: entity, note or refusal; never a metric, and nothing else becomes one."""

from __future__ import annotations

from datetime import UTC, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.catalogue import load_catalogue, read_folder
from producer.files.columns import ColumnRules, NameKind, name_kind
from producer.files.series import read_series
from shared.errors import DataError
from tests.support.csv_files import START, Reader, clock, rows_of, value


@pytest.fixture
def read(tmp_path):
    return Reader(tmp_path).read


@pytest.fixture
def refused(tmp_path):
    return Reader(tmp_path).refused


# -- identifiers -----------------------------------------------------------------------------------


def equal_times(ids, n=60):
    return [(time, one) for time in clock(n) for one in ids]


def blocks(ids, n=60):
    return [
        (time + timedelta(seconds=place), one) for place, one in enumerate(ids) for time in clock(n)
    ]


def turns(ids, n=60):
    return [
        (time, ids[row % len(ids)])
        for row, time in enumerate(clock(n * len(ids), timedelta(seconds=20)))
    ]


def jittered(ids, n=60):
    random = np.random.default_rng(len(ids))
    pairs = [
        (time + timedelta(seconds=37 * i + random.random() * 20), one)
        for i, one in enumerate(ids)
        for time in clock(n)
    ]
    return sorted(pairs)


def events(ids, n=60):
    random = np.random.default_rng(n)
    seconds = np.sort(random.integers(0, 10**6, n * len(ids)))
    return [(START + timedelta(seconds=int(s)), ids[random.integers(len(ids))]) for s in seconds]


CERTAIN = [
    "device_id",
    "moteid",
    "Device ID",
    "nodeId",
    "unit_number",
    "sensor_no",
    "station code",
    "id",
    "serial",
    "host_id",
]
THINGS = ["node", "sensor", "station", "mote", "Machine", "wind turbine", "meter", "zone", "unit"]
UNKNOWN = ["k", "reqs", "x1"]
SHAPES = {
    "equal times": equal_times,
    "blocks": blocks,
    "turns": turns,
    "jittered": jittered,
    "events": events,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CERTAIN + THINGS)
def test_a_numeric_identifier_is_the_entity_or_at_least_a_note(read, name, shape):
    pairs = SHAPES[shape]([101, 7, 13])
    one = read(
        f"timestamp,{name},temp",
        [f"{time},{key},{value(row)}" for row, (time, key) in enumerate(pairs)],
    )
    assert any(name in note and "--entity" in note for note in one.columns.notes)
    # nothing in the times tells: it may be a number of nodes
    if name in THINGS and shape == "events":
        assert name in [column for column, _ in one.columns.metrics]
        return
    assert one.columns.entity == (name,)
    assert set(one.entities) == {"101", "7", "13"}
    assert one.metrics == ("temp",)
    assert [one.entities[code] for code in one.entity] == [str(key) for _, key in pairs]


@pytest.mark.parametrize("shape", ["equal times", "blocks"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_numbers_of_any_name_are_the_entity_where_the_times_prove_it(read, name, shape):
    pairs = SHAPES[shape]([1, 2, 3])
    rows = [f"{time},{key},{value(row)}" for row, (time, key) in enumerate(pairs)]
    one = read(f"timestamp,{name},temp", rows)
    assert one.entities == ("1", "2", "3")
    assert one.columns.notes[-1].startswith(
        f"column {name} holds whole numbers that separate rows of equal times"
    )
    alone = read(f"timestamp,{name},temp", rows, entity=())
    assert alone.columns.entity == ()
    assert alone.metrics == (name, "temp")


def test_numbers_that_take_turns_are_reported(read):
    one = read(
        "timestamp,k,temp",
        [f"{time},{key},{value(row)}" for row, (time, key) in enumerate(turns([1, 2, 3]))],
    )
    assert one.metrics == ("k", "temp")
    assert one.columns.notes == (
        "each whole number of column k comes at regular steps; if they are identifiers: --entity k",
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda row: row % 2,
        lambda row: 3 if row < 150 else 5,
        lambda row: [3, 1, 4, 1, 5, 9, 2, 6][row * row % 8],
        lambda row: row % 7 * 100 + row,
        lambda row: 8,
    ],
)
def test_whole_numbers_that_measure_stay_metrics(read, make):
    one = read("timestamp,errors,cpu", rows_of(clock(300), make, value))
    assert one.metrics == ("errors", "cpu")
    assert one.entities == ("",)


def test_repeated_times_do_not_make_a_count_an_entity(read):
    random = np.random.default_rng(1)
    counts = random.integers(0, 4, 600)
    wide = random.integers(0, 1000, 600)
    times = [time for time in clock(300) for _ in (0, 1)]
    one = read(
        "timestamp,errors,bytes", rows_of(times, lambda row: counts[row], lambda row: wide[row])
    )
    assert one.metrics == ("errors", "bytes")
    (note,) = one.columns.notes
    assert note.startswith(
        "600 of 600 rows share their time with another row of the same entity; if a column"
        " separates"
    )


def test_an_identifier_that_varies_over_one_regular_series_is_asked_about(refused, read):
    random = np.random.default_rng(3)
    rows = rows_of(clock(300), lambda _: random.integers(50, 90), value)
    refused(
        "timestamp,id,wa",
        rows,
        "line 1: column id (4",
        "--entity id takes it as the entity, --entity '' none",
    )
    assert read("timestamp,id,wa", rows, entity=()).metrics == ("wa",)
    assert read("timestamp,id,wa", rows, entity=("id",)).metrics == ("wa",)
    kept = read("timestamp,id,wa", rows, ColumnRules(rename={"id": "idle"}))
    assert kept.metrics == ("idle", "wa")


def test_what_is_the_same_throughout_tells_nothing_apart(read):
    """A constant would make one entity of all files of a folder that have it."""
    one = read("timestamp,device_id,server,temp", rows_of(clock(9), 7, "web-1", value))
    assert one.entities == ("",)
    assert one.metrics == ("temp",)
    assert [left.reason for left in one.columns.left_out] == [
        "an identifier ('7') is no metric; --entity device_id makes it part of the entity",
        "text ('web-1'); --entity server makes it part of the entity",
    ]
    one = read("timestamp,node,temp", rows_of(clock(9), 7, value))
    assert one.metrics == ("node", "temp")
    assert "--entity node" in one.columns.notes[0]


def test_states_and_single_switches_are_no_entities(read):
    state = read(
        "timestamp,pump,flow",
        rows_of(clock(90), lambda row: "on" if row % 20 < 9 else "off", value),
    )
    assert state.columns.left_out[0].reason == "text ('on', 'off')"
    switch = read(
        "timestamp,server,flow", rows_of(clock(90), lambda row: "a" if row < 40 else "b", value)
    )
    assert (
        switch.columns.left_out[0].reason
        == "text ('a', 'b'); --entity server makes it part of the entity"
    )
    assert read(
        "timestamp,device_id,flow", rows_of(clock(90), lambda row: -1 if row < 40 else 2, value)
    ).entities == (
        "-1",
        "2",
    )
    long = rows_of(clock(90), lambda row: 10**24 + row % 2, value)
    assert len(read("timestamp,device_id,flow", long).entities) == 2


def test_two_identifiers_are_joined_where_only_both_tell_rows_apart(read):
    rows = [f"{t},{a},{b},{value(a * b)}" for t in clock(50) for a in (1, 2) for b in (1, 2, 3)]
    one = read("timestamp,site_id,sensor_id,temp", rows)
    assert one.entities == ("1/1", "1/2", "1/3", "2/1", "2/2", "2/3")
    assert one.columns.entity == ("site_id", "sensor_id")
    host = read("timestamp,host,disk_id,temp", rows)
    assert host.columns.entity == ("host", "disk_id")
    refused = [
        f"{t},{row % 2},{row % 3},{value(row)}"
        for row, t in enumerate(sorted(t for t, _ in events([1] * 3)))
    ]
    with pytest.raises(
        DataError,
        match="columns sensor_id and site_id may both name the entity; --entity sensor_id or",
    ):
        read("timestamp,site_id,sensor_id,temp", refused)


def test_one_identifier_is_enough_where_it_tells_rows_apart(read):
    rows = [f"{t},{key % 2},{key},dev-{key},{value(key)}" for t in clock(50) for key in (1, 2, 3)]
    one = read("timestamp,site_id,device_id,device_name,temp", rows)
    assert one.columns.entity == ("device_id",)
    assert {left.column for left in one.columns.left_out} == {"site_id", "device_name"}


def test_an_identifier_beside_a_named_entity_is_no_metric(read):
    rows = [
        f"{t},{host},{400 + row // 20},{value(row)}"
        for row, t in enumerate(clock(50))
        for host in "ab"
    ]
    one = read("timestamp,host,pid,used", rows)
    assert one.metrics == ("used",)
    assert (
        one.columns.left_out[0].reason
        == "an identifier ('400', '401', '402') is no metric; --entity host,pid makes it part of"
        " the entity"
    )


def test_text_names_the_entity_by_its_column_or_by_the_times(read):
    rows = [f"{t},web-{key},{value(key)},{value(2 * key)}" for t in clock(50) for key in (1, 2, 3)]
    for name in ("server", "instance", "whatever", "name"):
        one = read(f"timestamp,{name},cpu,mem", rows)
        assert one.entities == ("web-1", "web-2", "web-3")
        assert "--entity names another" in one.columns.notes[0]


def test_names_may_look_like_numbers_beside_text(read):
    rows = [
        f"{t},{key},{value(row)}" for row, t in enumerate(clock(50)) for key in ("a1", "22", "3e5")
    ]
    assert read("timestamp,sensor,temp", rows).entities == ("a1", "22", "3e5")


def test_text_that_separates_no_rows_is_left_out_and_reported(read):
    rows = [
        f"{t},{host},{'eu' if host == 'a' else 'us'},Percent,{value(row)}"
        for row, t in enumerate(clock(9))
        for host in "ab"
    ]
    one = read("timestamp,host,region,unit,cpu", rows)
    assert one.metrics == ("cpu",)
    assert [(left.column, left.reason) for left in one.columns.left_out] == [
        ("region", "text ('eu', 'us')"),
        ("unit", "text ('Percent')"),
    ]
    assert one.columns.notes == (
        "column region is left out: text ('eu', 'us')",
        "column unit is left out: text ('Percent')",
    )


def test_a_column_of_numbers_with_text_in_it_is_no_column_of_text(refused):
    refused(
        "timestamp,cpu,mem",
        rows_of(clock(300), lambda row: "starting" if row < 200 else row, 1),
        "line 2: cpu is 'starting'",
    )
    for name in ("sensor", "unit", "x"):  # also where the name is one of things
        for cell in ("21", "21.5"):
            rows = rows_of(
                clock(60), lambda row, cell=cell: "err" if row == 30 else f"{row}{cell}", 1
            )
            refused(
                f"timestamp,{name},mem", rows, f"line 32: {name} is 'err', which is not a number"
            )
    refused(
        "timestamp,status", rows_of(clock(3), "ok"), "line 2: status is 'ok', which is not a number"
    )


def test_an_entity_without_a_name_is_refused(refused):
    rows = [f"{t},{key},{value(row)}" for row, t in enumerate(clock(50)) for key in (1, 2, "")]
    refused("timestamp,device_id,temp", rows, "line 4: the entity is empty")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("id", NameKind.IDENTIFIER),
        ("DeviceID", NameKind.IDENTIFIER),
        ("mote_id", NameKind.IDENTIFIER),
        ("roomid", NameKind.IDENTIFIER),
        ("unit nr", NameKind.IDENTIFIER),
        ("station", NameKind.THING),
        ("pump", NameKind.THING),
        ("humid", NameKind.NOTHING),
        ("grid", NameKind.NOTHING),
        ("cpu", NameKind.NOTHING),
        ("nodes", NameKind.NOTHING),
        ("num_sensors", NameKind.NOTHING),
        ("status_code", NameKind.NOTHING),
        ("node_count", NameKind.NOTHING),
        ("", NameKind.NOTHING),
    ],
)
def test_kinds_of_names(name, kind):
    assert name_kind(name) is kind


# -- whole folders ---------------------------------------------------------------------------------


def write_folder(folder, files):
    for number in range(files):
        rows = rows_of(clock(20 + number), lambda row, number=number: (row + number) % 2, value)
        (folder / f"f{number}.csv").write_text("timestamp,device_id,cpu\n" + "\n".join(rows))


def test_notes_of_many_files_are_reported_once(tmp_path):
    write_folder(tmp_path, 5)
    hosts, notes = read_folder(tmp_path, load_catalogue())
    assert [set(host.entities) for host in hosts] == [{"0", "1"}] * 5
    assert (
        notes[0]
        == "f0.csv and 4 more: column device_id (2 distinct whole numbers) is taken as the entity;"
        " --entity names another"
    )
    assert len(notes) == 2


def test_notes_of_several_columns_of_a_file_are_all_reported(tmp_path):
    for name in "ab":
        rows = rows_of(clock(9), "x", 1, "", "y", "")
        (tmp_path / f"{name}.csv").write_text("timestamp,t1,cpu,,t2,\n" + "\n".join(rows))
    notes = read_folder(tmp_path, load_catalogue())[1]
    assert notes == [
        "a.csv and 1 more: column t1 is left out: text ('x')",
        "a.csv and 1 more: column 4 is left out: it has neither a name nor cells",
        "a.csv and 1 more: column t2 is left out: text ('y')",
        "a.csv and 1 more: column 6 is left out: it has neither a name nor cells",
    ]


def test_an_entity_of_several_files_is_reported(tmp_path):
    write_folder(tmp_path, 2)
    _, notes = read_folder(tmp_path, load_catalogue())
    assert (
        notes[-1]
        == "entity 0 (and 1 more) appears in f0.csv and f1.csv at the same time, with cpu in both:"
        " their rows become one series; distinct things need distinct names"
    )
    later = rows_of(clock(20, start=START + timedelta(days=9)), lambda row: row % 2, value)
    (tmp_path / "f1.csv").write_text("timestamp,device_id,cpu\n" + "\n".join(later))
    assert len(read_folder(tmp_path, load_catalogue())[1]) == 1


# -- generated files -------------------------------------------------------------------------------

FORMS = [
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M",
    "%y%m%d%H%M",
    "%d.%m.%Y %H:%M:%S",
]
FORMS += ["%m/%d/%Y %H:%M:%S", "s", "ms"]


@settings(deadline=None, max_examples=150)
@given(
    form=st.sampled_from(FORMS),
    name=st.sampled_from(CERTAIN + THINGS),
    rows=st.tuples(
        st.sampled_from(["equal times", "blocks", "turns", "jittered"]),
        st.lists(st.integers(0, 5000), min_size=2, max_size=8, unique=True),
        st.integers(12, 60),
    ),
    separator=st.sampled_from([",", ";", "\t"]),
    second=st.sampled_from([None, "ingested_at", "updated"]),
    first=st.booleans(),
)
def test_a_generated_file_is_read_as_it_was_meant_or_refused(
    tmp_path_factory, form, name, rows, separator, second, first
):
    """No identifier or epoch becomes a metric, no time changes, and no row is lost."""
    shape, ids, n = rows
    pairs = [(time.replace(microsecond=0), key) for time, key in SHAPES[shape](ids, n)]
    if "%M" in form and "%S" not in form:
        pairs = [(time.replace(second=0), key) for time, key in pairs]
    lines = []
    for row, (time, key) in enumerate(pairs):
        seconds = int(time.replace(tzinfo=UTC).timestamp())
        stamp = {"s": str(seconds), "ms": str(seconds * 1000)}.get(form) or time.strftime(form)
        cells = [
            stamp,
            str(key),
            value(row),
            *([str(seconds * 1000 + row % 900)] if second else []),
        ]
        lines.append(separator.join(cells if first else [cells[1], cells[0], *cells[2:]]))
    head = ["timestamp", name, "temp", *([second] if second else [])]
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_text(
        separator.join(head if first else [head[1], head[0], *head[2:]]) + "\n" + "\n".join(lines)
    )
    try:
        one = read_series(path, "x")
    except DataError as error:
        one, message = None, str(error)
    if one is None:
        assert "x.csv, line " in message
        assert "--time-format" in message or "--entity" in message
        return
    assert len(one) == len(pairs)
    assert one.time_ms.tolist() == [
        int(time.replace(tzinfo=UTC).timestamp()) * 1000 for time, _ in pairs
    ]
    assert second not in one.metrics
    assert one.metrics[-1] == "temp"
    if one.columns.entity:
        assert [one.entities[code] for code in one.entity] == [str(key) for _, key in pairs]
    else:
        assert name in THINGS
        assert any(f"--entity {name}" in note for note in one.columns.notes)
