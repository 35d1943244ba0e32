"""Imports point only downward; what each package may import is read from its source."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.import_rules import DOORS, PACKAGES, ROOMS, ROOT, objections, ours


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


def test_every_room_is_known() -> None:
    folders = {path.parent.name for path in (ROOT / "shared").glob("*/__init__.py")}
    assert folders == {*ROOMS, *DOORS, "kernels", "settings"} - {
        "registry",
        "artifacts",
        "telemetry",
    }


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
    "kafka.engine.confluent.log",
)
SHARED += ("telemetry", "settings", "settings.loading", "retry", "entry")
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
            "from shared.decode.avro.rows import decode",
            "row 1 must not import row 2",
        ),
        (
            "shared.decode.avro.rows",
            "from shared import registry",
            "row 2 must not import row 3",
        ),
        (
            "shared.decode.avro.rows",
            "def f():\n    from shared.kafka.client import Reader",
            "row 2 must not import row 3",
        ),
        (
            "shared.decode.avro.rows",
            "from ...registry import Registry",
            "row 2 must not import row 3",
        ),
        ("shared.decode.avro.rows", "import time", "looks at a clock"),
        ("shared.decode.avro.rows", "from urllib.request import urlopen", "talks to anybody"),
        (
            "shared.decode.avro.rows",
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
        ("shared.retry", "import shared.registry", "doors never import one another"),
        ("shared.registry", "import shared.entry", "doors never import one another"),
        ("shared.scoring.state", "import shared.retry", "row 2 must not import row 3"),
        (
            "shared.features.vectors",
            "from shared.decode.formats import open_decoder",
            "room features imports no other room",
        ),
        (
            "shared.features.kernels.rolling",
            "from shared.decode.kernels.iso import read_iso",
            "room features imports no other room",
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
        ("producer.service", "import signal", "signal belongs to shared.entry"),
        ("producer.__main__", "import argparse", "argparse belongs to nobody here"),
        (
            "lapwing.demo.command",
            "from tests.reference import rolling",
            "tests belongs to nobody here",
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
        ("shared.decode.avro.rows", "import shared.kernels.wire, shared.events, fastavro, zlib"),
        ("shared.kafka.client", "from shared.kafka.engine.port import x\nimport time"),
        (
            "shared.kafka.engine.confluent.errors",
            "from shared.kafka.engine.confluent.log import LOG\nimport confluent_kafka",
        ),
        ("shared.kafka.engine", "from shared.kafka.engine.confluent import ConfluentEngine"),
        (
            "consumer_training.training",
            "import sklearn, joblib, shared.decode.formats, shared.kafka",
        ),
        ("lapwing.demo.command", "from producer import replay\nimport sharedness, rich"),
        ("shared.registry", "import shared.retry, shared.settings"),
        ("shared.entry", "import shared.retry, shared.telemetry, shared.settings"),
        ("lapwing.__main__", "import os\nos.environ"),
        ("shared.settings.loading", "import os\ndef load_settings():\n    return dict(os.environ)"),
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
