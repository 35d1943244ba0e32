"""A model as bytes: a JSON manifest, and an npz of plain arrays.

Invariant: pure functions of bytes. Equal models give equal bytes. A model is used only after size,
digest, feature set, structure and canary scores have been checked; nothing is unpickled.

Why a malicious file can neither crash the reader nor fill its memory:
- Bytes read are bounded: the manifest by MAX_MANIFEST_BYTES, the arrays by the size that the
  manifest states, and that by a setting. A file of another size is not read at all.
- Allocations are bounded by bytes read: JSON objects take at most twenty times their text;
  ``shared.models.npz`` makes one copy of each array, and the checks of ``shared.models.model`` work
  on slices. Together this is at most four times the arrays.
- Loops are bounded by array lengths, JSON's recursion by the interpreter, and canary rows by
  MAX_CANARY_ROWS.
- No kernel runs before ``shared.models.model`` has checked every index that it uses.
Error messages have a bounded length. A lack of memory is an error like any other.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from shared.errors import ArtifactRefused
from shared.events import Detector
from shared.features.vectors import FEATURE_NAMES, FEATURE_VERSION, FEATURES
from shared.kernels.trained.peers import FIRST_METRIC
from shared.models import npz
from shared.models.model import Forest, Member, Model, Svm
from shared.models.npz import Arrays
from shared.models.peers import Peers
from shared.models.reconstruction import Reconstruction

FORMAT = 1
MAX_MANIFEST_BYTES = 2 << 20
"""Ten thousand partitions with their offsets take about three quarters of it."""

MAX_BRACKETS = 65_536
"""Most lists and objects, each of which costs many times its text.

Ten thousand partitions have twenty thousand of them.
"""

MAX_CANARY_ROWS = 64
MAX_METRIC_BYTES = 1024
_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

_COMMON = {"calibration": ("<f8", 1), "canary": ("<f8", 2), "usual": ("<f8", 1)}
_MEMBERS: Mapping[Detector, Mapping[str, tuple[str, int]]] = {
    Detector.ISOLATION_FOREST: {
        "forest.denominator": ("<f8", 0),
        "forest.feature": ("<i4", 1),
        "forest.left": ("<i4", 1),
        "forest.offsets": ("<i8", 1),
        "forest.path_length": ("<f8", 1),
        "forest.threshold": ("<f4", 1),
    },
    Detector.ONE_CLASS_SVM: {
        "svm.coefficients": ("<f8", 1),
        "svm.gamma": ("<f8", 0),
        "svm.rho": ("<f8", 0),
        "svm.vectors": ("<f8", 2),
    },
    Detector.PEER_GROUPS: {
        "peers.center": ("<f8", 3),
        "peers.entities": ("<u8", 1),
        "peers.group": ("<i4", 1),
        "peers.spread": ("<f8", 3),
    },
    Detector.RECONSTRUCTION: {
        "network.biases": ("<f8", 1),
        "network.center": ("<f8", 2),
        "network.entities": ("<u8", 1),
        "network.linear": ("<i4", 0),
        "network.noise": ("<f8", 2),
        "network.sizes": ("<i4", 1),
        "network.spread": ("<f8", 2),
        "network.weights": ("<f8", 1),
    },
}
"""Name of an array -> its dtype and dimensions."""


def encode(
    model: Model, facts: Mapping[str, Any], canary: npt.NDArray[np.float64]
) -> tuple[bytes, bytes]:
    """Encode a model as (manifest, arrays).

    facts  : additional entries of the manifest; JSON values
    canary : float64 (c, d), 1 <= c <= MAX_CANARY_ROWS   rows whose scores every reader recomputes
    raises : ValueError when facts redefine an entry of the manifest, a number is not finite, or the
             result exceeds a reader's limits
    """
    arrays = npz.write(_to_arrays(model) | {"canary": np.ascontiguousarray(canary, np.float64)})
    own = {
        "format": FORMAT,
        "detector": str(model.detector),
        "version": model.version,
        "feature_version": FEATURE_VERSION,
        "features": list(FEATURE_NAMES),
        "metrics": list(model.metrics),
        "threshold": model.threshold,
        "canary_scores": model.score(canary).tolist(),
        "arrays": {"sha256": hashlib.sha256(arrays).hexdigest(), "size_bytes": len(arrays)},
    }
    if redefined := own.keys() & facts.keys():
        raise ValueError(f"facts redefine entries of the manifest: {', '.join(sorted(redefined))}")
    text = json.dumps(
        {**facts, **own}, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False
    )
    manifest = text.encode() + b"\n"
    if len(manifest) > MAX_MANIFEST_BYTES or len(canary) > MAX_CANARY_ROWS:
        raise ValueError(
            f"the manifest has {len(manifest)} bytes and {len(canary)} canary rows; allowed are"
            f" {MAX_MANIFEST_BYTES} and {MAX_CANARY_ROWS}"
        )
    return manifest, arrays


def digest(manifest: bytes) -> str:
    """Return the artefact's name, which covers the arrays too: their digest is in the manifest."""
    return hashlib.sha256(manifest).hexdigest()


