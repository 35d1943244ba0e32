"""A model as bytes: a JSON manifest, and an npz of plain arrays.

Law: pure functions of bytes. Equal models give equal bytes; what is read is believed only after size, digest, feature set,
structure and canary scores have been checked; nothing is unpickled, and nothing is allocated that the bytes do not hold.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from shared.errors import ArtifactRefused
from shared.events import Detector
from shared.features import FEATURE_VERSION, Calendar, Scale, feature_names
from shared.model import Forest, Model, Svm

FORMAT = 1
MAX_MANIFEST_BYTES = 4 << 20
MAX_ARRAYS_BYTES = 512 << 20

Arrays = dict[str, npt.NDArray[Any]]

_COMMON = {
    "calendar.business_days": "|b1",
    "calendar.business_minutes": "<i8",
    "calendar.offsets_ms": "<i8",
    "calendar.transitions_ms": "<i8",
    "calibration": "<f8",
    "canary": "<f8",
    "scale.arena": "|u1",
    "scale.bounds": "<i8",
    "scale.centre": "<f8",
    "scale.spread": "<f8",
}
_MEMBERS: Mapping[Detector, Mapping[str, str]] = {
    Detector.ISOLATION_FOREST: {
        "forest.denominator": "<f8",
        "forest.feature": "<i4",
        "forest.left": "<i4",
        "forest.offsets": "<i8",
        "forest.path_length": "<f8",
        "forest.threshold": "<f4",
    },
    Detector.ONE_CLASS_SVM: {"svm.coefficients": "<f8", "svm.gamma": "<f8", "svm.rho": "<f8", "svm.vectors": "<f8"},
}


def encode(model: Model, facts: Mapping[str, Any], canary: npt.NDArray[np.float64]) -> tuple[bytes, bytes]:
    """Write a model as (manifest, arrays).

    facts  : further entries of the manifest; JSON values
    canary : float64 (c, d), c >= 1   rows whose scores every reader recomputes
    raises : ValueError when a fact has the name of one of the manifest's own entries, or a number is not finite
    """
    arrays = _write_arrays(_to_arrays(model) | {"canary": np.ascontiguousarray(canary, np.float64)})
    own = {
        "format": FORMAT,
        "detector": str(model.detector),
        "version": model.version,
        "feature_version": FEATURE_VERSION,
        "features": list(feature_names(model.metrics)),
        "metrics": list(model.metrics),
        "window": model.window,
        "threshold": model.threshold,
        "canary_scores": model.score(canary).tolist(),
        "arrays": {"sha256": hashlib.sha256(arrays).hexdigest(), "size_bytes": len(arrays)},
    }
    if taken := own.keys() & facts.keys():
        raise ValueError(f"facts {sorted(taken)} are the manifest's own")
    text = json.dumps({**facts, **own}, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    if len(text.encode()) + 1 > MAX_MANIFEST_BYTES or len(arrays) > MAX_ARRAYS_BYTES:
        raise ValueError(f"the manifest is larger than {MAX_MANIFEST_BYTES} bytes, or the arrays than {MAX_ARRAYS_BYTES}")
    return text.encode() + b"\n", arrays


def digest(manifest: bytes) -> str:
    """Name of the artefact: the manifest holds the digest of the arrays, so this one covers both."""
    return hashlib.sha256(manifest).hexdigest()


def decode(sha256: str, manifest: bytes, arrays: bytes) -> Model:
    """Read a model.

    raises : ArtifactRefused naming the file and the check
    """
    facts = decode_manifest(sha256, manifest)
    detector, metrics = _check_manifest(facts)
    members = _read_arrays(arrays, facts["arrays"], {**_COMMON, **_MEMBERS[detector]})
    try:
        model = Model(
            sha256=sha256,
            version=facts["version"],
            detector=detector,
            metrics=metrics,
            window=facts["window"],
            calendar=Calendar.from_arrays(_part(members, "calendar")),
            scale=Scale(
                _names(members["scale.arena"], members["scale.bounds"]), members["scale.centre"], members["scale.spread"]
            ),
            member=_member(detector, members, len(facts["features"])),
            threshold=facts["threshold"],
            calibration=members["calibration"],
        )
    except ValueError as error:
        raise ArtifactRefused(f"model.npz: {error}") from error
    _check_canary(model, members["canary"], facts["canary_scores"])
    return model


def decode_manifest(sha256: str, manifest: bytes) -> dict[str, Any]:
    """Read a manifest; checks size, digest, syntax and format.

    raises : ArtifactRefused naming the check
    """
    if len(manifest) > MAX_MANIFEST_BYTES:
        _refuse_manifest(f"size: {len(manifest)} bytes are more than {MAX_MANIFEST_BYTES}")
    if digest(manifest) != sha256:
        _refuse_manifest("digest: its SHA-256 is not the name of its folder")
    try:
        facts = json.loads(manifest, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _refuse_manifest(f"syntax: {error}")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        _refuse_manifest(f"format: it is not of format {FORMAT}")
    return facts


def _check_manifest(facts: Mapping[str, Any]) -> tuple[Detector, tuple[str, ...]]:
    if facts.get("detector") not in tuple(_MEMBERS):
        _refuse_manifest(f"detector: {facts.get('detector')!r} is none of {', '.join(_MEMBERS)}")
    if facts.get("feature_version") != FEATURE_VERSION:
        _refuse_manifest(f"feature_version: {facts.get('feature_version')!r}, this code makes version {FEATURE_VERSION}")
    metrics: Any = facts.get("metrics")
    if not _is_list_of(metrics, str) or facts.get("features") != list(feature_names(metrics)):
        _refuse_manifest("features: they are not the ones that this code makes of its metrics")
    kinds: dict[str, type | tuple[type, ...]] = {"version": str, "window": int, "threshold": float, "arrays": dict}
    for name, kind in kinds.items():
        if not isinstance(facts.get(name), kind) or isinstance(facts[name], bool):
            _refuse_manifest(f"{name}: {facts.get(name)!r} is of the wrong kind")
    if not _is_list_of(facts.get("canary_scores"), float):
        _refuse_manifest("canary_scores: they are not a list of numbers")
    return Detector(facts["detector"]), tuple(metrics)


def _check_canary(model: Model, canary: npt.NDArray[np.float64], scores: list[float]) -> None:
    if canary.ndim != 2 or canary.shape[1] != model.member.features or not len(canary) or not np.isfinite(canary).all():
        _refuse_arrays(f"canary: shape {canary.shape} is not (1 or more, {model.member.features}), or a value is not finite")
    found = model.score(canary)
    if len(scores) != len(canary) or not np.array_equal(found, np.array(scores)):
        raise ArtifactRefused("manifest.json: canary_scores: the arrays score the canary rows otherwise")


def _to_arrays(model: Model) -> Arrays:
    names = [name.encode() for name in model.scale.entities]
    arrays: Arrays = {f"calendar.{name}": array for name, array in model.calendar.to_arrays().items()}
    arrays |= {
        "calibration": model.calibration,
        "scale.arena": np.frombuffer(b"".join(names), np.uint8),
        "scale.bounds": np.cumsum([0, *map(len, names)], dtype=np.int64),
        "scale.centre": model.scale.centre,
        "scale.spread": model.scale.spread,
    }
    prefix = "forest" if isinstance(model.member, Forest) else "svm"
    wanted = [name for name in _MEMBERS[model.detector] if name.startswith(prefix)]
    return arrays | {name: np.asarray(getattr(model.member, name.removeprefix(f"{prefix}."))) for name in wanted}


def _member(detector: Detector, members: Arrays, features: int) -> Forest | Svm:
    if detector is Detector.ISOLATION_FOREST:
        part = _part(members, "forest")
        return Forest(**part | {"denominator": _scalar(part, "denominator"), "features": features})
    part = _part(members, "svm")
    return Svm(**part | {"gamma": _scalar(part, "gamma"), "rho": _scalar(part, "rho")})


def _part(members: Arrays, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(f"{prefix}."): array for name, array in members.items() if name.startswith(f"{prefix}.")}


def _scalar(part: Mapping[str, npt.NDArray[Any]], name: str) -> float:
    if part[name].shape != ():
        raise ValueError(f"{name} has shape {part[name].shape}, not ()")
    return float(part[name])


def _names(arena: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64]) -> tuple[str, ...]:
    if arena.ndim != 1 or bounds.ndim != 1 or not len(bounds) or bounds[0] != 0 or bounds[-1] != len(arena):
        raise ValueError("scale.bounds do not divide scale.arena")
    if (bounds[1:] < bounds[:-1]).any():
        raise ValueError("scale.bounds are not sorted")
    data = arena.tobytes()
    return tuple(data[low:high].decode() for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def _write_arrays(arrays: Arrays) -> bytes:
    """Write an npz whose bytes depend on the arrays alone: sorted, stored, and dated 1980."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, member.getvalue())
    return target.getvalue()


