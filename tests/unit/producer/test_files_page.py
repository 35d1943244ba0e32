"""docs/files.md is correct: its formats, its options and the notes of its example."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lapwing.app import app
from producer.catalogue import find_files, load_catalogue, read_folder
from producer.files.columns import ColumnChoice
from producer.files.series import read_series
from producer.files.time_forms import FORMS, find_form, parse_times
from shared.errors import DataError
from shared.wording import second
from tests.support.documents import blocks

PAGE = (Path(__file__).parents[3] / "docs" / "files.md").read_text("utf-8")


def table(title):
    """Rows of the first table after a heading, without the table's own heading."""
    text = PAGE.split(f"\n## {title}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def forms():
    found = []
    for name, example, time in table("Times"):
        found.append((name.strip("`") or found[-1][0], example.strip("`"), time))
    return found


@pytest.mark.parametrize(("name", "example", "time"), forms())
def test_a_form_is_read_as_the_page_says(name, example, time):
    time_ms, valid = parse_times([example], find_form(name))
    assert valid.tolist() == [True]
    assert second(int(time_ms[0])) == time


RESULTS = [
    ("CPUUtilization", ["2024-03-05T07:35:00+00:00", "2024-03-05T07:30:00+00:00"], [41.5, 40.25]),
    ("NetworkIn", ["2024-03-05T07:30:00+00:00"], [1e6]),
    ("CPUUtilization", ["2024-03-05T07:25:00+00:00"], [39.0]),
]


def test_the_script_for_cloudwatch_makes_a_file_that_is_read(tmp_path):
    [script] = [code for code in blocks(PAGE, "python") if "MetricDataResults" in code]
    (tmp_path / "cloudwatch_csv.py").write_text(script)
    results = [
        {"Id": f"m{k}", "Label": label, "Timestamps": times, "Values": values}
        for k, (label, times, values) in enumerate(RESULTS)
    ]
    (tmp_path / "i-0abc.json").write_text(json.dumps({"MetricDataResults": results}))
    with pytest.raises(DataError, match=r"no \.csv file in it, but \.json: docs/files\.md"):
        find_files(tmp_path, ())
    with pytest.raises(DataError, match=r"it looks like JSON: docs/files\.md"):
        read_series(tmp_path / "i-0abc.json", "i-0abc")
    ran = subprocess.run(
        [sys.executable, "cloudwatch_csv.py", "i-0abc.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        "timestamp,CPUUtilization,NetworkIn",
        "2024-03-05T07:25:00+00:00,39.0,",
        "2024-03-05T07:30:00+00:00,40.25,1000000.0",
        "2024-03-05T07:35:00+00:00,41.5,",
    ]
    (tmp_path / "i-0abc.csv").write_text(ran.stdout)
    series = read_series(tmp_path / "i-0abc.csv", "i-0abc")
    assert series.metrics == ("CPUUtilization", "NetworkIn")
    assert series.values[:, 0].tolist() == [39.0, 40.25, 41.5]


def test_the_page_has_every_form():
    assert list(dict.fromkeys(name for name, _, _ in forms())) == list(FORMS)


def test_the_page_has_the_options_of_all_commands():
    options = set(re.findall(r"`(--[a-z-]+)", "".join(row[0] for row in table("Options"))))
    assert options == {
        "--entity",
        "--time",
        "--time-format",
        "--decimal",
        "--skip-bad",
        "--catalogue",
    }
    for command, known in (
        ("backtest", options),
        ("produce", options),
        ("demo", options - {"--skip-bad", "--catalogue"}),
    ):
        output = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
        assert [option for option in known if option not in output] == []


def test_the_example_gives_the_notes(tmp_path):
    (tmp_path / "readings.csv").write_text(re.search(r"```csv\n(.*?)```", PAGE, re.DOTALL)[1])
    (one,), notes = read_folder(tmp_path, load_catalogue())
    assert one.entities == ("11", "12")
    assert notes == re.findall(r"^    (readings.*)$", PAGE, re.MULTILINE)


def test_names_of_metrics_are_those_of_the_page(tmp_path):
    pairs = re.findall(
        r"`([^`]+)` is `([A-Za-z_]+)`", PAGE.split("## Layout")[1].split("## Times")[0]
    )
    assert len(pairs) == 2
    path = tmp_path / "a.csv"
    path.write_text(f"time,{','.join(column for column, _ in pairs)}\n2024-03-05,1,2\n")
    assert read_series(path, "a", choice=ColumnChoice()).metrics == tuple(
        metric for _, metric in pairs
    )
