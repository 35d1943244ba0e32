"""The lines of docs/output.md: Flink's tables by the schemas, pandas by running them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import schemas
from shared.encode.results import encode_results
from tests.unit.encode.test_json_results import EVENT

PAGE = (Path(__file__).parents[2] / "docs" / "output.md").read_text("utf-8")
TYPES = {
    "string": "STRING",
    "boolean": "BOOLEAN",
    "int": "INT",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
}
NAMES = {
    "anomalies": schemas.ANOMALY_EVENT,
    "incidents": schemas.INCIDENT,
    "scores": schemas.SCORE_EVENT,
}


def flink_type(avro: Any) -> str:
    """Return the type of Flink SQL that Avro's is read as."""
    if isinstance(avro, list):
        (inner,) = [branch for branch in avro if branch != "null"]
        return flink_type(inner).removesuffix(" NOT NULL")
    if isinstance(avro, str):
        return f"{TYPES[avro]} NOT NULL"
    if avro.get("logicalType") == "timestamp-millis":
        return "TIMESTAMP(3) NOT NULL"
    if avro["type"] == "map":
        return f"MAP<STRING NOT NULL, {flink_type(avro['values'])}> NOT NULL"
    if avro["type"] == "array":
        return f"ARRAY<{flink_type(avro['items'])}> NOT NULL"
    inner = ", ".join(f"{one['name']} {flink_type(one['type'])}" for one in avro["fields"])
    return f"ROW<{inner}> NOT NULL"


def columns_of(table: str) -> dict[str, str]:
    """Return name and type of the columns of a table on the page."""
    (body,) = re.findall(rf"CREATE TABLE {table} \((.*?)\n\) WITH", PAGE, re.DOTALL)
    text = re.sub(r"\s+", " ", body).replace("`", "").strip()
    found, depth, part = [], 0, ""
    for sign in text:
        depth += (sign in "<(") - (sign in ">)")
        if sign == "," and depth == 0:
            found.append(part.strip())
            part = ""
        else:
            part += sign
    pairs = (one.split(" ", 1) for one in [*found, part.strip()])
    return {name: kind for name, kind in pairs if name != "WATERMARK"}


@pytest.mark.parametrize("table", NAMES)
def test_flinks_columns_are_fields_of_the_schema_with_their_types(table: str) -> None:
    fields = {one["name"]: one["type"] for one in json.loads(schemas.text(NAMES[table]))["fields"]}
    columns = columns_of(table)
    assert len(columns) > 8
    assert columns == {name: flink_type(fields[name]) for name in columns}


def test_the_lines_for_pandas(capsys: pytest.CaptureFixture[str]) -> None:
    events = [EVENT | {"event_id": f"{k:032x}", "severity": 0.5 + k / 10} for k in range(3)]
    values = list(encode_results(schemas.text(schemas.ANOMALY_EVENT), None, events))
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"values": values}
    exec(compile(lines, "output.md", "exec"), names)
    assert str(names["anomalies"]["event_time"].iloc[0]) == "2023-11-14 22:13:20+00:00"
    assert names["shares"].mean().to_dict() == {"cpu.jump": 0.25, "cpu.value": 0.75}
    assert "0.7" in capsys.readouterr().out
