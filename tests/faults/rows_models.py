"""Rows about models published while predictors run: many in a row, and one with mixed files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.artifacts import ARRAYS, MANIFEST, current
from shared.artifacts import load as load_model
from shared.errors import ArtifactMissing, ArtifactRefused
from shared.models.artifact_format import encode
from shared.models.model import Model
from tests.faults.predictor import environ_of
from tests.faults.run import Run
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed, point

Floats = npt.NDArray[np.float64]

ROOT = Path(__file__).parents[2]

_PUBLISH = """
import sys, time
from pathlib import Path
import numpy as np
from shared.artifacts import ARRAYS, load, publish

source, target, sha256, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
model = load(source, sha256)
with np.load(source / sha256 / ARRAYS) as arrays:
    canary = arrays["canary"]
for number in range(count):
    print(publish(target, model, {"number": number}, canary).sha256, flush=True)
    time.sleep(0.02)
"""
"""Program that publishes one model again and again, every time as another artefact.

It is a process of its own, so that it can run another version of the product.
"""


@row("models published while predictors run", ci=1)
def models_published(testbed: Testbed, tally: Tally) -> None:
    """A reader sees a whole model at any time; each model applies from its logged offset on."""
    with Run(testbed, LAPWING_PREDICT__MODEL_POLL_S="0.05") as run:
        slot = run.begin("a")
        refused = _publish_and_look(run, int(tally.pick(100, 150, 300)))
        tally.require(
            not refused,
            f"{run.name}: {len(refused)} times a model is refused while it is published:"
            f" {refused[:1]}",
        )
        tally.require(
            not slot.log_count("model refused"),
            f"{run.name}: by the predictor a model is refused\n{run.logs()}",
        )
        mark = run.mark()
        slot.kill()
        run.recovered(mark)
        tally.close(run, may_exit=False)


def _publish_and_look(run: Run, count: int) -> list[str]:
    """Publish from another process while reading CURRENT as fast as possible; return failures."""
    testbed, tree = run.testbed, run.testbed.tree or ROOT
    source, sha256 = testbed.folder / "models", testbed.models[1]
    command = [sys.executable, "-c", _PUBLISH, str(source), str(run.models_dir), sha256, str(count)]
    environ = os.environ | {"PYTHONPATH": str(tree)} | environ_of(testbed.tree)
    refused, newest = [], ""
    with subprocess.Popen(
        command, cwd=tree, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            try:
                found = current(run.models_dir)
                if found and found != newest:
                    load_model(run.models_dir, found)
                    newest = found
            except (ArtifactMissing, ArtifactRefused) as error:
                refused.append(str(error))
        assert process.stdout is not None
        published = process.stdout.read().split()
    run.published.update(published)
    if process.returncode or len(set(published)) != count:
        refused.append(
            f"the publisher ended with {process.returncode} after {len(published)} of {count}"
            " models"
        )
    return refused


def _other_arrays(folder: Path, model: Model, canary: Floats) -> None:
    """Write arrays of another training with the same size and the same canary scores."""
    _, arrays = encode(replace(model, calibration=model.calibration * 0.5), {}, canary)
    assert len(arrays) == (folder / ARRAYS).stat().st_size
    (folder / ARRAYS).write_bytes(arrays)


def _other_manifest(folder: Path, model: Model, canary: Floats) -> None:
    """The manifest is of another training that came to the same arrays."""
    manifest, _ = encode(replace(model, threshold=model.threshold * 0.9), {}, canary)
    (folder / MANIFEST).write_bytes(manifest)


MIX_UPS = (_other_arrays, _other_manifest)


@row("model's files do not belong together", ci=1)
def models_mixed_up(testbed: Testbed, tally: Tally) -> None:
    """All files are readable, but belong to another model than the name; only digests show it."""
    with Run(testbed) as run:
        slot = run.begin("a")
        name = testbed.models[1]
        model = load_model(testbed.folder / "models", name)
        with np.load(testbed.folder / "models" / name / ARRAYS) as arrays:
            canary = arrays["canary"]
        for mix_up in MIX_UPS:
            refused = slot.log_count("model refused")
            scratch = run.folder / "scratch"
            shutil.copytree(testbed.folder / "models" / name, scratch)
            mix_up(scratch, model, canary)
            scratch.rename(run.models_dir / name)
            point(run.models_dir, name)
            run.wait(
                lambda n=refused: slot.log_count("model refused") > n,
                30,
                f"refusing a model with the {mix_up.__name__[1:].replace('_', ' ')}",
            )
            point(run.models_dir, testbed.models[0])
            shutil.rmtree(run.models_dir / name)
        tally.close(run, may_exit=False)