def decode(sha256: str, manifest: bytes, arrays: bytes) -> Model:
    """Decode a model.

    raises : ArtifactRefused naming the file and the check
    """
    return decode_arrays(sha256, decode_manifest(sha256, manifest), arrays)


def decode_arrays(sha256: str, facts: Mapping[str, Any], arrays: bytes) -> Model:
    """Decode a model whose manifest has been decoded.

    facts  : from ``decode_manifest``
    raises : ArtifactRefused naming the file and the check
    """
    detector, metrics = _check_manifest(facts)
    stated = facts["arrays"]
    if len(arrays) != stated["size_bytes"]:
        _refuse_arrays(f"size: {len(arrays)} bytes, the manifest says {stated['size_bytes']}")
    if hashlib.sha256(arrays).hexdigest() != stated["sha256"]:
        _refuse_arrays("digest: its SHA-256 is not the one in the manifest")
    try:
        members = npz.read(arrays, {**_COMMON, **_MEMBERS[detector]})
        # If the caller holds no other reference, this frees the file's content.
        del arrays
        model = Model(
            sha256=sha256,
            version=facts["version"],
            detector=detector,
            metrics=metrics,
            usual=members["usual"],
            member=_member(detector, members),
            threshold=facts["threshold"],
            calibration=members["calibration"],
        )
        _check_canary_rows(members["canary"], model)
    except ValueError as error:
        _refuse_arrays(str(error))
    scores = facts["canary_scores"]
    canary = members["canary"]
    if len(scores) != len(canary) or not np.array_equal(model.score(canary), np.array(scores)):
        raise ArtifactRefused(
            "manifest.json: canary_scores: the model scores its canary rows differently"
        )
    return model


