"""Which module may import which, read from the sources; nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ("producer", "consumer_training", "consumer_prediction", "dashboard")
INNER_SERVICES = ("lapwing.incidents", "lapwing.notify", "lapwing.route")
"""Services that lie within ``lapwing``: like the others, they import neither it nor one another."""

ADAPTERS = ("kafka", "registry", "artifacts", "snapshots")
"""Layer 3: each does I/O with one external system, behind the interfaces of ``shared.ports``."""

OPERATIONS = "shared.operations"
"""Also of layer 3: what runs and monitors a service."""

FOR_ADAPTERS = {f"{OPERATIONS}.{name}" for name in ("retry", "counters", "failpoints", "health")}
"""The modules of it that adapters may import."""

PACKAGES = ("shared", "schemas", "data", *SERVICES, "lapwing")
VOCABULARY = {
    "schemas",
    "data",
    "shared",
    *(f"shared.{name}" for name in ("errors", "events", "batch", "settings", "ports", "anomalies")),
    *(f"shared.{name}" for name in ("columns", "directory", "identity", "labels", "wording")),
    "shared.schema_ids",
}
"""Layer 1: the modules of shared/ itself, and the settings, which everything else may import."""

CORE: dict[str, tuple[str, ...]] = {
    "decode": (),
    "encode": (),
    "features": (),
    "ensemble": (),
    "quality": (),
    "charts": (),
    "incidents": ("encode",),
    "notices": (),
    "models": ("features",),
    "scoring": ("features", "ensemble", "quality", "models"),
}
"""Layer 2: package, with its kernels -> the others that it may import besides the vocabulary."""

FORMATS = ("shared.decode.avro", "shared.decode.json")
"""The input's formats; others get a ``shared.ports.Decoder`` from the module below."""

CHOOSES_FORMAT = "shared.decode.formats"
KNOWS_AVRO = ("producer", "lapwing")
"""The replay writes Avro; the command line shows single records, schemas and their fields."""

OWNERS = {
    "confluent_kafka": (
        "shared.kafka.engine.confluent",
        "shared.kafka.engine.native",
        "shared.registry",
        "lapwing.embedded.broker",
    ),
    "cryptography": ("shared.models.signatures", "shared.artifacts"),
    "joblib": ("consumer_training",),
    "sklearn": ("consumer_training",),
    "matplotlib": (),
    "prometheus_client": ("shared.operations.telemetry",),
    "typer": (
        "lapwing",
        "shared.operations.entry",
        "producer.options",
        *(f"{name}.__main__" for name in SERVICES),
    ),
    "argparse": (),
    "orjson": (
        "dashboard.routes.answers",
        "lapwing.export",
        "lapwing.route.formats",
        "shared.encode",
    ),
    "google.protobuf": ("lapwing.route.formats",),
    "opentelemetry": ("lapwing.route.formats",),
    "cramjam": ("lapwing.route.formats",),
    "signal": (
        "shared.operations.entry",
        "lapwing.demo",
        "consumer_prediction.__main__",
        "lapwing.incidents.__main__",
        "lapwing.route.__main__",
    ),
    "tests": (),
    "benchmarks": (),
}
"""Outside library -> the modules (with what lies below them) that may import it."""

ENGINES = "shared.kafka.engine"
"""Only this package imports the clients in it; others import its own modules."""

SHARED_BY_CLIENTS = ("port", "codes", "properties", "librdkafka")
"""Its own modules, which every client may import."""

ENTRY_POINTS = ("lapwing.commands.demo",)
"""Modules that may read the environment, beside every ``__main__``."""

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
"""Layers 0 to 2 have no I/O, no waits, no randomness and no clock."""


@dataclass(frozen=True)
class Import:
    """``name`` is a module, or a module and what is taken from it."""

    name: str
    line: int
    for_types: bool = False


def layer_of(module: str) -> int:
    top, _, rest = module.partition(".")
    if any(_is_in(module, service) for service in INNER_SERVICES):
        return 4
    if top == "lapwing":
        return 5
    if top in SERVICES:
        return 4
    if rest.partition(".")[0] in ADAPTERS or _is_in(module, OPERATIONS):
        return 3
    if top == "shared" and "kernels" in rest.split("."):
        return 0
    return 1 if part_of(module) in VOCABULARY or top in ("schemas", "data") else 2


