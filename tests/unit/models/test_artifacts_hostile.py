"""Hostile artefacts: special files, false manifests, lack of memory. All are refused at once."""

from __future__ import annotations

import json
import os
import random
import socket
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared import artifacts
from shared.artifacts import volume
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError
from shared.events import Detector
from shared.models import artifact_format, npz
from shared.models.artifact_format import MAX_MANIFEST_BYTES, digest
from shared.models.model import Model, Svm
from shared.models.signatures import Trust
from shared.settings import DEFAULT_MODEL_BYTES
from tests.fuzz.fuzz_damages import FORGED, repaired
from tests.support.models import DETECTORS, trained

SPARSE_BYTES = 600 << 20


def publish(folder: Path, detector: Detector = Detector.ISOLATION_FOREST, **limits: int) -> Model:
    result = trained(detector)
    return artifacts.publish(folder, result.model, {"seed": 0}, result.canary, **limits)


def forge(folder: Path, change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> str:
    """Publish a model whose digests somebody has repaired after a change; return its name."""
    model = publish(folder)
    manifest, arrays = change(
        *((folder / model.sha256 / name).read_bytes() for name in ("manifest.json", "model.npz"))
    )
    target = folder / digest(manifest)
    target.mkdir(exist_ok=True)
    (target / "manifest.json").write_bytes(manifest)
    (target / "model.npz").write_bytes(arrays)
    return target.name


def with_facts(**facts: object) -> Callable[[bytes, bytes], tuple[bytes, bytes]]:
    return lambda manifest, arrays: (json.dumps(json.loads(manifest) | facts).encode(), arrays)


def unix_socket(path: Path) -> None:
    short = os.open(path.parent, os.O_RDONLY)  # the address has room for a hundred bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{short}/{path.name}")
    finally:
        os.close(short)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, SPARSE_BYTES)


NOT_FILES = {
    "pipe": (lambda path: os.mkfifo(path), "it is not a regular file"),
    "folder": (lambda path: path.mkdir(), "it is not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
    "socket": (unix_socket, "it cannot be read"),
    "link to itself": (lambda path: path.symlink_to(path), "it cannot be read"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", NOT_FILES)
@pytest.mark.parametrize("name", ["CURRENT", "manifest.json", "model.npz"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, what: str) -> None:
    model = publish(tmp_path)
    make, message = NOT_FILES[what]
    path = tmp_path / name if name == "CURRENT" else tmp_path / model.sha256 / name
    path.unlink()
    make(path)
    handles = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(ArtifactRefused, match=f"{name}: {message}"):
            (
                artifacts.current(tmp_path)
                if name == "CURRENT"
                else artifacts.load(tmp_path, model.sha256)
            )
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    model = publish(tmp_path)
    for path in (tmp_path / "CURRENT", tmp_path / model.sha256 / "model.npz"):
        path.rename(tmp_path / f"real-{path.name}")
        path.symlink_to(tmp_path / f"real-{path.name}")
    assert artifacts.load(tmp_path, artifacts.current(tmp_path) or "").sha256 == model.sha256


def test_folder_that_cannot_be_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", fail)
    with pytest.raises(ArtifactRefused, match=r"it cannot be accessed: .*denied"):
        artifacts.load(tmp_path, "0" * 64)


@pytest.mark.parametrize("name", ["manifest.json", "model.npz"])
def test_file_of_another_size_is_not_read(tmp_path: Path, name: str) -> None:
    model = publish(tmp_path)
    sparse(tmp_path / model.sha256 / name)
    tracemalloc.start()
    try:
        with pytest.raises(
            ArtifactRefused, match=r"629145600 bytes, the manifest says|larger than 2097152 bytes"
        ):
            artifacts.load(tmp_path, model.sha256)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_MANIFEST_BYTES
    finally:
        tracemalloc.stop()


def test_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = publish(tmp_path)
    check = volume.check_file

    def truncate(about: os.stat_result, name: str, limit: int, exactly: bool) -> None:
        check(about, name, limit, exactly)
        if name == "model.npz":
            os.truncate(tmp_path / model.sha256 / name, 100)

    monkeypatch.setattr(volume, "check_file", truncate)
    with pytest.raises(ArtifactRefused, match=r"model.npz: its size changed while it was read"):
        artifacts.load(tmp_path, model.sha256)


def test_memory_that_is_not_there_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = publish(tmp_path)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(npz, "read", full)
    with pytest.raises(ArtifactRefused, match=f"{model.sha256}: not enough memory to load it"):
        artifacts.load(tmp_path, model.sha256)


# -- sizes -----------------------------------------------------------------------------------------


def test_model_beyond_the_setting_is_neither_published_nor_loaded(tmp_path: Path) -> None:
    model = publish(tmp_path)
    size_bytes = (tmp_path / model.sha256 / "model.npz").stat().st_size
    with pytest.raises(
        ArtifactRefused, match=f"have {size_bytes} bytes, models.max_bytes allows {size_bytes - 1}"
    ):
        artifacts.load(tmp_path, model.sha256, Trust(size_bytes - 1))
    artifacts.load(tmp_path, model.sha256, Trust(size_bytes))
    with pytest.raises(
        ConfigError,
        match=rf"models.max_bytes allows {size_bytes - 1} bytes, .* has {size_bytes}: .*train.samp",
    ):
        publish(tmp_path / "other", max_bytes=size_bytes - 1)
    assert not (tmp_path / "other").exists()
    publish(tmp_path / "other", max_bytes=size_bytes)


@pytest.mark.parametrize("stated", [SPARSE_BYTES, -1, 10**300, True, 1e9, None, "1"])
def test_stated_size_that_is_none_is_refused(tmp_path: Path, stated: object) -> None:
    name = forge(tmp_path, with_facts(arrays={"sha256": "0" * 64, "size_bytes": stated}))
    (tmp_path / name / "model.npz").unlink()  # nobody gets so far as to miss it
    with pytest.raises(ArtifactRefused, match=r"manifest.json: arrays: "):
        artifacts.load(tmp_path, name)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"version": "\ud800"}, "version: "),
        ({"version": "x" * 500_000}, "version: "),
        ({"version": "2024-01-01T00:00:00Z\n"}, "version: "),
        ({"version": [[[[[[[[]]]]]]]]}, "version: .* has the wrong type"),
        ({"metrics": []}, "metrics: "),
        ({"metrics": [""] * 10_000, "features": [""] * 50_003}, "features: "),
        ({"canary_scores": [0.5] * 65}, "canary_scores: "),
        ({"threshold": 1e999}, "syntax: Infinity"),
    ],
)
def test_facts_that_could_not_be_logged_or_take_for_ever_are_refused(
    tmp_path: Path, facts: dict[str, object], message: str
) -> None:
    with pytest.raises(ArtifactRefused, match=rf"manifest.json: {message}") as caught:
        artifacts.load(tmp_path, forge(tmp_path, with_facts(**facts)))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("metric", ["\ud800", "a\nb", "m" * 1025])
