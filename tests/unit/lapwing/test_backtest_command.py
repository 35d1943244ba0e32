"""The command ``lapwing backtest``: its options, and files that it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from lapwing.app import app
from shared.errors import ConfigError, DataError
from tests.support.backtests import ROWS, START_MS, STEP_MS, of, run, text_of, wave, write_series


def test_the_command(folder, labels):
    command = [
        "--set",
        "detection.warmup_days=0.2",
        "backtest",
        "--data",
        str(folder),
        "--labels",
        str(labels),
        "--json",
    ]
    done = CliRunner().invoke(app, [*command, "--threshold", "2"])
    assert (done.exit_code, done.exception) == (0, None)
    summary = json.loads(done.stdout)
    assert summary["configuration"]["detection"]["threshold"] == 2
    assert "records scored in" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give exactly one of --data, --topic-range, --fleet; given: none"),
        (("--data", "x", "--fleet", "1"), "given: --data, --fleet"),
        (("--data", "/nowhere"), "/nowhere: no such file or folder"),
        (
            ("--data", "FOLDER", "--labels", "/nowhere.json"),
            "--labels /nowhere.json: it cannot be read",
        ),
        (("--topic-range", "5"), "--topic-range 5: --topic-range FROM..TO"),
        (
            ("--data", "FOLDER", "--entity", "nope"),
            "--entity nope: there is no such column; it has timestamp, value",
        ),
        (
            ("--data", "FOLDER", "--time", "nope"),
            "--time nope: there is no such column; it has timestamp, value",
        ),
        (("--data", "FOLDER", "--time-format", "nope"), "--time-format nope: one of iso, s, ms"),
        (
            ("--data", "FOLDER", "--time-format", "ms"),
            "in the format epoch milliseconds of --time-format",
        ),
        (
            ("--fleet", "2", "--time", "t"),
            "--time describes columns of files, so it needs --data",
        ),
    ],
)
def test_what_the_command_refuses(arguments, message, folder):
    done = CliRunner().invoke(
        app, ["backtest", *(str(folder) if a == "FOLDER" else a for a in arguments)]
    )
    assert isinstance(done.exception, ConfigError | DataError)
    assert done.exception.exit_code == 2
    assert message in str(done.exception)


def write_devices(folder, form="%Y%m%d%H%M"):
    """Two devices in one file, times as digits, and a second column of times."""
    rows = [(START_MS + row * STEP_MS, device) for row in range(ROWS) for device in (1, 2)]
    values = {device: wave(phase=device) for device in (1, 2)}
    lines = [
        f"{datetime.fromtimestamp(ms / 1000, UTC):{form}},{device},{ms + 250},"
        f"{values[device][(ms - START_MS) // STEP_MS]:.6f}"
        for ms, device in rows
    ]
    (folder / "devices.csv").write_text("timestamp,device_id,ingested_at,cpu\n" + "\n".join(lines))


def test_columns_are_scored_as_what_they_are_and_said(tmp_path):
    write_devices(tmp_path)
    command = [
        "--set",
        "detection.warmup_days=0.2",
        "backtest",
        "--data",
        str(tmp_path),
        "--json",
    ]
    found = []
    for asked in (
        [],
        ["--entity", "device_id", "--time", "timestamp", "--time-format", "YYYYMMDDHHMM"],
    ):
        done = CliRunner().invoke(app, [*command, *asked])
        assert (done.exit_code, done.exception) == (0, None)
        found.append(json.loads(done.stdout))
    first = found[0]["first"]
    assert {one["entity"] for one in first["per_entity"]} == {"1", "2"}
    assert set(first["alarms"]["by_metric"]) == {"cpu"}
    assert (first["records"], first["first_event"]) == (2 * ROWS, text_of(START_MS)[:-3])
    assert [note.split(" is ")[0] for note in found[0]["notes"]] == [
        "devices.csv: the times of column timestamp are read as YYYYMMDDHHMM, UTC",
        "devices.csv: column device_id (2 distinct whole numbers)",
        "devices.csv: column ingested_at",
    ]
    assert found[1]["first"] == first


def test_files_whose_times_nobody_takes_are_an_error_not_nothing(tmp_path):
    (tmp_path / "a.csv").write_text(
        "timestamp,value\n" + "".join(f"{100_000_000 + 300 * row},1\n" for row in range(9))
    )
    with pytest.raises(
        DataError,
        match="none of its 9 records can be scored: 9 because the event time lies outside input",
    ):
        run(input=of(tmp_path))


def test_a_bad_row_is_named_or_left_out(tmp_path):
    write_series(tmp_path, "a", wave(40, 30))
    text = (tmp_path / "a.csv").read_text().splitlines()
    text[7] = "yesterday,1"
    (tmp_path / "a.csv").write_text("\n".join(text))
    with pytest.raises(DataError, match=r"a\.csv, line 8: .*'yesterday'"):
        run(input=of(tmp_path))
    summary, _ = run(input=of(tmp_path, skip_bad=True))
    assert summary["first"]["records"] == 39
    assert "bad rows skipped in a: 1" in summary["notes"]
