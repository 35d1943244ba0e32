"""What docs/backtest.md promises to programs is what a backtest writes, no more and no less."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from lapwing.backtest.rows import METRIC_KEYS, RowWriter, open_rows
from shared.errors import ConfigError
from tests.support.backtests import SPIKE, START_MS, STEP_MS, of, run, text_of

DOCUMENT = Path(__file__).parents[3] / "docs" / "backtest.md"
MAPS = {
    "configuration",
    "rejected",
    "by_severity",
    "by_metric",
    "by_view",
    "data_quality",
    "by_kind",
}
"""Keys whose value has names that depend on the data."""

TABLES = ("Columns of `alarms.csv`", "Keys of a line of `--rows`", "Keys of the summary")
NOT_IN_TOP_ALARMS = {"configuration", "end", "peak", "closed_because"}
OPTIONAL = {"first.rejected.<name>", "first.data_quality.<name>", "compare.alarms_added[]"}
"""Only where a record could not be read, data were bad, or the second configuration adds alarms."""


def documented(title: str) -> list[str]:
    """The first cells of the table under a heading."""
    section = DOCUMENT.read_text("utf-8").split(f"### {title}\n")[1].split("\n### ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def keys_of(value: object, path: str) -> set[str]:
    """Paths of all leaves; the names in MAPS are replaced."""
    name = path.rpartition(".")[2]
    if isinstance(value, dict) and name in MAPS and path != "first.per_entity[].data_quality":
        inner = {found for item in value.values() for found in keys_of(item, f"{path}.<name>")}
        return {re.sub(r"(configuration\.<name>).*", r"\1", key) for key in inner}
    if isinstance(value, dict):
        return {found for key, item in value.items() for found in keys_of(item, f"{path}.{key}")}
    if value == []:
        return set()
    if isinstance(value, list) and isinstance(value[0], dict):
        return {found for item in value for found in keys_of(item, f"{path}[]")}
    return {path}


@pytest.fixture(scope="module")
def written(tmp_path_factory, folder):
    """A backtest with labels of a kind, a budget and a second configuration."""
    out = tmp_path_factory.mktemp("contract")
    spike_ms = START_MS + SPIKE * STEP_MS
    span = f"{text_of(spike_ms - STEP_MS)},{text_of(spike_ms + STEP_MS)}"
    labels = out / "labels.csv"
    labels.write_text(
        f"entity,start,end,kind\nweb/a_cpu_utilization,{span},spike\nnobody,{span},spike\n"
    )
    summary, _ = run(
        input=of(folder),
        labels=labels,
        alarms_per_day=2.0,
        compared="threshold=3,alarms_per_day=none",
        out=out / "out",
        rows=out / "rows.jsonl",
    )
    return summary, out


def test_the_documents_tables_are_there():
    assert [len(documented(title)) >= 15 for title in TABLES] == [True, True, True]


def test_columns_of_the_alarm_table_are_those_documented(written):
    _, out = written
    with (out / "out" / "alarms.csv").open(newline="") as lines:
        assert next(csv.reader(lines)) == documented(TABLES[0])


def test_keys_of_the_summary_are_those_documented(written):
    summary, out = written
    assert json.loads((out / "out" / "summary.json").read_text("utf-8")) == summary
    found = {key for name, value in summary.items() for key in keys_of(value, name)}
    alarm = {f"first.top_alarms[].{name}" for name in documented(TABLES[0])}
    assert {key for key in found if key.startswith("first.top_alarms[]")} == {
        key for key in alarm if key.rpartition(".")[2] not in NOT_IN_TOP_ALARMS
    }
    second = {key for key in found if key.startswith("compare.second.")}
    assert {key.replace("compare.second.", "first.") for key in second} >= {
        key for key in found if key.startswith("first.labels.")
    }
    listed = re.compile(r"(alarms\[\]|_added\[\]|_removed\[\])\..*")
    found = {listed.sub(r"\1", key) for key in found - second}
    promised = set(documented(TABLES[2]))
    not_there = {"first.budget", "first.labels", "compare", "compare.second"}
    assert promised - found - OPTIONAL == not_there
    assert found - promised == set()


def test_keys_of_a_row_are_those_documented(written):
    summary, out = written
    lines = (out / "rows.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [list(row) for row in (rows[0], rows[-1])] == [documented(TABLES[1])] * 2
    assert {key for row in rows for cell in row["metrics"].values() for key in cell} == set(
        METRIC_KEYS
    )
    for name, key in (("first", "first"), ("second", "second")):
        figures = summary["first"] if name == "first" else summary["compare"]["second"]
        mine = [row for row in rows if row["configuration"] == key]
        assert len(mine) == figures["records"]
        assert sum(row["is_anomaly"] for row in mine) == figures["alarms"]["count"]
        assert sum(row["late"] for row in mine) == figures["late"]


def test_rows_are_the_verdicts_of_single_records(folder, tmp_path):
    path = tmp_path / "rows.jsonl"
    run(input=of(folder), rows=path, out=tmp_path / "out")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with (tmp_path / "out" / "alarms.csv").open(newline="") as lines:
        alarms = [row for row in csv.DictReader(lines) if row["kind"] == "anomaly"]
    by_offset = {row["offset"]: row for row in rows}
    assert len(by_offset) == len(rows)
    assert alarms
    for alarm in alarms:
        row = by_offset[int(alarm["offset"])]
        assert row["is_anomaly"]
        assert row["episode_id"] == alarm["episode_id"]
        assert round(row["score"], 4) == float(alarm["score"])
        assert row["metrics"][alarm["metric"]]["value"] == float(alarm["value"])
    assert all(row["score"] is None for row in rows if row["state"] == "WARMING")


def test_a_file_that_cannot_be_written_is_named(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"--rows .*nowhere/rows.jsonl: it cannot be written"):
        run(input=of(folder), rows=tmp_path / "nowhere" / "rows.jsonl")


def test_a_disk_that_is_full_is_named(tmp_path):
    def refuse(text: str) -> None:
        raise OSError(28, "No space left on device")

    state = SimpleNamespace(entities=SimpleNamespace(names=list), metrics=[])
    full = RowWriter(tmp_path / "rows.jsonl", SimpleNamespace(write=refuse))
    with pytest.raises(ConfigError, match=r"rows.jsonl: it cannot be written: No space left"):
        full.write("first", SimpleNamespace(columns=()), state)


def test_an_earlier_file_is_replaced(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("old\n")
    with open_rows(path):
        pass
    assert path.read_text() == ""