def decode_manifest(sha256: str, manifest: bytes) -> dict[str, Any]:
    """Decode a manifest, and check its size, digest, syntax and format.

    raises : ArtifactRefused naming the check
    """
    if len(manifest) > MAX_MANIFEST_BYTES:
        _refuse_manifest(f"size: {len(manifest)} bytes are more than {MAX_MANIFEST_BYTES}")
    if digest(manifest) != sha256:
        _refuse_manifest("digest: its SHA-256 is not the name of its folder")
    if manifest.count(b"[") + manifest.count(b"{") > MAX_BRACKETS:
        _refuse_manifest(f"syntax: more than {MAX_BRACKETS} lists and objects")
    try:
        facts = json.loads(manifest.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _refuse_manifest(f"syntax: {error}")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        _refuse_manifest(f"format: it is not {FORMAT}")
    return facts


def stated_bytes(facts: Mapping[str, Any], at_most: int) -> int:
    """Return the size that a manifest states for the arrays, after checking its other entries.

    facts  : from ``decode_manifest``
    raises : ArtifactRefused naming the check
    """
    _check_manifest(facts)
    size_bytes: int = facts["arrays"]["size_bytes"]
    if size_bytes > at_most:
        _refuse_manifest(f"arrays: they have {size_bytes} bytes, models.max_bytes allows {at_most}")
    return size_bytes


def _check_manifest(facts: Mapping[str, Any]) -> tuple[Detector, tuple[str, ...]]:
    if facts.get("detector") not in tuple(_MEMBERS):
        _refuse_manifest(
            f"detector: {_short(facts.get('detector'))} is none of {', '.join(_MEMBERS)}"
        )
    if facts.get("feature_version") != FEATURE_VERSION:
        found = _short(facts.get("feature_version"))
        _refuse_manifest(
            f"feature_version: {found}, this code needs {FEATURE_VERSION}: train a model with this"
            " release"
        )
    metrics: Any = facts.get("metrics")
    if facts.get("features") != list(FEATURE_NAMES):
        _refuse_manifest(
            f"features: {_short(facts.get('features'))}, this code computes"
            f" {', '.join(FEATURE_NAMES)}: train a model with this release"
        )
    if not _is_list_of(metrics, str) or not metrics:
        _refuse_manifest(f"metrics: {_short(metrics)} is not a list of names")
    if not all(
        metric.isprintable() and len(metric.encode()) <= MAX_METRIC_BYTES for metric in metrics
    ):
        _refuse_manifest(
            f"metrics: a name is longer than {MAX_METRIC_BYTES} bytes or has control characters"
        )
    for name, kind in {"version": str, "threshold": float, "arrays": dict}.items():
        if type(facts.get(name)) is not kind:
            _refuse_manifest(f"{name}: {_short(facts.get(name))} has the wrong type")
    if not _VERSION.fullmatch(facts["version"]):
        _refuse_manifest(
            f"version: {_short(facts['version'])} is not a time such as 2024-01-31T00:00:00Z"
        )
    stated = facts["arrays"]
    if (
        type(stated.get("size_bytes")) is not int
        or stated["size_bytes"] < 0
        or type(stated.get("sha256")) is not str
    ):
        _refuse_manifest(f"arrays: {_short(stated)} is not a size and a digest")
    if (
        not _is_list_of(facts.get("canary_scores"), float)
        or len(facts["canary_scores"]) > MAX_CANARY_ROWS
    ):
        _refuse_manifest(f"canary_scores: they are not a list of at most {MAX_CANARY_ROWS} numbers")
    return Detector(facts["detector"]), tuple(metrics)


def _check_canary_rows(canary: npt.NDArray[np.float64], model: Model) -> None:
    rows, columns = canary.shape
    if (
        not 1 <= rows <= MAX_CANARY_ROWS
        or columns != model.features
        or not _is_known(canary, FIRST_METRIC if model.sees_values else columns)
    ):
        raise ValueError(
            f"canary: shape {canary.shape} is not (1 to {MAX_CANARY_ROWS}, {model.features}), or a"
            " value is not finite"
        )


def _is_known(canary: npt.NDArray[np.float64], optional: int) -> bool:
    """Return whether all entries are finite, but for missing ones from the ``optional`` column."""
    is_missing = np.isnan(canary)
    is_missing[:, :optional] = False
    return bool((np.isfinite(canary) | is_missing).all())


def _to_arrays(model: Model) -> Arrays:
    arrays: Arrays = {"calibration": model.calibration, "usual": model.usual}
    return arrays | {
        name: np.asarray(getattr(model.member, name.partition(".")[2]), dtype)
        for name, (dtype, _) in _MEMBERS[model.detector].items()
    }


def _member(detector: Detector, members: Arrays) -> Member:
    if detector is Detector.ISOLATION_FOREST:
        part = _part(members, "forest")
        return Forest(**part | {"denominator": float(part["denominator"]), "features": FEATURES})
    if detector is Detector.PEER_GROUPS:
        return Peers(**_part(members, "peers"))
    if detector is Detector.RECONSTRUCTION:
        part = _part(members, "network")
        return Reconstruction(**part | {"linear": int(part["linear"])})
    part = _part(members, "svm")
    return Svm(**part | {"gamma": float(part["gamma"]), "rho": float(part["rho"])})


def _part(members: Arrays, prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(f"{prefix}."): array
        for name, array in members.items()
        if name.startswith(f"{prefix}.")
    }


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _short(value: Any) -> str:
    """Return a short text for a value of any size and depth."""
    return reprlib.repr(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _refuse_manifest(reason: str) -> NoReturn:
    raise ArtifactRefused(f"manifest.json: {reason}")


def _refuse_arrays(reason: str) -> NoReturn:
    raise ArtifactRefused(f"model.npz: {reason}")
