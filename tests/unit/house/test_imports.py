"""Imports point only downward; what each package may import is read from its source, nothing is
run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVICES = ("producer", "consumer_training", "consumer_prediction", "dashboard")
DOORS = ("kafka", "registry", "artifacts", "snapshots", "telemetry")
PACKAGES = ("shared", "schemas", "data", *SERVICES, "lapwing")
WORDS = {
    "schemas",
    "data",
    "shared",
    *(
        f"shared.{name}"
        for name in ("errors", "events", "batch", "settings", "ports", "counters", "failpoints")
    ),
    *(f"shared.{name}" for name in ("directory", "health", "labels", "wording")),
}
"""The vocabulary: flat files in shared/ that everybody may use."""

OWNERS = {
    "confluent_kafka": (
        "shared.kafka.engine.confluent",
        "shared.registry",
        "lapwing.embedded.broker",
    ),
    "cryptography": ("shared.models.signatures", "shared.artifacts"),
    "joblib": ("consumer_training",),
    "sklearn": ("consumer_training",),
    "matplotlib": ("consumer_training",),
    "prometheus_client": ("shared.telemetry",),
    "typer": ("lapwing",),
    "tests": (),
    "benchmarks": (),
}
"""Outside library -> the modules (with what lies below them) that may import it."""

ENGINES = "shared.kafka.engine"
"""The clients under it are known to itself alone; everybody else knows what is flat in it."""

ENTRY_POINTS = ("lapwing.app",)
"""Beside every ``__main__``: these may look at the environment."""

DYNAMIC = ("importlib.import_module", "import_module", "__import__")
IN_KERNELS = {"__future__", "collections", "math", "numba", "numpy", "typing"}
IMPURE = {
    "asyncio",
    "ctypes",
    "http",
    "httpx",
    "logging",
    "multiprocessing",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
}
IMPURE |= {"structlog", "subprocess", "tempfile", "threading", "time", "urllib", "uuid"}
"""Rows 0 to 2 neither wait, nor talk to anybody, nor throw dice, nor look at a clock."""


@dataclass(frozen=True)
class Import:
    """``name`` is a module, or a module and what is taken from it."""

    name: str
    line: int
    for_types: bool = False


def row_of(module: str) -> int:
    top, _, rest = module.partition(".")
    if top == "lapwing":
        return 5
    if top in SERVICES:
        return 4
    if rest.partition(".")[0] in DOORS:
        return 3
    if top == "shared" and "kernels" in rest.split("."):
        return 0
    return 1 if module in WORDS or top in ("schemas", "data") else 2


def part_of(module: str) -> str:
    """The door or service that a module belongs to: shared.kafka.client -> shared.kafka,
    producer.replay -> producer.
    """
    return (
        ".".join(module.split(".")[:2])
        if module.startswith("shared.")
        else module.partition(".")[0]
    )


def imports_of(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    """Every import wherever it stands, also importlib's with a name written out."""
    checks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    for_types = {inner for node in checks for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, node in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base]).rstrip(".")
            yield from (
                Import(f"{base}.{alias.name}", node.lineno, node in for_types)
                for alias in node.names
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            yield Import(_written_out(node.args[0]) if node.args else "?", node.lineno)


def _written_out(name: ast.expr) -> str:
    """The name as far as it can be read: "a.b" of "a.b" and of f"a.b.{c}"; "?" where nothing can."""
    if isinstance(name, ast.JoinedStr) and name.values:
        name = name.values[0]
    return str(name.value).rstrip(".") if isinstance(name, ast.Constant) else "?"


def environment_reads(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name of the enclosing function ("" at the top) and line of every look at the process
    environment.
    """

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "os.environ",
            "os.environb",
            "os.getenv",
            "os.putenv",
        ):
            yield function, node.lineno
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        ):
            yield function, node.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(tree, "")


def target_of(name: str, modules: Mapping[str, str]) -> str | None:
    """The module of ours that an import loads; None if it is not ours."""
    while name:
        if name in modules:
            return name
        name = name.rpartition(".")[0]
    return None


def objections(modules: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return one sentence for each import that the house does not allow.

    modules  : dotted name -> source text
    packages : those of the names that are packages (their ``__init__``)
    """
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, text in modules.items():
        tree = ast.parse(text)
        for one in imports_of(tree, module, module in packages):
            target = target_of(one.name, modules)
            if target and target != module and not one.for_types:
                graph.setdefault(module, set()).add(target)
            complaint = _inside(module, target) if target else _outside(module, one.name)
            if complaint:
                found.append(f"{module}:{one.line}: imports {one.name}: {complaint}")
        for function, line in environment_reads(tree):
            if not (
                module.endswith(".__main__")
                or module in ENTRY_POINTS
                or (module == "shared.settings" and function == "load_settings")
            ):
                found.append(
                    f"{module}:{line}: reads the environment: only entry points and"
                    " load_settings may"
                )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"modules import one another in a circle: {' -> '.join(error.args[1])}")
    return found


def _inside(module: str, target: str) -> str | None:
    here, there = row_of(module), row_of(target)
    client = _client_of(target)
    if client and module != ENGINES and _client_of(module) != client:
        return f"only {ENGINES} chooses a client"
    if target == "shared" or part_of(module) == part_of(target):
        return None
    if there > here:
        return f"row {here} must not import row {there}"
    if here == there == 3:
        return "doors never import one another"
    if here == there == 4:
        return "services never import one another"
    return None


def _client_of(module: str) -> str | None:
    """The Kafka client whose package a module is or lies in."""
    name = module.removeprefix(f"{ENGINES}.").partition(".")[0]
    inside = module.startswith(f"{ENGINES}.") and name not in ("port", "codes", "properties")
    return name if inside else None


def _outside(module: str, name: str) -> str | None:
    library = name.partition(".")[0]
    row = row_of(module)
    if library in PACKAGES:
        return "there is no such module"
    if library in OWNERS and not any(
        module == owner or module.startswith(f"{owner}.") for owner in OWNERS[library]
    ):
        return f"{library} belongs to {', '.join(OWNERS[library]) or 'nobody here'}"
    if row == 0 and not module.endswith("__main__") and library not in IN_KERNELS:
        return "kernels know numpy and numba only"
    if row in (1, 2) and library in IMPURE:
        return (
            f"row {row} neither waits, nor talks to anybody, nor throws dice, nor looks at a clock"
        )
    if library == "?":
        return "a module's name must be readable in the source"
    return None


def ours() -> tuple[dict[str, str], frozenset[str]]:
    modules, packages = {}, set()
    for top in PACKAGES:
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if name.endswith(".__init__"):
                name = name.removesuffix(".__init__")
                packages.add(name)
            modules[name] = path.read_text("utf-8")
    return modules, frozenset(packages)


def test_lapwing_imports_only_downward() -> None:
    modules, packages = ours()
    assert {
        "shared.errors",
        "shared.kernels",
        "producer",
        "consumer_training",
        "consumer_prediction",
        "lapwing",
    } <= set(modules)
    assert objections(modules, packages) == []


def test_every_service_is_known() -> None:
    known = {"tests", "benchmarks", *PACKAGES}
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= known


SHARED = (
    "kernels",
    "kernels.wire",
    "events",
    "errors",
    "decode.avro.decoder",
    "registry",
    "kafka",
    "kafka.client",
    "kafka.engine",
    "kafka.engine.port",
    "kafka.engine.confluent",
    "kafka.engine.confluent.errors",
    "kafka.engine.confluent.log",
)
SHARED += ("telemetry", "settings")
INNER = (
    "producer.replay",
    "producer.service",
    "consumer_training.training",
    "lapwing.demo.command",
)
SKELETON = dict.fromkeys([*(f"shared.{name}" for name in SHARED), *PACKAGES, *INNER], "")


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("shared.features.kernels.rolling", "import shared.events", "row 0 must not import row 1"),
        ("shared.features.kernels.rolling", "import scipy", "kernels know numpy and numba only"),
        (
            "shared.errors",
            "from shared.decode.avro.decoder import decode",
            "row 1 must not import row 2",
        ),
        (
            "shared.decode.avro.decoder",
            "from shared import registry",
            "row 2 must not import row 3",
        ),
        (
            "shared.decode.avro.decoder",
            "def f():\n    from shared.kafka.client import Reader",
            "row 2 must not import row 3",
        ),
        (
            "shared.decode.avro.decoder",
            "from ...registry import Registry",
            "row 2 must not import row 3",
        ),
        ("shared.decode.avro.decoder", "import time", "looks at a clock"),
        ("shared.decode.avro.decoder", "from urllib.request import urlopen", "talks to anybody"),
        (
            "shared.decode.avro.decoder",
            "import confluent_kafka.serialization",
            "confluent_kafka belongs to shared.kafka.engine.confluent, shared.registry, lapwing",
        ),
        ("shared.kafka.client", "import confluent_kafka", "belongs to shared.kafka.engine.conf"),
        (
            "shared.kafka.client",
            "from shared.kafka.engine.confluent.errors import client_error",
            "only shared.kafka.engine chooses a client",
        ),
        (
            "shared.kafka.engine.port",
            "from confluent_kafka import KafkaError",
            "belongs to shared.kafka.engine.confluent",
        ),
        (
            "shared.registry",
            "from shared.telemetry import logger",
            "doors never import one another",
        ),
        ("shared.kafka", "import producer.replay", "row 3 must not import row 4"),
        (
            "producer.service",
            "from consumer_training import training",
            "services never import one another",
        ),
        (
            "producer.service",
            "import importlib\nimportlib.import_module('consumer_training.training')",
            "never import one another",
        ),
        (
            "producer.service",
            "import importlib\nimportlib.import_module(name)",
            "be readable in the source",
        ),
        (
            "producer.service",
            "import importlib\nimportlib.import_module(f'{name}.x')",
            "be readable in the source",
        ),
        (
            "producer.service",
            "import importlib\nimportlib.import_module(f'lapwing.{name}')",
            "row 4 must not import row 5",
        ),
        ("producer.service", "import lapwing.demo.command", "row 4 must not import row 5"),
        (
            "producer.service",
            "from sklearn.svm import OneClassSVM",
            "sklearn belongs to consumer_training",
        ),
        ("consumer_prediction.service", "import joblib", "joblib belongs to consumer_training"),
        ("consumer_prediction.service", "import confluent_kafka", "confluent_kafka belongs to"),
        ("lapwing.demo.command", "import confluent_kafka", "confluent_kafka belongs to"),
        (
            "lapwing.demo.command",
            "from tests.reference import rolling",
            "tests belongs to nobody here",
        ),
        ("lapwing.demo.command", "import os\nx = os.environ['A']", "reads the environment"),
        ("lapwing.demo.command", "import os\nos.getenv('A')", "reads the environment"),
        ("lapwing.demo.command", "from os import environ", "reads the environment"),
        (
            "shared.settings",
            "import os\ndef other():\n    return os.environ",
            "reads the environment",
        ),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, said: str) -> None:
    found = objections(SKELETON | {module: source}, frozenset({"shared", "shared.kafka"}))
    assert len(found) == 1
    assert found[0].startswith(f"{module}:")
    assert said in found[0]


