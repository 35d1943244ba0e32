"""``lapwing export scores --to FILE``: columns, files, and the lines of docs/export.md."""

import copy
import csv
import io
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

import schemas
from lapwing.export import export_command, export_files
from lapwing.export.export_columns import KINDS, WRITTEN, ColumnType, columns_of, rows_of
from lapwing.export.export_command import ExportOptions, export
from lapwing.export.export_files import whole_file
from shared.encode.records import decode_records, encode_records
from shared.errors import ConfigError, TransportError
from shared.settings import Settings
from tests.support.fakes import MemoryLog
from tests.support.loop_world import TOPICS, A, World, begun

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(topics=TOPICS)
TEXTS = {
    1: schemas.text(schemas.SCORE_EVENT),
    2: schemas.text(schemas.ANOMALY_EVENT),
    9: schemas.text(schemas.INCIDENT),
}
EPISODE = {
    "episode_id": "e1",
    "kind": "anomaly",
    "entity": "alpha",
    "metric": "cpu",
    "metrics": ["cpu"],
    "direction": "up",
    "reason": 'cpu is "high"',
    "start": 1_400_000_000_000,
    "end": None,
    "closed_because": None,
    "severity": 0.7,
    "peak_time": 1_400_000_000_000,
    "peak_value": 9.5,
    "embedding": [],
}


def incident(incident_id, revision, start=1_400_000_000_000, **more):
    record = {
        "incident_id": incident_id,
        "revision": revision,
        "change": "opened",
        "state": "open",
        "title": "alpha: cpu, unusually\nhigh; ✓",
        "reason": "a reason",
        "severity": 0.7,
        "severity_class": "major",
        "start": start,
        "entity": "alpha",
        "metric": "cpu",
        "entity_count": 1,
        "metric_count": 1,
        "episode_count": 1,
        "open_count": 1,
        "peak_entity": "alpha",
        "peak_time": start,
        "peak_value": 9.5,
        "entities": ["alpha"],
        "metrics": ["cpu"],
        "opened_offset": 0,
        "anomalies_offset": 0,
        "recorded_at": start,
        "window_start": start,
        "episodes": [EPISODE],
    }
    return encode_records(TEXTS[9], 9, [record | more])[0]


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> MemoryLog:
    """Scores and anomalies of a small world, and some incidents."""
    world = World(tmp_path_factory.mktemp("world"))
    world.models.current = A
    world.finish(begun(world))
    log = world.log
    log.topics[TOPICS.incidents] = [[]]
    for key, value in (
        ("i1", incident("i1", 1)),
        ("i2", incident("i2", 1)),
        ("i1", incident("i1", 2, state="closed")),
        ("i3", incident("i3", 1, start=1_300_000_000_000)),
        ("i2", b""),
    ):
        log.append(TOPICS.incidents, 0, value, key.encode())
    return log


@pytest.fixture
def reading(monkeypatch, log):
    """The command reads a copy of the log in memory, in small batches."""
    log = copy.deepcopy(log)

    class FakeReader:
        def __init__(self, settings):
            self.settings = settings

        def read(self, topic):
            for partition in range(len(log.topics[topic])):
                at, batch = 0, None
                while batch is None or len(batch):
                    batch, at = log.read(topic, partition, at, 41)
                    yield batch

    class FakeRegistry:
        def __init__(self, settings):
            self.schema = TEXTS.get

    monkeypatch.setattr(export_command, "Reader", FakeReader)
    monkeypatch.setattr(export_command, "Registry", FakeRegistry)
    return log


def run(name, path, **options):
    out = io.StringIO()
    count = export(SETTINGS, ExportOptions(name, path, **options), out, io.StringIO())
    return count, out.getvalue()


def events(log, topic, schema_id):
    return [
        decode_records([record.value], [TEXTS[schema_id]])[0]
        for *_, record in log.visible(topic)
        if record.value[:5] == b"\0" + schema_id.to_bytes(4, "big")
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_score_has_a_row_for_each_of_its_metrics(reading, tmp_path, suffix):
    path = tmp_path / f"scores{suffix}"
    count, said = run("scores", path)
    written = events(reading, TOPICS.scores, 1)
    assert count.records == len(written) > 200
    assert str(path) in said
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    table = read(path)
    wanted = [
        (event["event_id"], metric["name"], metric["value"], event["score"])
        for event in written
        for metric in event["metrics"]
    ]
    assert len(table) == count.rows == len(wanted)
    columns = [table[name] for name in ("event_id", "metric_name", "metric_value", "score")]
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert [tuple(None if pd.isna(x) else x for x in row) for row in found] == wanted
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_both_formats_hold_the_same_anomalies(reading, tmp_path):
    for name in ("a.csv", "a.parquet"):
        run("anomalies", tmp_path / name)
    one = pd.read_csv(tmp_path / "a.csv", parse_dates=["event_time"])
    other = pd.read_parquet(tmp_path / "a.parquet")
    assert one.columns.tolist() == other.columns.tolist()
    assert (one.event_time.to_numpy() == other.event_time.to_numpy()).all()
    for name in ("event_id", "reason", "score", "severity", "attributions", "topic_offset"):
        same = (one[name] == other[name]) | (one[name].isna() & other[name].isna())
        assert same.all(), name
    by_id = {event["event_id"]: event for event in events(reading, TOPICS.anomalies, 2)}
    for _, row in other.iterrows():
        event = by_id.pop(row.event_id)
        assert json.loads(row.attributions) == event["attributions"]
        assert row.severity == event["severity"] or pd.isna(row.severity)
        assert row.event_time.value // 1_000_000 == event["event_time"]
    assert by_id == {}


def test_of_incidents_the_newest_record_is_written(reading, tmp_path):
    path = tmp_path / "i.csv"
    count, _ = run("incidents", path)
    assert count.records == 2, "i2 was deleted"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["incident_id"], row["state"], row["revision"]) for row in rows] == [
        ("i3", "open", "1"),
        ("i1", "closed", "2"),
    ]
    assert rows[0]["title"] == "alpha: cpu, unusually\nhigh; ✓"
    assert rows[0]["start"] == "2011-03-13T07:06:40.000Z"
    assert json.loads(rows[1]["episodes"]) == [EPISODE]
    assert rows[1]["end"] == ""


