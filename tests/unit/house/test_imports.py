"""Imports point only downward; what each package may import is read from its source."""

from __future__ import annotations

import pytest

from tests.support.import_rules import ADAPTERS, CORE, PACKAGES, ROOT, project_modules, violations
from tests.support.programs import run_code


def test_lapwing_imports_only_downward() -> None:
    modules, packages = project_modules()
    assert {
        "shared.errors",
        "shared.kernels",
        "producer",
        "consumer_training",
        "consumer_prediction",
        "lapwing",
    } <= set(modules)
    assert violations(modules, packages) == []


def test_every_package_of_shared_is_known() -> None:
    folders = {path.parent.name for path in (ROOT / "shared").glob("*/__init__.py")}
    assert folders == {*CORE, *ADAPTERS, "kernels", "operations", "settings"}


def test_every_service_is_known() -> None:
    known = {"tests", "benchmarks", *PACKAGES}
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= known


SHARED = (
    "kernels",
    "kernels.wire",
    "events",
    "errors",
    "decode.avro.rows",
    "decode.avro.decoder",
    "decode.avro.plan",
    "decode.formats",
    "decode.kernels.iso",
    "registry",
    "kafka",
    "kafka.client",
    "kafka.engine",
    "kafka.engine.port",
    "kafka.engine.confluent",
    "kafka.engine.confluent.errors",
    "kafka.engine.librdkafka",
    "kafka.engine.native",
)
SHARED += ("settings", "settings.loading")
SHARED += ("operations.telemetry", "operations.retry", "operations.entry")
INNER = (
    "lapwing.incidents",
    "lapwing.incidents.incident_loop",
    "producer.replay",
    "producer.service",
    "consumer_training.training",
    "lapwing.demo.command",
)
SKELETON = dict.fromkeys([*(f"shared.{name}" for name in SHARED), *PACKAGES, *INNER], "")


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (
            "shared.features.kernels.rolling",
            "import shared.events",
            "layer 0 must not import layer 1",
        ),
        ("shared.features.kernels.rolling", "import scipy", "kernels know numpy and numba only"),
        (
            "shared.errors",
            "from shared.decode.avro.rows import decode",
            "layer 1 must not import layer 2",
        ),
        (
            "shared.decode.avro.rows",
            "from shared import registry",
            "layer 2 must not import layer 3",
        ),
        (
            "shared.decode.avro.rows",
            "def f():\n    from shared.kafka.client import Reader",
            "layer 2 must not import layer 3",
        ),
        (
            "shared.decode.avro.rows",
            "from ...registry import Registry",
            "layer 2 must not import layer 3",
        ),
        ("shared.decode.avro.rows", "import time", "no clock"),
        ("shared.decode.avro.rows", "from urllib.request import urlopen", "no I/O"),
        (
            "shared.decode.avro.rows",
            "import confluent_kafka.serialization",
            "confluent_kafka belongs to shared.kafka.engine.confluent, shared.kafka.engine.native,",
        ),
        ("shared.kafka.client", "import confluent_kafka", "belongs to shared.kafka.engine.conf"),
        (
            "shared.kafka.client",
            "from shared.kafka.engine.confluent.errors import client_error",
            "only shared.kafka.engine chooses a client",
        ),
        (
            "shared.kafka.engine.native",
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
            "from shared.operations.telemetry import logger",
            "adapters never import one another",
        ),
        ("shared.operations.retry", "import shared.registry", "adapters never import one another"),
        ("shared.registry", "import shared.operations.entry", "adapters never import one another"),
        (
            "shared.scoring.state",
            "import shared.operations.retry",
            "layer 2 must not import layer 3",
        ),
        (
            "shared.features.vectors",
            "from shared.decode.formats import open_decoder",
            "features may import no other package of layer 2",
        ),
        (
            "shared.features.kernels.rolling",
            "from shared.decode.kernels.iso import read_iso",
            "features may import no other package of layer 2",
        ),
        (
            "consumer_training.training",
            "from shared.decode.avro.decoder import AvroDecoder",
            "a format is chosen in shared.decode.formats; others have a Decoder",
        ),
        (
            "shared.decode.gates",
            "from shared.decode.avro.plan import compile_plan",
            "a format is chosen in shared.decode.formats; others have a Decoder",
        ),
        ("shared.kafka", "import producer.replay", "layer 3 must not import layer 4"),
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
            "must be a constant",
        ),
        (
            "producer.service",
            "import importlib\nimportlib.import_module(f'{name}.x')",
            "must be a constant",
        ),
        (
            "producer.service",
            "import importlib\nimportlib.import_module(f'lapwing.{name}')",
            "layer 4 must not import layer 5",
        ),
        ("producer.service", "import lapwing.demo.command", "layer 4 must not import layer 5"),
        (
            "lapwing.incidents.incident_loop",
            "import lapwing.demo.command",
            "layer 4 must not import layer 5",
        ),
        (
            "lapwing.incidents.incident_loop",
            "import consumer_training.training",
            "services never import one another",
        ),
        (
            "producer.service",
            "from sklearn.svm import OneClassSVM",
            "sklearn belongs to consumer_training",
        ),
        ("consumer_prediction.service", "import joblib", "joblib belongs to consumer_training"),
        ("consumer_prediction.service", "import confluent_kafka", "confluent_kafka belongs to"),
        ("lapwing.demo.command", "import confluent_kafka", "confluent_kafka belongs to"),
        ("producer.service", "import signal", "signal belongs to shared.operations.entry"),
        ("producer.__main__", "import argparse", "argparse belongs to no module"),
        (
            "lapwing.demo.command",
            "from tests.reference import rolling",
            "tests belongs to no module",
        ),
        ("lapwing.demo.command", "import os\nx = os.environ['A']", "reads the environment"),
        ("lapwing.demo.command", "import os\nos.getenv('A')", "reads the environment"),
        ("lapwing.demo.command", "from os import environ", "reads the environment"),
        (
            "shared.settings.loading",
            "import os\ndef other():\n    return os.environ",
            "reads the environment",
        ),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, message: str) -> None:
    found = violations(SKELETON | {module: source}, frozenset({"shared", "shared.kafka"}))
    assert len(found) == 1
    assert found[0].startswith(f"{module}:")
    assert message in found[0]


