"""The map of the code: arrows between parts, and the floor of each."""

from __future__ import annotations

import subprocess
import sys

from tests.support.import_rules import ROOT, project_modules
from tests.support.module_map import arrows, floors, to_text

MODULES = {
    "shared": "",
    "shared.errors": "",
    "shared.kafka": "from shared.kafka.client import x",
    "shared.kafka.client": "from shared.errors import x\nimport shared.kafka, numpy",
    "shared.scoring": "if TYPE_CHECKING:\n    import shared.kafka",
    "lapwing.app": "def f():\n    import shared.kafka.client, shared.scoring",
}
PACKAGES = frozenset({"shared", "shared.kafka", "shared.scoring"})


def test_arrows_join_parts_and_not_types() -> None:
    assert arrows(MODULES, PACKAGES) == {
        "shared": set(),
        "shared.errors": set(),
        "shared.kafka": {"shared.errors"},
        "shared.scoring": set(),
        "lapwing": {"shared.kafka", "shared.scoring"},
    }


def test_a_floor_is_the_longest_chain_below() -> None:
    assert floors({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"c"}}) == {
        "a": 2, "b": 1, "c": 0, "d": 1,
    }  # fmt: skip
    assert floors({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == {
        "a": 2, "b": 1, "c": 1, "d": 0,
    }  # fmt: skip


def test_the_text_counts_modules_and_lines() -> None:
    text = to_text(MODULES | {"shared.errors": "a\nb\n"}, PACKAGES)
    assert "5 parts, 3 arrows, 3 floors\nin shared/: 4 parts, 1 arrows" in text
    assert "shared/                          2 modules      2 lines" in text
    assert "  lapwing -> shared.kafka, shared.scoring" in text


def test_the_project_has_no_circle_of_parts() -> None:
    graph = arrows(*project_modules())
    levels = floors(graph)
    assert all(levels[target] < levels[part] for part in graph for target in graph[part])


def test_it_runs() -> None:
    command = [sys.executable, "-m", "tests.support.module_map"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "floor 0" in ran.stdout