def test_metric_that_could_not_be_written_is_refused(tmp_path: Path, metric: str) -> None:
    name = forge(tmp_path, with_facts(metrics=[metric, "network"]))
    with pytest.raises(ArtifactRefused, match=r"manifest.json: metrics: a name is longer"):
        artifacts.load(tmp_path, name)


def test_deepest_json_ends_nothing(tmp_path: Path) -> None:
    """JSON nested up to the parser's limit is refused by the parser or by the check after it."""

    def deep(depth: int, manifest: bytes, arrays: bytes) -> tuple[bytes, bytes]:
        nested = b'"detector": ' + b"[" * depth + b"]" * depth
        return manifest.replace(b'"detector": "isolation_forest"', nested), arrays

    message = set()
    for depth in (*range(700, 1000, 7), 100_000):
        name = forge(tmp_path, partial(deep, depth))
        with pytest.raises(ArtifactRefused, match=r"manifest.json: (syntax|detector)") as caught:
            artifacts.load(tmp_path, name)
        message.add("detector" in str(caught.value))
    assert message == {False, True}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"canary": np.zeros((65, 7))}, "canary: shape"),
        ({"calibration": np.zeros(5000)}, "calibration does not have 33 to 4096 entries"),
        ({"calibration": np.full(40, 1e300)}, "calibration does not have"),
        ({"usual": np.zeros(1_000_000)}, "usual is float64"),
        ({"forest.offsets": np.zeros(1002, np.int64)}, "offsets do not divide"),
        ({"calibration": np.array(1.0)}, r"shape \(\) does not have 1 dim"),
    ],
)
def test_arrays_that_would_take_too_much_are_refused(
    tmp_path: Path, changed: dict[str, np.ndarray], message: str
) -> None:
    def change(manifest: bytes, arrays: bytes) -> tuple[bytes, bytes]:
        layout = artifact_format._COMMON | artifact_format._MEMBERS[Detector.ISOLATION_FOREST]
        return repaired(manifest, npz.write(npz.read(arrays, layout) | changed))

    with pytest.raises(ArtifactRefused, match=f"model.npz: .*{message}"):
        artifacts.load(tmp_path, forge(tmp_path, change))


@pytest.mark.parametrize("coefficient", [1e101, 1e308])
def test_scores_that_are_no_numbers_are_impossible(tmp_path: Path, coefficient: float) -> None:
    member = trained(Detector.ONE_CLASS_SVM).model.member
    assert isinstance(member, Svm)
    with pytest.raises(ValueError, match="coefficients and rho allow scores beyond"):
        replace(member, coefficients=np.full(len(member.coefficients), coefficient))


@pytest.mark.parametrize("detector", DETECTORS)
def test_loading_takes_a_few_times_the_arrays(tmp_path: Path, detector: Detector) -> None:
    model = publish(tmp_path, detector)
    size_bytes = (tmp_path / model.sha256 / "model.npz").stat().st_size
    tracemalloc.start()
    try:
        artifacts.load(tmp_path, model.sha256)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5 * size_bytes + (1 << 20)


def test_fuzzer_reaches_the_largest_allowed() -> None:
    result = trained(Detector.ISOLATION_FOREST)
    manifest, arrays = artifact_format.encode(result.model, {}, result.canary)
    sizes = [
        len(FORGED["as large as allowed"](manifest, arrays, random.Random(seed))[1])
        for seed in range(2)
    ]
    assert all(DEFAULT_MODEL_BYTES * 0.9 < size <= DEFAULT_MODEL_BYTES for size in sizes)


def test_absent_signature_is_not_missed_without_keys(tmp_path: Path) -> None:
    model = publish(tmp_path)
    assert not (tmp_path / model.sha256 / "manifest.sig").exists()
    with pytest.raises(ArtifactMissing):
        artifacts.load(tmp_path, "1" * 64)
    assert artifacts.load(tmp_path, model.sha256).sha256 == model.sha256