def test_a_circle_is_found() -> None:
    modules = {
        "shared.a": "import shared.b",
        "shared.b": "def f():\n    from shared.c import x",
        "shared.c": "import shared.a",
    }
    assert (
        len([one for one in violations(modules) if "circular imports" in one and "shared.b" in one])
        == 1
    )


def test_a_circle_for_types_only_is_let_through() -> None:
    assert (
        violations(
            {"shared.a": "if TYPE_CHECKING:\n    import shared.b", "shared.b": "import shared.a"}
        )
        == []
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "shared.features.kernels.places",
            "import numpy as np\nfrom numba import njit\nfrom shared.kernels.wire import x",
        ),
        ("shared.decode.avro.rows", "import shared.kernels.wire, shared.events, fastavro, zlib"),
        ("shared.kafka.client", "from shared.kafka.engine.port import x\nimport time"),
        (
            "shared.kafka.engine.confluent.errors",
            "from shared.kafka.engine.librdkafka import LOG\nimport confluent_kafka",
        ),
        ("shared.kafka.engine", "from shared.kafka.engine.confluent import ConfluentEngine"),
        (
            "consumer_training.training",
            "import sklearn, joblib, shared.decode.formats, shared.kafka",
        ),
        ("lapwing.demo.command", "from producer import replay\nimport sharedness, rich"),
        ("shared.registry", "import shared.operations.retry, shared.settings"),
        (
            "shared.operations.entry",
            "import shared.operations.retry, shared.operations.telemetry, shared.settings",
        ),
        ("lapwing.__main__", "import os\nos.environ"),
        ("shared.settings.loading", "import os\ndef load_settings():\n    return dict(os.environ)"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert violations(SKELETON | {module: source}) == []


def test_a_predictor_loads_neither_scikit_learn_nor_pandas() -> None:
    """An imported library could import one of these."""
    heavy = ("joblib", "sklearn", "pandas", "matplotlib")
    code = (
        f"import sys, consumer_prediction.service; print([name for name in {heavy} if name in"
        " sys.modules])"
    )
    ran = run_code(code)
    assert ran.stdout == "[]\n"