def _read_arrays(data: bytes, stated: Mapping[str, Any], dtypes: Mapping[str, str]) -> Arrays:
    if len(data) > MAX_ARRAYS_BYTES or len(data) != stated.get("size_bytes"):
        _refuse_arrays(f"size: {len(data)} bytes, the manifest says {stated.get('size_bytes')!r}, at most {MAX_ARRAYS_BYTES}")
    if hashlib.sha256(data).hexdigest() != stated.get("sha256"):
        _refuse_arrays("digest: its SHA-256 is not the one in the manifest")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sorted(info.filename for info in members) != sorted(f"{name}.npy" for name in dtypes):
                _refuse_arrays("members: they are not the detector's arrays")
            if any(info.compress_type != zipfile.ZIP_STORED for info in members):
                _refuse_arrays("members: one is compressed")
            if sum(info.file_size for info in members) > len(data):
                _refuse_arrays("members: their sizes add up to more than the file's")
            return {name: _read_array(archive.read(f"{name}.npy"), name, dtype) for name, dtype in dtypes.items()}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        _refuse_arrays(f"members: {error}")


def _read_array(data: bytes, name: str, dtype: str) -> npt.NDArray[Any]:
    source = io.BytesIO(data)
    if np.lib.format.read_magic(source) != (1, 0):
        _refuse_arrays(f"{name}: it is not of npy version 1.0")
    shape, fortran, found = np.lib.format.read_array_header_1_0(source)
    if found != np.dtype(dtype) or fortran:
        _refuse_arrays(f"{name}: it has dtype {found}{' in Fortran order' if fortran else ''}, not {dtype}")
    body = data[source.tell() :]
    if any(size < 0 for size in shape) or math.prod(shape) * found.itemsize != len(body):
        _refuse_arrays(f"{name}: shape {shape} does not fit its {len(body)} bytes")
    if dtype == "|b1" and max(body, default=0) > 1:
        _refuse_arrays(f"{name}: a truth value is neither 0 nor 1")
    return np.frombuffer(body, dtype).reshape(shape).copy()


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _refuse_manifest(reason: str) -> NoReturn:
    raise ArtifactRefused(f"manifest.json: {reason}")


def _refuse_arrays(reason: str) -> NoReturn:
    raise ArtifactRefused(f"model.npz: {reason}")
