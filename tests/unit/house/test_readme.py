"""The README against the product: commands, options and files exist, its table is current."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
from collections import Counter
from pathlib import Path

import pytest
import yaml

import schemas
from consumer_prediction.outgoing import Encoder, SchemaIds
from lapwing.backtest.feeds import InputOptions, open_feed
from lapwing.tail import to_json, to_line
from producer.files.times import parse_time
from shared.encode.records import decode_records, encode_records
from shared.ensemble.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import load_settings
from shared.settings.names import variable_of

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text("utf-8")

TESTED_BY = {
    "lapwing demo": "tests/integration/test_demo.py",
    "lapwing data fetch": "tests/unit/lapwing/test_cli.py",
    "lapwing topics": "tests/integration/test_readme_commands.py",
    "lapwing produce": "tests/integration/test_readme_commands.py",
    "lapwing train": "tests/integration/test_readme_commands.py",
    "lapwing predict": "tests/integration/test_readme_commands.py",
    "lapwing tail": "tests/integration/test_readme_commands.py",
    "lapwing inspect": "tests/integration/test_readme_commands.py",
    "lapwing doctor": "tests/integration/test_readme_commands.py",
    "lapwing dlq": "tests/unit/lapwing/test_dlq.py",
    "lapwing incidents": "tests/integration/test_incidents.py",
    "lapwing notify": "tests/integration/test_incidents.py",
    "lapwing route": "tests/unit/route/test_route_command.py",
    "lapwing backtest": "tests/unit/lapwing/test_backtest.py",
    "lapwing export": "tests/unit/lapwing/test_export.py",
    "lapwing explain": "tests/integration/test_pipeline.py",
    "lapwing dashboard": "tests/unit/dashboard/test_intake.py",
    "lapwing --set": "tests/unit/lapwing/test_cli.py",
    "lapwing --config": "tests/unit/lapwing/test_cli.py",
    "docker-compose": "tests/compose/test_compose.py",
    "make": ".ci/run",
    "export": "tests/integration/test_readme_commands.py",
}
"""Beginning of a command -> the file that runs commands of this kind."""


def commands():
    """Every line of the shell blocks, and every command in running text."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    spans = re.findall(r"`((?:lapwing|make|docker-compose) [^`]+)`", README)
    return sorted({shlex.join(shlex.split(line, comments=True)) for line in lines + spans})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_run_by_something(command):
    found = [
        file
        for begin, file in TESTED_BY.items()
        if command == begin or command.startswith(f"{begin} ")
    ]
    assert found, f"{command}: nothing runs it"
    assert all((ROOT / file).is_file() for file in found)


def test_the_settings_table_is_current():
    table = runpy.run_path(str(ROOT / "docs" / "settings_table.py"))
    assert table["with_table"](SETTINGS) == SETTINGS, "run `python docs/settings_table.py`"


def test_the_table_of_a_record_is_current():
    table = runpy.run_path(str(ROOT / "docs" / "state_table.py"))
    page = (ROOT / "docs" / "detection.md").read_text("utf-8")
    assert table["with_table"](page) == page, "run `python docs/state_table.py`"
    sizes = Counter[str]()
    for record, _, size in table["rows"]():
        assert size > 0
        sizes[record] += size
    assert sizes == {"metric": METRIC_DTYPE.itemsize, "entity": ENTITY_DTYPE.itemsize}
    assert f"{METRIC_DTYPE.itemsize / 1024:.1f} KiB for each metric" in page
    assert f"{ENTITY_DTYPE.itemsize / 1024:.1f} KiB for an entity" in page


def test_the_tables_of_performance_are_those_of_the_results():
    tables = runpy.run_path(str(ROOT / "docs" / "performance_page.py"))
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert tables["with_tables"](page) == page, "run `python docs/performance_page.py`"
    assert list(tables["RESULTS"].glob("*.json"))
    sizing = (ROOT / "docs" / "sizing.md").read_text("utf-8")
    assert tables["with_plan"](sizing) == sizing, "run `python docs/performance_page.py`"


def test_the_settings_table_names_variables_that_work():
    table = runpy.run_path(str(ROOT / "docs" / "settings_table.py"))
    rows = [
        row
        for row in table["rows"]()
        if row[1] not in ("", "none") and not row[0].startswith("kafka")
    ]
    assert len(rows) > 40
    environ = {variable_of(name): default for name, default, *_ in rows}
    assert load_settings(environ=environ).model_dump() == load_settings(environ={}).model_dump()


def test_services_of_the_compose_file_are_there():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in re.findall(r"--scale (\w+)=", README):
        assert name in services


# -- the record on the first screen ----------------------------------------------------------------


def shown():
    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    return json.loads(block)


def times():
    """The record's times as they lie in the topic."""
    named = ("event_time", "since", "episode_start", "peak_time")
    return {name: parse_time(shown()[name]) for name in named if shown()[name] is not None}


def test_the_record_has_the_fields_of_its_schema():
    schema = json.loads(schemas.text(schemas.ANOMALY_EVENT))
    assert list(shown()) == [field["name"] for field in schema["fields"]]
    record = shown() | times()
    (value,) = (encode_records(json.dumps(schema), 1, [record])[0],)
    assert to_json(decode_records([value], [json.dumps(schema)])[0]) == json.dumps(
        shown(), ensure_ascii=False
    )


def test_the_record_and_its_line_stand_on_the_first_screen():
    top = README.partition("\n## ")[0]
    assert "```json" in top
    assert f"    {to_line('anomalies', shown() | times(), 'host')}\n" in top
    assert {"make demo\nmake test\n", "docker-compose up\n"} <= set(
        re.findall(r"```sh\n(.*?)```", top, re.DOTALL)
    )


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="80,640 records")
def test_the_record_is_what_a_predictor_writes_of_the_generated_fleet():
    """As after `lapwing produce --fleet 20 --days 14 --speed max` into new topics; no model."""
    settings = load_settings(environ={})
    feed = open_feed(
        settings, InputOptions(fleet=20, days=14.0, partitions=settings.topics.partitions)
    )
    rules = Rules(Configuration.from_settings(settings))
    encoder, scorer = (
        Encoder(settings.topics, SchemaIds(1, 2, 3), "g", 65_536),
        Scorer(PartitionState(0), rules),
    )
    found = []
    for batch in feed.batches():
        if batch.partition == shown()["source_partition"]:
            found += scorer.process(batch, feed.decoder).anomalies
    (anomaly,) = (one for one in found if one.event_id == shown()["event_id"])
    (record,) = decode_records(
        [encoder.anomalies([anomaly]).values[0]], [schemas.text(schemas.ANOMALY_EVENT)]
    )
    made = json.loads(to_json(record))
    for name, value in shown().items():
        close = pytest.approx(value, rel=1e-9) if isinstance(value, float | dict) else value
        assert made[name] == close, (
            f"README shows another {name} than {json.dumps(made, ensure_ascii=False)}"
        )
