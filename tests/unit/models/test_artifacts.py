"""Publishing, loading and pruning; every kind of damage is refused with its reason."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared import artifacts
from shared.artifacts import published, volume
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError
from shared.events import Detector
from shared.models import artifact_format
from shared.models.model import Model
from tests.support.models import trained

RESULT = trained(Detector.ISOLATION_FOREST)
FACTS = {"seed": 0, "training": {"rows": 270}}


def publish(folder: Path, detector: Detector = Detector.ISOLATION_FOREST, **facts: Any) -> Model:
    result = trained(detector)
    return artifacts.publish(
        folder, result.model, FACTS | facts, result.canary, {"estimator.joblib": b"for people"}
    )


def test_publish_writes_the_layout(tmp_path: Path) -> None:
    model = publish(tmp_path / "deep" / "models")
    folder = tmp_path / "deep" / "models"
    assert sorted(path.name for path in folder.iterdir()) == sorted([model.sha256, "CURRENT"])
    assert sorted(path.name for path in (folder / model.sha256).iterdir()) == [
        "estimator.joblib",
        "manifest.json",
        "model.npz",
    ]
    assert (folder / "CURRENT").read_text() == model.sha256 + "\n"
    assert artifacts.current(folder) == model.sha256
    text = (folder / model.sha256 / "manifest.json").read_bytes()
    assert hashlib.sha256(text).hexdigest() == model.sha256
    manifest = artifacts.manifest(folder, model.sha256)
    arrays = (folder / model.sha256 / "model.npz").read_bytes()
    assert manifest["arrays"] == {
        "sha256": hashlib.sha256(arrays).hexdigest(),
        "size_bytes": len(arrays),
    }
    assert manifest["training"] == {"rows": 270}
    assert manifest["threshold"] == model.threshold
    assert len(manifest["canary_scores"]) == 16


def test_arrays_can_be_read_by_numpy_alone(tmp_path: Path) -> None:
    model = publish(tmp_path)
    with np.load(tmp_path / model.sha256 / "model.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["forest.threshold"], RESULT.model.member.threshold)
        assert float(arrays["forest.denominator"]) == RESULT.model.member.denominator


def test_same_model_same_name(tmp_path: Path) -> None:
    assert publish(tmp_path / "a").sha256 == publish(tmp_path / "b").sha256


def test_other_facts_other_name(tmp_path: Path) -> None:
    assert publish(tmp_path).sha256 != publish(tmp_path, seed=1).sha256


def test_same_model_again_only_sets_current(tmp_path: Path) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / first.sha256).iterdir()}
    assert artifacts.current(tmp_path) == second.sha256
    publish(tmp_path)
    assert artifacts.current(tmp_path) == first.sha256
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / first.sha256).iterdir()} == before


def test_a_model_is_as_old_as_its_last_publication(tmp_path: Path) -> None:
    assert artifacts.published_s(tmp_path, "ab" * 32) is None
    model = publish(tmp_path)
    os.utime(tmp_path / model.sha256, (1000.0, 1000.0))
    assert artifacts.published_s(tmp_path, model.sha256) == 1000.0
    publish(tmp_path)
    assert abs((artifacts.published_s(tmp_path, model.sha256) or 0.0) - time.time()) < 60


def test_same_model_replaces_a_damaged_folder(tmp_path: Path) -> None:
    model = publish(tmp_path)
    (tmp_path / model.sha256 / "model.npz").write_bytes(b"rotten")
    with pytest.raises(ArtifactRefused):
        artifacts.load(tmp_path, model.sha256)
    publish(tmp_path)
    artifacts.load(tmp_path, model.sha256)


def test_nothing_is_current_before_the_first(tmp_path: Path) -> None:
    assert artifacts.current(tmp_path) is None
    assert artifacts.current(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "text",
    ["", "abc\n", "0" * 63, "G" * 64, "0" * 65, "../" + "0" * 61, "0" * 64 + "\n" + "0" * 64],
)
def test_current_that_is_no_digest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "CURRENT").write_text(text)
    with pytest.raises(ArtifactRefused, match=r"CURRENT: it contains .* not 64 hex digits"):
        artifacts.current(tmp_path)


def test_current_that_is_huge_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_bytes(b"0" * 10_000)
    with pytest.raises(ArtifactRefused, match="larger than 4096 bytes"):
        artifacts.current(tmp_path)
    (tmp_path / "CURRENT").unlink()
    (tmp_path / "CURRENT").mkdir()
    with pytest.raises(ArtifactRefused, match="not a regular file"):
        artifacts.current(tmp_path)


def test_what_is_absent_is_missing_and_not_refused(tmp_path: Path) -> None:
    model = publish(tmp_path)
    with pytest.raises(ArtifactMissing, match="0000 does not exist"):
        artifacts.load(tmp_path, "0" * 64)
    for name in ("model.npz", "manifest.json"):
        path = tmp_path / model.sha256 / name
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(ArtifactMissing, match=f"{name} does not exist"):
            artifacts.load(tmp_path, model.sha256)
        path.write_bytes(content)
    artifacts.load(tmp_path, model.sha256)


def test_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="not an artefact's name"):
        artifacts.load(tmp_path, "../models")


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.npz", "manifest.json"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    model = publish(tmp_path)
    path = tmp_path / model.sha256 / name
    whole = path.read_bytes()
    for size in (0, 1, 22, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactRefused, match=f"{model.sha256}: {name}: (size|digest)"):
            artifacts.load(tmp_path, model.sha256)


def test_manifest_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    model = publish(tmp_path)
    os.truncate(tmp_path / model.sha256 / "manifest.json", artifact_format.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(ArtifactRefused, match=r"manifest.json: it is larger than 2097152 bytes"):
        artifacts.load(tmp_path, model.sha256)


def test_half_written_folder_is_never_seen_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash at any write leaves the last model in place, and the next publishing works."""
    last = publish(tmp_path)
    original, calls = volume.write_file, 0

    class CrashError(BaseException):
        pass

    def failing(at: int) -> Callable[[Path, bytes], None]:
        def write(path: Path, content: bytes) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                original(path, content[: len(content) // 2])
                raise CrashError
            original(path, content)

        return write

    for at in (1, 2, 3, 4):
        calls = 0
        monkeypatch.setattr(volume, "write_file", failing(at))
        with pytest.raises(CrashError):
            publish(tmp_path, seed=at)
        assert artifacts.current(tmp_path) == last.sha256
        artifacts.load(tmp_path, last.sha256)
        whole = [path for path in tmp_path.iterdir() if len(path.name) == 64]
        for folder in whole:
            artifacts.load(tmp_path, folder.name)
    monkeypatch.setattr(volume, "write_file", original)
    model = publish(tmp_path, seed=1)
    assert artifacts.current(tmp_path) == model.sha256


# -- folders ---------------------------------------------------------------------------------------


def test_concurrent_swaps_always_load(tmp_path: Path) -> None:
    first, second = publish(tmp_path), publish(tmp_path, seed=1)
    stop, seen, failures = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                sha256 = artifacts.current(tmp_path)
                seen.add(artifacts.load(tmp_path, sha256 or "").sha256)
            except (ArtifactMissing, ArtifactRefused, OSError) as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(40):
        publish(tmp_path, seed=number % 2)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert seen == {first.sha256, second.sha256}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [first.sha256, second.sha256, "CURRENT"]
    )


def test_two_publishers_of_one_model_do_not_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process renames the same model into place between our look and our rename."""
    original = volume.write_files

    def slow(folder: Path, files: dict[str, bytes]) -> None:
        original(folder, files)
        shutil.copytree(folder, tmp_path / folder.name.split(".")[1])

    monkeypatch.setattr(published, "write_files", slow)
    model = publish(tmp_path)
    artifacts.load(tmp_path, model.sha256)


def test_prune_keeps_the_newest_and_the_current_one(tmp_path: Path) -> None:
    models = [publish(tmp_path, seed=number) for number in range(5)]
    for age, model in enumerate(reversed(models)):
        os.utime(tmp_path / model.sha256, (time.time() - 100 * age,) * 2)
    (tmp_path / "CURRENT").write_text(models[0].sha256 + "\n")
    (tmp_path / "notes.txt").write_text("not ours")
    removed = artifacts.prune(tmp_path, 2)
    assert sorted(removed) == sorted(model.sha256 for model in models[1:3])
    left = {models[0].sha256, models[3].sha256, models[4].sha256, "CURRENT", "notes.txt"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert artifacts.prune(tmp_path, 2) == []


def test_prune_keeps_what_is_in_use(tmp_path: Path) -> None:
    models = [publish(tmp_path, seed=number) for number in range(4)]
    for age, model in enumerate(reversed(models)):
        os.utime(tmp_path / model.sha256, (time.time() - 100 * age,) * 2)
    (tmp_path / "CURRENT").write_text(models[3].sha256 + "\n")
    removed = artifacts.prune(tmp_path, 1, {models[1].sha256, "f" * 64})
    assert sorted(removed) == sorted(model.sha256 for model in (models[0], models[2]))


def test_prune_clears_what_an_interrupted_publishing_left(tmp_path: Path) -> None:
    publish(tmp_path)
    old, fresh = tmp_path / f".{'a' * 64}.abc.tmp", tmp_path / f".{'b' * 64}.abc.tmp"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "model.npz").write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    artifacts.prune(tmp_path, 5)
    assert not old.exists()
    assert fresh.exists()


def test_attach_adds_a_folder_once(tmp_path: Path) -> None:
    model = publish(tmp_path)
    assert artifacts.attach(tmp_path, model.sha256, "report", {"report.json": b"{}"})
    assert not artifacts.attach(tmp_path, model.sha256, "report", {"report.json": b"other"})
    assert (tmp_path / model.sha256 / "report" / "report.json").read_bytes() == b"{}"
    artifacts.load(tmp_path, model.sha256)
    with pytest.raises(ArtifactMissing):
        artifacts.attach(tmp_path, "0" * 64, "report", {})


def test_folder_that_cannot_be_written_names_models_dir(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for call in (
        lambda: artifacts.check_writable(blocked / "models"),
        lambda: publish(blocked / "models"),
    ):
        with pytest.raises(ConfigError, match=f"models_dir {blocked}/models cannot be written"):
            call()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_names_models_dir(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(ConfigError, match="models_dir"):
            artifacts.check_writable(tmp_path)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_disk_that_is_full_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = publish(tmp_path)

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(volume, "write_file", full)
    with pytest.raises(ConfigError, match=r"models_dir .* cannot be written: .*No space left"):
        publish(tmp_path, seed=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([last.sha256, "CURRENT"])