def test_times_limit_what_is_written(reading, tmp_path):
    written = sorted(event["event_time"] for event in events(reading, TOPICS.scores, 1))
    middle = written[len(written) // 2]
    since, until = str(pd.Timestamp(middle, unit="ms")), "2014-06-01"
    count, _ = run("scores", tmp_path / "s.csv", since=since, until=until)
    limit = pd.Timestamp(until).value // 1_000_000
    assert count.records == sum(middle <= time < limit for time in written) > 0
    with pytest.raises(ConfigError, match="--since yesterday"):
        run("scores", tmp_path / "s.csv", since="yesterday")


def test_what_cannot_be_decoded_is_counted(reading, tmp_path):
    reading.append(TOPICS.anomalies, 0, b"\0\0\0\0\7strange", b"k")
    reading.append(TOPICS.anomalies, 0, b"plain", b"k")
    count, said = run("anomalies", tmp_path / "a.csv")
    assert count.skipped == 2
    assert "2 could not be decoded" in said


def test_a_file_appears_whole_or_not_at_all(reading, tmp_path, monkeypatch):
    path = tmp_path / "scores.parquet"
    path.write_text("the file of yesterday")

    def broken(*_):
        yield []
        raise TransportError("the broker does not answer")

    monkeypatch.setattr(export_command, "_records", broken)
    with pytest.raises(TransportError):
        run("scores", path)
    assert path.read_text() == "the file of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_row_groups_bound_the_memory(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(export_files, "GROUP_ROWS", 100)
    columns = columns_of(KINDS["scores"])
    row = {column.name: None for column in columns}
    path = tmp_path / "x.parquet"
    with whole_file(path, columns) as writer:
        for _ in range(7):
            writer.write([row] * 64)
            assert len(writer._kept) < 100
    about = pq.ParquetFile(path).metadata
    assert (about.num_rows, about.num_row_groups) == (448, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.xlsx", "ends in .csv or .parquet"),
        ("none/x.csv", "cannot be written"),
        ("d.csv", "fold"),
    ],
)
def test_targets_that_are_refused(reading, tmp_path, name, message):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ConfigError, match=message):
        run("scores", tmp_path / name)


def test_parquet_without_pyarrow_names_the_extra(reading, tmp_path, monkeypatch):
    monkeypatch.setattr(export_files, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"install lapwing\[export\]"):
        run("scores", tmp_path / "x.parquet")
    count, _ = run("scores", tmp_path / "x.csv")
    assert count.records


def test_columns_follow_the_schema_and_rows_have_each():
    for kind in KINDS.values():
        columns = columns_of(kind)
        assert len({column.name for column in columns}) == len(columns)
        assert columns[-3:] == list(WRITTEN)
        [row] = rows_of(kind, columns, {"of a later version": 1})
        assert row == {column.name: None for column in columns}
    types = {column.name: column.type for column in columns_of(KINDS["incidents"])}
    assert types["episodes"] is ColumnType.JSON
    assert types["end"] is ColumnType.TIME
    assert types["duration_ms"] is ColumnType.INTEGER


# -- the lines of docs/export.md -------------------------------------------------------------------


def blocks(language):
    text = (ROOT / "docs" / "export.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def exported(reading, tmp_path, monkeypatch):
    """The files that the document's lines read, in the working folder."""
    for name in ("anomalies.parquet", "scores.csv", "incidents.parquet"):
        run(name.partition(".")[0], tmp_path / name)
    monkeypatch.chdir(tmp_path)


def test_lines_for_pandas_and_sqlite(exported, capsys):
    pandas_lines, sqlite_lines = blocks("python")
    exec(compile(pandas_lines, "export.md", "exec"), {})
    said = capsys.readouterr().out
    assert re.search(r"\d+ of \d{3} values outside of their band", said)
    exec(compile(sqlite_lines, "export.md", "exec"), {})
    rows = eval(capsys.readouterr().out)
    assert {row[0] for row in rows} == {"alpha", "beta", "gamma"}


@pytest.mark.skipif(find_spec("duckdb") is None, reason="DuckDB is not installed")
def test_lines_for_duckdb(exported):
    import duckdb

    first, second = [part for part in blocks("sql")[0].split(";") if part.strip()]
    assert duckdb.sql(first).fetchall()
    assert duckdb.sql(second).fetchall() == [('cpu is "high"',)] * 2
