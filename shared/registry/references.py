"""Schemas that refer to schemas of other subjects, as one text that is complete in itself.

Invariant: the result decodes the same bytes in the same way as the schema with its references; each
named type is defined where it is first used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MOST_REFERENCES = 200
"""Most schemas that one schema refers to, directly or not."""

_NAMED = ("record", "error", "enum", "fixed")
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def inline(text: str, referenced: Sequence[str]) -> str:
    """Return a schema with the types that it takes from other schemas; itself if there are none.

    referenced : texts of the schemas that it refers to, directly or not
    raises     : ValueError where a text is not JSON
    """
    if not referenced:
        return text
    known: dict[str, tuple[Any, str]] = {}
    for other in referenced:
        _collect(json.loads(other), "", known)
    return json.dumps(_Inliner(known).rewrite(json.loads(text), ""), ensure_ascii=False)


def _collect(node: Any, namespace: str, known: dict[str, tuple[Any, str]]) -> None:
    """Add the named types in a schema, with the namespace that surrounds them."""
    if isinstance(node, list):
        for branch in node:
            _collect(branch, namespace, known)
        return
    if not isinstance(node, dict):
        return
    inner = namespace
    if node.get("type") in _NAMED:
        name, inner = _names_of(node, namespace)
        known.setdefault(name, (node, namespace))
    for one in _parts(node):
        _collect(one, inner, known)


class _Inliner:
    """Replaces the first use of each known type by its definition, and later definitions by it."""

    def __init__(self, known: dict[str, tuple[Any, str]]) -> None:
        self._known = known
        self._defined: set[str] = set()

    def rewrite(self, node: Any, namespace: str) -> Any:
        """Return a schema within a namespace."""
        if isinstance(node, str):
            return self._name(node, namespace)
        if isinstance(node, list):
            return [self.rewrite(branch, namespace) for branch in node]
        if not isinstance(node, dict):
            return node
        return self._definition(node, namespace)

    def _name(self, name: str, namespace: str) -> Any:
        if name in _PRIMITIVES:
            return name
        for full in (_full(name, namespace), name):
            if full in self._defined:
                return full
            if full in self._known:
                return self._definition(*self._known[full])
        return name

    def _definition(self, node: dict[str, Any], namespace: str) -> Any:
        kind = node.get("type")
        inner = namespace
        found = dict(node)
        if kind in _NAMED:
            name, inner = _names_of(node, namespace)
            if name in self._defined:
                return name
            self._defined.add(name)
            found |= {"name": name.rpartition(".")[2], "namespace": inner}
        elif isinstance(kind, str | dict | list):
            found["type"] = self.rewrite(kind, inner)
        for part in ("items", "values"):
            if part in node:
                found[part] = self.rewrite(node[part], inner)
        if isinstance(node.get("fields"), list):
            found["fields"] = [self._field(field, inner) for field in node["fields"]]
        return found

    def _field(self, field: Any, namespace: str) -> Any:
        if not isinstance(field, dict) or "type" not in field:
            return field
        return field | {"type": self.rewrite(field["type"], namespace)}


def _parts(node: dict[str, Any]) -> list[Any]:
    """Return the schemas within a type."""
    parts = [node[part] for part in ("items", "values") if part in node]
    if isinstance(node.get("type"), dict | list):
        parts.append(node["type"])
    fields = node.get("fields")
    if isinstance(fields, list):
        parts += [field.get("type") for field in fields if isinstance(field, dict)]
    return parts


def _names_of(node: dict[str, Any], namespace: str) -> tuple[str, str]:
    """Return a named type's full name, and the namespace of what lies in it."""
    own = node["namespace"] if isinstance(node.get("namespace"), str) else namespace
    name = _full(str(node.get("name", "")), own)
    return name, name.rpartition(".")[0]


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