def part_of(module: str) -> str:
    """Return a module's package: shared.kafka.client -> shared.kafka."""
    for service in INNER_SERVICES:
        if _is_in(module, service):
            return service
    return (
        ".".join(module.split(".")[:2])
        if module.startswith("shared.")
        else module.partition(".")[0]
    )


def core_package_of(module: str) -> str | None:
    """Return the package of layer 2 that a module or its kernels belong to; None for others."""
    parts = module.split(".")
    return parts[1] if parts[0] == "shared" and len(parts) > 1 and parts[1] in CORE else None


def imports_of(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    """Yield every import, also in functions and through importlib with a constant name."""
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
            yield Import(_constant_part(node.args[0]) if node.args else "?", node.lineno)


def _constant_part(name: ast.expr) -> str:
    """Return the constant part of a name: "a.b" for "a.b" and for f"a.b.{c}"; "?" if none."""
    if isinstance(name, ast.JoinedStr) and name.values:
        name = name.values[0]
    return str(name.value).rstrip(".") if isinstance(name, ast.Constant) else "?"


def environment_reads(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield enclosing function ("" at the top) and line of every access to the environment."""

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
    """Return the module of this project that an import loads; None for any other."""
    while name:
        if name in modules:
            return name
        name = name.rpartition(".")[0]
    return None


def violations(modules: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return one sentence for each import that is not allowed.

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
            violation = _inside(module, target) if target else _outside(module, one.name)
            if violation:
                found.append(f"{module}:{one.line}: imports {one.name}: {violation}")
        for function, line in environment_reads(tree):
            if not (
                module.endswith(".__main__")
                or module in ENTRY_POINTS
                or (module == "shared.settings.loading" and function == "load_settings")
            ):
                found.append(
                    f"{module}:{line}: reads the environment: only entry points and"
                    " load_settings may"
                )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circular imports: {' -> '.join(error.args[1])}")
    return found


def _inside(module: str, target: str) -> str | None:
    here, there = layer_of(module), layer_of(target)
    client = _client_of(target)
    if client and module != ENGINES and _client_of(module) != client:
        return f"only {ENGINES} chooses a client"
    is_inner = target == "lapwing" and _is_in(module, "lapwing")
    is_own = target == "shared" or is_inner or part_of(module) == part_of(target)
    if there > here and not is_own:
        return f"layer {here} must not import layer {there}"
    for one in FORMATS:
        if _is_in(target, one) and not _may_know(module, one):
            return f"a format is chosen in {CHOOSES_FORMAT}; others have a Decoder"
    if is_own:
        return None
    package, other = core_package_of(module), core_package_of(target)
    if package and other and other not in CORE[package]:
        return f"{package} may import {', '.join(CORE[package]) or 'no other package of layer 2'}"
    if here == there == 3 and target not in FOR_ADAPTERS:
        return "adapters never import one another"
    if here == there == 4:
        return "services never import one another"
    return None


def _is_in(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def _may_know(module: str, input_format: str) -> bool:
    return (
        _is_in(module, input_format)
        or module == CHOOSES_FORMAT
        or module.partition(".")[0] in KNOWS_AVRO
    )


def _client_of(module: str) -> str | None:
    """The Kafka client whose package a module is or lies in."""
    name = module.removeprefix(f"{ENGINES}.").partition(".")[0]
    inside = module.startswith(f"{ENGINES}.") and name not in SHARED_BY_CLIENTS
    return name if inside else None


def _outside(module: str, name: str) -> str | None:
    library = name.partition(".")[0]
    layer = layer_of(module)
    if library in PACKAGES:
        return "there is no such module"
    if library in OWNERS and not any(
        module == owner or module.startswith(f"{owner}.") for owner in OWNERS[library]
    ):
        return f"{library} belongs to {', '.join(OWNERS[library]) or 'no module'}"
    if layer == 0 and not module.endswith("__main__") and library not in IN_KERNELS:
        return "kernels know numpy and numba only"
    if layer in (1, 2) and library in IMPURE:
        return f"layer {layer} has no I/O, no waits, no randomness and no clock"
    if library == "?":
        return "a module's name must be a constant"
    return None


def project_modules(root: Path = ROOT) -> tuple[dict[str, str], frozenset[str]]:
    """Return the source of every module by dotted name, and which of them are packages."""
    modules, packages = {}, set()
    for top in PACKAGES:
        for path in sorted((root / top).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if name.endswith(".__init__"):
                name = name.removesuffix(".__init__")
                packages.add(name)
            modules[name] = path.read_text("utf-8")
    return modules, frozenset(packages)
