"""``lapwing route`` as a command: its refusals before any connection, and what --dry-run shows."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from typer.testing import CliRunner

from lapwing.app import app
from lapwing.route.route_preview import preview
from lapwing.route.route_service import check_source
from shared.errors import ConfigError
from shared.settings import Settings
from tests.support.programs import run_code
from tests.support.writer_rows import FILES, records_of

METRICS = [
    {"name": "cpu", "tags": {"host": "a", "cpu": f"cpu{k}"}, "fields": {"v": k}, "timestamp": 1.7e9}
    for k in range(2)
]


def shown(tmp_path, *, as_json=False, **route):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"metrics": [*METRICS, {"name": "x"}]}))
    out = StringIO()
    settings = Settings.model_validate({"route": route})
    assert preview(settings, [path], 10, as_json=as_json, out=out) == 1
    return out.getvalue()


def test_a_dry_run_shows_events_refusals_and_labels_that_are_not_used(tmp_path):
    text = shown(tmp_path)
    assert "record.json: 3 rows, 2 events, 1 refused" in text
    assert "  a  2023-11-14T22:13:20.000Z  cpu_v=1" in text
    assert "! telegraf: metrics[2]: fields is null; it must be an object" in text
    assert "labels that no template names: cpu\n" in text
    assert (
        "! rows of one record have the same entity, time and metric, in 1 case (the first" in text
    )


def test_a_template_that_names_the_label_tells_rows_apart(tmp_path):
    text = shown(tmp_path, entity="{host}/{cpu}")
    assert "a/cpu1" in text
    assert "no template names" not in text
    assert "same entity" not in text


@pytest.mark.parametrize("format_", [name for name in FILES if name != "connect"])
def test_a_dry_run_names_the_format_that_reads_the_records(tmp_path, format_):
    other = "influx" if format_ == "telegraf" else "telegraf"
    path = tmp_path / "record"
    path.write_bytes(records_of(format_)[0])
    out = StringIO()
    settings = Settings.model_validate({"route": {"format": other}})
    assert preview(settings, [path], 10, as_json=False, out=out) == 1
    sentence = f"! route.format is {other}, which reads no row of these records: "
    assert f"{sentence}set route.format={format_}, which reads them\n" in out.getvalue()


def test_a_dry_run_of_what_no_format_reads_names_the_page(tmp_path):
    path = tmp_path / "record"
    path.write_text('{"cpu": 1}')
    out = StringIO()
    preview(Settings(), [path], 10, as_json=False, out=out)
    assert "reads no row of these records: docs/route.md lists the formats\n" in out.getvalue()


def test_a_dry_run_for_programs(tmp_path):
    [line] = shown(tmp_path, as_json=True).splitlines()
    found = json.loads(line)
    assert (found["rows"], found["refused"], len(found["events"])) == (3, 1, 2)
    assert found["events"][1]["metrics"] == {"cpu_v": 1.0}


def test_the_command_shows_a_file_without_kafka(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(METRICS[0]))
    result = CliRunner().invoke(
        app, ["route", "--dry-run", "--file", str(path), "--entity", "{cpu}"]
    )
    assert result.exit_code == 0, result.output
    assert "  cpu0  2023-11-14T22:13:20.000Z  cpu_v=0" in result.output


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        ({}, r"route\.source .* is empty"),
        ({"source": "metrics.cloudwatch.raw"}, "these are three topics"),
        ({"source": "a", "dead_letters": "a"}, "these are three topics"),
    ],
)
def test_topics_that_cannot_work_are_refused_before_any_connection(route, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_source(Settings.model_validate({"route": route}))


def test_a_missing_library_is_named_with_its_extra():
    code = """
import sys
sys.modules["cramjam"] = None
from lapwing.route.formats.choice import open_row_decoder
from shared.errors import ConfigError
from shared.settings import RouteSettings
try:
    open_row_decoder(RouteSettings(format="remote_write"))
except ConfigError as error:
    print(error)
"""
    assert "needs the package cramjam: install lapwing[route]" in run_code(code).stdout
