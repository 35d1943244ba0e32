"""A model as bytes: deterministic, and refused with a reason if any part is invalid."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import ArtifactRefused
from shared.events import Detector
from shared.models import artifact_format, npz
from shared.models.artifact_format import decode, digest, encode
from shared.models.model import Model
from tests.support.models import DETECTORS, trained

RESULT = trained(Detector.ISOLATION_FOREST)
FACTS = {"seed": 0, "training": {"rows": 270}}


@pytest.mark.parametrize("detector", DETECTORS)
def test_same_model_same_bytes_same_name(detector: Detector) -> None:
    result = trained(detector)
    first = encode(result.model, FACTS, result.canary)
    # zip members carry times in steps of 2 s
    time.sleep(2.1 if detector is Detector.ISOLATION_FOREST else 0)
    assert encode(result.model, dict(reversed(FACTS.items())), result.canary.copy()) == first
    trained.cache_clear()
    again = trained(detector)
    assert again is not result
    assert encode(again.model, FACTS, again.canary) == first


def test_facts_may_not_take_the_manifests_own_names() -> None:
    with pytest.raises(ValueError, match="facts redefine entries of the manifest: threshold"):
        encode(RESULT.model, {"threshold": 1.0}, RESULT.canary)


@pytest.mark.parametrize("detector", DETECTORS)
def test_bit_flipped_anywhere_is_refused(detector: Detector) -> None:
    result = trained(detector)
    manifest, arrays = encode(result.model, FACTS, result.canary)
    name = digest(manifest)
    decode(name, manifest, arrays)
    random = np.random.default_rng(0)
    for which, content in (("manifest.json", manifest), ("model.npz", arrays)):
        for place in random.integers(0, len(content), 120):
            damaged = bytearray(content)
            damaged[place] ^= 1 << random.integers(8)
            parts = (
                (bytes(damaged), arrays) if which == "manifest.json" else (manifest, bytes(damaged))
            )
            with pytest.raises(ArtifactRefused, match=f"^{which}: digest"):
                decode(name, *parts)


def forged(
    change: Callable[[dict[str, Any], dict[str, np.ndarray]], None],
    detector: Detector = Detector.ISOLATION_FOREST,
) -> Model:
    """Decode a model whose digests are right but whose content somebody has changed."""
    result = trained(detector)
    manifest, arrays = encode(result.model, FACTS, result.canary)
    facts = json.loads(manifest)
    with np.load(io.BytesIO(arrays)) as members:
        content = dict(members)
    change(facts, content)
    data = facts.pop("_data", None) or npz.write(content)
    if "arrays" in facts and facts["arrays"] == json.loads(manifest)["arrays"]:
        facts["arrays"] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    text = json.dumps(facts).encode()
    return decode(digest(text), text, data)


def test_forging_without_a_change_is_accepted() -> None:
    for detector in DETECTORS:
        forged(lambda facts, arrays: None, detector)


def put(
    name: str, place: Any, value: float
) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    def change(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


def swap(
    name: str, made: Callable[[np.ndarray], np.ndarray]
) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    return lambda facts, arrays: arrays.update({name: made(arrays[name])})


def fact(**changes: Any) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    return lambda facts, arrays: facts.update(changes)


def pickled(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """An npz that an unpickler would run."""

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, ("/tmp/lapwing-must-never-exist",)

    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([Bomb()], object), version=(1, 0), allow_pickle=True)
    facts["_data"] = zipped(members_of(arrays) | {"calibration.npy": member.getvalue()})


def compressed(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    facts["_data"] = target.getvalue()


def bomb_by_header(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """A member whose npy header claims 2 TiB."""
    members, member = members_of(arrays), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "<f8", "fortran_order": False, "shape": (1 << 38,)}
    )
    members["calibration.npy"] = member.getvalue() + bytes(64)
    facts["_data"] = zipped(members)


def bomb_by_zip_sizes(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """A directory that claims a member of 1 GiB in a file of 100 kB."""
    data = bytearray(npz.write(arrays))
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = (1 << 30).to_bytes(4, "little") * 2
    facts["_data"] = bytes(data)


def members_of(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(npz.write(arrays))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def not_a_zip(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    facts["_data"] = pickle.dumps(arrays)


def drop(name: str) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    return lambda facts, arrays: arrays.__delitem__(name)


def add(name: str) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    return lambda facts, arrays: arrays.update({name: np.zeros(3)})


FOREST, SVM = Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM
PEERS, NETWORK = Detector.PEER_GROUPS, Detector.RECONSTRUCTION


@pytest.mark.parametrize(
    ("detector", "change", "reason"),
    [
        (FOREST, fact(format=2), "manifest.json: format"),
        (
            FOREST,
            fact(detector="magic"),
            "manifest.json: detector: 'magic' is none of isolation_forest",
        ),
        (FOREST, fact(detector=[]), "manifest.json: detector"),
        (
            FOREST,
            fact(feature_version=99),
            "manifest.json: feature_version: 99, this code needs",
        ),
        (FOREST, fact(metrics=[]), "manifest.json: metrics"),
        (FOREST, fact(metrics=["cpu", 3]), "manifest.json: metrics"),
        (
            FOREST,
            fact(features=["cpu.value"]),
            "manifest.json: features: .*cpu.value.* this code computes deviation, jump.*train a",
        ),
        (FOREST, fact(threshold="high"), "manifest.json: threshold"),
        (FOREST, fact(threshold=float("nan")), "manifest.json: syntax: NaN is not a number"),
        (FOREST, fact(threshold=float("inf")), "manifest.json: syntax: Infinity is not a number"),
        (FOREST, fact(version=None), "manifest.json: version"),
        (FOREST, fact(arrays=None), "manifest.json: arrays"),
        (FOREST, fact(arrays={}), "manifest.json: arrays: {} is not a size and a digest"),
        (
            FOREST,
            fact(canary_scores=[0.5] * 16),
            "canary_scores: the model scores its canary rows differently",
        ),
        (FOREST, fact(canary_scores=[0.5] * 15), "canary_scores: the model scores"),
        (
            FOREST,
            fact(canary_scores="none"),
            "canary_scores: they are not a list of at most 64 numbers",
        ),
        (
            FOREST,
            fact(detector="one_class_svm"),
            "model.npz: members: they are not the detector's arrays",
        ),
        (FOREST, pickled, r"model.npz: calibration: it has dtype \|O, not <f8"),
        (FOREST, not_a_zip, "model.npz: members: calibration.npy is missing at byte 0"),
        (FOREST, compressed, "model.npz: members: calibration.npy is compressed"),
        (FOREST, bomb_by_header, "model.npz: calibration: shape .* its 64 bytes"),
        (
            FOREST,
            bomb_by_zip_sizes,
            ("model.npz: members: the directory does not agree with the header of calibration"),
        ),
        (FOREST, drop("usual"), "model.npz: members: usual.npy is missing"),
        (FOREST, add("surprise"), "model.npz: members: they are not"),
        (
            FOREST,
            swap("forest.threshold", lambda a: a.astype(np.float64)),
            "forest.threshold: it has dtype <f8, not <f4",
        ),
        (
            FOREST,
            swap("forest.threshold", lambda a: a.astype(">f4")),
            "forest.threshold: it has dtype >f4, not <f4",
        ),
        (
            FOREST,
            swap("canary", np.asfortranarray),
            "canary: it has dtype <f8 in Fortran order",
        ),
        (FOREST, swap("forest.threshold", lambda a: a[:-1]), "model.npz: threshold is float32"),
        (FOREST, put("forest.threshold", 0, np.inf), "model.npz: threshold is not finite"),
        (FOREST, put("forest.feature", 0, 7), "model.npz: feature is outside -1..6"),
        (
            FOREST,
            put("forest.left", 0, 0),
            "model.npz: left: children are not in breadth-first order",
        ),
        (
            FOREST,
            put("forest.left", 0, 10**6),
            "model.npz: left: children are not in breadth-first order",
        ),
        (
            FOREST,
            put("forest.path_length", 0, 1.0),
            "model.npz: a leaf has a threshold, or an inner node a path_length",
        ),
        (FOREST, put("forest.offsets", 0, 1), "model.npz: offsets do not divide"),
        (FOREST, put("forest.denominator", (), 0.0), "model.npz: denominator is 0.0"),
        (
            FOREST,
            swap("forest.denominator", lambda a: a.reshape(1)),
            r"model.npz: forest.denominator: shape \(1,\) does not have 0 dim",
        ),
        (FOREST, put("forest.threshold", 0, -1e9), "canary_scores"),
        (FOREST, put("calibration", 0, 99.0), "model.npz: calibration is not sorted"),
        (FOREST, put("calibration", 0, np.nan), "model.npz: calibration .* not finite"),
        (FOREST, put("usual", 0, np.inf), "model.npz: usual is not finite"),
        (FOREST, swap("usual", lambda a: a[:-1]), "model.npz: usual is float64"),
        (FOREST, put("canary", (0, 0), np.nan), "model.npz: canary: .* not finite"),
        (
            FOREST,
            swap("canary", lambda a: a[:, :-1].copy()),
            r"model.npz: canary: shape \(16, 6\)",
        ),
        (FOREST, swap("canary", lambda a: a[:0]), r"model.npz: canary: shape \(0, 7\)"),
        (
            SVM,
            put("svm.vectors", (0, 0), np.inf),
            "model.npz: vectors or coefficients are not finite",
        ),
        (SVM, put("svm.gamma", (), -1.0), "model.npz: gamma"),
        (SVM, put("svm.rho", (), np.nan), "model.npz: gamma is .* or rho is nan"),
        (SVM, put("svm.rho", (), 1e-9), "canary_scores"),
        (SVM, put("svm.coefficients", 0, 1e-9), "canary_scores"),
        (
            SVM,
            swap("svm.vectors", lambda a: a[:, :-1].copy()),
            "model.npz: the detector takes 6 features",
        ),
        (PEERS, put("peers.spread", (0, 0, 0), 0.0), "model.npz: spread is outside"),
        (PEERS, put("peers.center", (0, 0, 0), np.inf), "model.npz: center is beyond"),
        (PEERS, put("peers.center", (0, 0, 0), np.nan), "model.npz: spread is NaN at other places"),
        (PEERS, put("peers.center", (0, slice(None), 0), 1e-9), "canary_scores"),
        (PEERS, put("peers.group", 0, 7), r"model.npz: group is outside -1..0"),
        (PEERS, put("peers.entities", -1, 0), "model.npz: entities are not increasing"),
        (PEERS, swap("usual", lambda a: np.zeros(7)), r"usual is float64 \(7,\), not .* \(0,\)"),
        (PEERS, put("canary", (0, 0), np.nan), r"canary: .* not finite"),
        (PEERS, put("canary", (0, 2), np.inf), r"canary: .* not finite"),
        (PEERS, fact(metrics=["cpu"]), "takes 4 features, a row has 3"),
        (
            PEERS,
            swap("peers.center", lambda a: a.astype(np.float32)),
            "peers.center: it has dtype <f4",
        ),
        (NETWORK, put("network.weights", 0, np.nan), "weights is beyond 1000.0, or no number"),
        (NETWORK, put("network.biases", -1, 1e4), "biases is beyond"),
        (NETWORK, put("network.biases", -1, 1e-9), "canary_scores"),
        (NETWORK, put("network.sizes", 1, 1 << 30), r"sizes is outside 1..512"),
        (NETWORK, put("network.sizes", 1, 3), "weights is float64"),
        (NETWORK, put("network.sizes", -1, 1), "sizes do not begin and end with the 2 metrics"),
        (NETWORK, swap("network.sizes", lambda a: a[:1]), "sizes has 1 entries, not 2 to 7"),
        (NETWORK, put("network.linear", (), 2), "linear is 2, not 0 or 1"),
        (NETWORK, put("network.noise", (0, 0), 0.0), "noise is outside"),
        (NETWORK, put("network.spread", (0, 0), np.nan), "spread is NaN at other places"),
        (NETWORK, put("network.spread", (0, 0), 0.0), "spread is outside"),
        (NETWORK, put("network.center", (0, 0), np.inf), "center is beyond"),
        (NETWORK, put("network.entities", -1, 0), "network.entities|entities are not increasing"),
        (NETWORK, swap("network.entities", lambda a: a[:-1]), r"center is float64 \(3, 2\)"),
        (
            SVM,
            fact(detector="isolation_forest"),
            "model.npz: members: they are not the detector's arrays",
        ),
    ],
)
def test_forged_content_is_refused(detector: Detector, change: Any, reason: str) -> None:
    with pytest.raises(ArtifactRefused, match=reason):
        forged(change, detector)


def test_nothing_was_unpickled() -> None:
    assert not Path("/tmp/lapwing-must-never-exist").exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b"null", b'{"format": 1}', b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'],
)
def test_manifest_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(ArtifactRefused, match=r"manifest.json: (syntax|format|detector)"):
        decode(digest(text), text, b"")


def test_manifest_of_too_many_parts_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = artifact_format.MAX_BRACKETS
    within, beyond = (b"[" + b",".join([b"{}"] * count) + b"]" for count in (most - 1, most))
    with pytest.raises(ArtifactRefused, match=r"manifest.json: format"):
        decode(digest(within), within, b"")
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(
        ArtifactRefused, match=r"manifest.json: syntax: more than 65536 lists and objects"
    ):
        decode(digest(beyond), beyond, b"")


def test_manifest_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    big = b" " * (artifact_format.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(ArtifactRefused, match=r"manifest.json: size"):
        decode(digest(big), big, b"")
