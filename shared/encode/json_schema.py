"""JSON Schemas of the results, from their Avro schemas: ``python -m shared.encode.json_schema``.

Invariant: a field is described by its Avro schema alone; schemas/json holds what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import schemas

FOLDER = Path(schemas.__file__).parent / "json"


def json_schema(schema_text: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the records of an Avro schema."""
    avro = json.loads(schema_text)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": avro["name"],
        "description": avro.get("doc", ""),
    }
    return head | _described(avro)


def _described(avro: Any) -> dict[str, Any]:
    if isinstance(avro, list):
        branches = [_described(branch) for branch in avro]
        types = [branch.get("type") for branch in branches]
        if all(len(branch) == 1 for branch in branches):
            return {"type": types}
        return {"anyOf": branches}
    if isinstance(avro, str):
        return {"type": _JSON_TYPES[avro]}
    kind = avro["type"]
    if kind == "record":
        fields = {
            field["name"]: {"description": field["doc"]} | _described(field["type"])
            if "doc" in field
            else _described(field["type"])
            for field in avro["fields"]
        }
        return {"type": "object", "properties": fields, "required": list(fields)}
    if kind == "array":
        return {"type": "array", "items": _described(avro["items"])}
    if kind == "map":
        return {"type": "object", "additionalProperties": _described(avro["values"])}
    return _described(kind)


_JSON_TYPES = {
    "null": "null",
    "boolean": "boolean",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "string": "string",
}


def text_of(name: str) -> str:
    """Return the file of a record of ``schemas``."""
    return json.dumps(json_schema(schemas.text(name)), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name in schemas.RESULTS:
        (FOLDER / f"{name}.json").write_text(text_of(name), "utf-8")


if __name__ == "__main__":
    main()
