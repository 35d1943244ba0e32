"""Prints a map of the code: packages with modules and lines, imports between them, floors.

Usage: ``python -m tests.support.module_map [ROOT]``; ROOT is another checkout, e.g. an older one.

A part is a package of ``shared/``, a service or ``lapwing``; the modules directly in ``shared/``
are one part each. An arrow is an import from one part into another, imports for types excepted.
The floor of a part is the longest chain of arrows below it; parts in a circle share a floor.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.import_rules import ROOT, imports_of, part_of, project_modules, target_of

Graph = Mapping[str, set[str]]


def arrows(modules: Mapping[str, str], packages: frozenset[str]) -> dict[str, set[str]]:
    """Return the parts that each part imports.

    modules  : dotted name -> source text
    packages : those of the names that are packages
    """
    graph: dict[str, set[str]] = {part_of(module): set() for module in modules}
    for module, text in modules.items():
        for one in imports_of(ast.parse(text), module, module in packages):
            target = target_of(one.name, modules)
            if target and not one.for_types and part_of(target) != part_of(module):
                graph[part_of(module)].add(part_of(target))
    return graph


def floors(graph: Graph) -> dict[str, int]:
    """Return the floor of each part, 0 = it imports no other part."""
    below = {part: _reachable(graph, part) for part in graph}
    circles = {part: {other for other in below[part] if part in below[other]} for part in graph}
    found: dict[str, int] = {}
    for part in sorted(graph, key=lambda name: len(below[name] - circles[name])):
        lower = [found[other] for other in below[part] - circles[part] - {part}]
        found[part] = max(lower, default=-1) + 1
    return found


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - seen
        seen |= new
        left += new
    return seen


def _folder_lines(modules: Mapping[str, str], packages: frozenset[str]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for module, text in modules.items():
        folder = module if module in packages else module.rpartition(".")[0] or module
        counts[folder] += 1
        lines[folder] += text.count("\n")
    for folder in sorted(counts):
        depth = folder.count(".")
        name = "  " * depth + folder.rpartition(".")[2] + "/"
        yield f"{name:<30}{counts[folder]:>4} modules {lines[folder]:>6} lines"
    yield f"{'all':<30}{counts.total():>4} modules {lines.total():>6} lines"


def to_text(modules: Mapping[str, str], packages: frozenset[str]) -> str:
    """Return the whole map as text."""
    graph = arrows(modules, packages)
    by_part = floors(graph)
    height = max(by_part.values()) + 1
    count = sum(map(len, graph.values()))
    inner = {name: targets for name, targets in graph.items() if name.startswith("shared")}
    inner_count = sum(len(targets & set(inner)) for targets in inner.values())
    text = [*_folder_lines(modules, packages), ""]
    text.append(f"{len(graph)} parts, {count} arrows, {height} floors")
    text.append(f"in shared/: {len(inner)} parts, {inner_count} arrows")
    for floor in reversed(range(height)):
        text += ["", f"floor {floor}"]
        for part in sorted(name for name in graph if by_part[name] == floor):
            text.append(f"  {part} -> {', '.join(sorted(graph[part])) or 'nothing'}")
    return "\n".join(text)


def main(arguments: list[str]) -> None:
    """Print the map of this checkout, or of the one that is named."""
    root = Path(arguments[0]) if arguments else ROOT
    print(to_text(*project_modules(root)))


if __name__ == "__main__":
    main(sys.argv[1:])