def test_a_circle_is_found() -> None:
    modules = {
        "shared.a": "import shared.b",
        "shared.b": "def f():\n    from shared.c import x",
        "shared.c": "import shared.a",
    }
    assert (
        len([one for one in objections(modules) if "in a circle" in one and "shared.b" in one]) == 1
    )


def test_a_circle_for_types_only_is_let_through() -> None:
    assert (
        objections(
            {"shared.a": "if TYPE_CHECKING:\n    import shared.b", "shared.b": "import shared.a"}
        )
        == []
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "shared.models.kernels.forest",
            "import numpy as np\nfrom numba import njit\nfrom shared.kernels.wire import x",
        ),
        ("shared.decode.avro.decoder", "import shared.kernels.wire, shared.events, fastavro, zlib"),
        ("shared.kafka.client", "from shared.kafka.engine.port import x\nimport time"),
        (
            "shared.kafka.engine.confluent.errors",
            "from shared.kafka.engine.confluent.log import LOG\nimport confluent_kafka",
        ),
        ("shared.kafka.engine", "from shared.kafka.engine.confluent import ConfluentEngine"),
        (
            "consumer_training.training",
            "import sklearn, joblib, shared.decode.avro.decoder, shared.kafka",
        ),
        ("lapwing.demo.command", "from producer import replay\nimport sharedness, rich"),
        ("lapwing.__main__", "import os\nos.environ"),
        ("shared.settings", "import os\ndef load_settings():\n    return dict(os.environ)"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert objections(SKELETON | {module: source}) == []


def test_a_predictor_loads_neither_scikit_learn_nor_pandas() -> None:
    """What the sources allow is one thing, what a library brings along another."""
    heavy = ("joblib", "sklearn", "pandas", "matplotlib")
    code = (
        f"import sys, consumer_prediction.service; print([name for name in {heavy} if name in"
        " sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.stdout.strip(), ran.returncode) == ("[]", 0), ran.stderr
