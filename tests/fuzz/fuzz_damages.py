"""Damaged model files: what is wrong with each kind of them.

Invariant: every kind is a function of a good model's files and of a seeded generator.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.artifacts import ARRAYS, MANIFEST, SIGNATURE
from shared.models import npz
from shared.models.artifact_format import MAX_MANIFEST_BYTES
from shared.models.signatures import Trust

BOMB_BYTES = 600 << 20
LARGE_BYTES = Trust().max_bytes - (1 << 20)
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2))

Files = tuple[bytes, bytes]
"""Manifest and arrays."""


def repaired(manifest: bytes, arrays: bytes) -> Files:
    """Write the digest of the arrays into the manifest."""
    facts = json.loads(manifest)
    facts["arrays"] = {"sha256": hashlib.sha256(arrays).hexdigest(), "size_bytes": len(arrays)}
    return json.dumps(facts, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n", arrays


def _flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged) if damaged != data else data[:-1]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _members(arrays: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(arrays)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def _npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array(target, array, version=(1, 0), allow_pickle=True)
    return target.getvalue()


def _header(shape: tuple[int, ...], descr: str) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        target, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return target.getvalue()


def _one_member(arrays: bytes, rng: random.Random, change: Callable[[np.ndarray], bytes]) -> bytes:
    members = _members(arrays)
    name = rng.choice(sorted(members))
    members[name] = change(np.load(io.BytesIO(members[name])))
    return _zipped(members)


class Bomb:
    """What an unpickler would run."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (66,)


def _huge_shape(rng: random.Random, old: np.ndarray) -> bytes:
    shape = rng.choice(
        [(1 << 38,), (1 << 31, 1 << 31), (1 << 62, 4), (0, 1 << 40), (-1,), (1 << 70,)]
    )
    return _header(shape, rng.choice(["<f8", "<i8", old.dtype.str])) + old.tobytes()


def _wrong_dtype(rng: random.Random, old: np.ndarray) -> bytes:
    dtypes = [
        d
        for d in ("<f4", ">f8", "<i4", "<u8", "<c16", "<U4", "|S8", "|b1", "<f8")
        if np.dtype(d) != old.dtype
    ]
    return _npy(np.zeros(old.shape, rng.choice(dtypes)))


def _odd_value(rng: random.Random, old: np.ndarray) -> bytes:
    new = old.copy()
    odd = (
        [np.nan, np.inf, -np.inf]
        if old.dtype.kind == "f"
        else [-1, 1 << 30, np.iinfo(old.dtype).max]
        if old.dtype.kind in "iu"
        else [1]
    )
    if new.size:
        place = rng.randrange(new.size)
        value = rng.choice(odd)
        new.reshape(-1)[place] = (
            np.asarray(value).astype(old.dtype) if old.dtype.kind != "u" else 255
        )
    return (
        _npy(new)
        if new.tobytes() != old.tobytes()
        else _npy(np.concatenate([old.reshape(-1), old.reshape(-1), old.reshape(-1)[:1]]))
    )


def _other_shape(rng: random.Random, old: np.ndarray) -> bytes:
    flat = old.reshape(-1)
    return _npy(
        rng.choice(
            [flat[: max(0, old.size - 1)], old[None], np.concatenate([flat, flat, flat[:1]])]
        )
    )


def _junk_member(rng: random.Random, old: np.ndarray) -> bytes:
    return rng.choice(
        [
            b"",
            b"\x93NUMPY",
            rng.randbytes(200),
            b"\x93NUMPY\1\0\xff\xff" + b"(" * 65535,
            _npy(old)[:-3],
        ]
    )


def _lying_sizes(arrays: bytes, rng: random.Random) -> bytes:
    data = bytearray(arrays)
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = rng.choice([1 << 30, 0xFFFFFFFE, 0]).to_bytes(4, "little") * 2
    return bytes(data)


_BOMBS: dict[str, bytes] = {}


def _zip_bomb(arrays: bytes, rng: random.Random) -> bytes:
    """Six hundred megabytes of zeros in less than one."""
    name = rng.choice(["calibration.npy", "canary.npy", "usual.npy"])
    if name not in _BOMBS:
        members = _members(arrays)
        members[name] = _header((BOMB_BYTES // 8,), "<f8") + bytes(BOMB_BYTES)
        _BOMBS[name] = _zipped(members, zipfile.ZIP_DEFLATED)
    return _BOMBS[name]


def _facts(manifest: bytes, rng: random.Random) -> bytes:
    facts = json.loads(manifest)
    name = rng.choice(sorted(facts.keys() - {"arrays"}))
    facts[name] = rng.choice(
        [None, -1, 1e308, 10**400, [], {}, "", "x" * 10_000, [[[]]], True, [None]]
    )
    return json.dumps(facts).encode()


def _no_manifest(manifest: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"",
            b"null",
            b"[" * 200_000,
            b'{"format": NaN}',
            b"\xff\xfe",
            b'{"a":' * 50_000,
            pickle.dumps(Bomb()),
        ]
    )


Kind = Callable[[bytes, bytes, random.Random], Files]


def _crumbs(manifest: bytes, rng: random.Random) -> bytes:
    """The largest manifest, of the smallest things."""
    crumb = rng.choice([b"[],", b"{},", b'{"":0},', b"1.5,", b'"ab",', b"99999,", b"[[[]]],"])
    crumb = (
        crumb if rng.random() < 0.3 else crumb.strip(b",") + b"," + b'"ab",' * 12
    )  # beyond, or just within the lists allowed
    tail = b"0]}" if rng.random() < 0.5 else '"\U0001f426"]}'.encode()
    return b'{"format":1,"x":[' + crumb * ((MAX_MANIFEST_BYTES - 60) // len(crumb)) + tail


def _as_metrics(manifest: bytes, rng: random.Random) -> bytes:
    """As many metrics as a manifest holds, with as many features."""
    count = MAX_MANIFEST_BYTES // 40
    facts = json.loads(manifest) | {
        "metrics": [""] * count,
        "features": [""] * (5 * count + rng.choice((0, 3))),
    }
    return json.dumps(facts, separators=(",", ":")).encode()


def _said(manifest: bytes, rng: random.Random) -> bytes:
    """Texts that could not be written or logged."""
    facts = json.loads(manifest)
    facts["version"] = rng.choice(["\ud800", "x" * 500_000, "2024-01-01T00:00:00Z\n", "\x00"])
    return json.dumps(facts).encode()


def _stated(manifest: bytes, rng: random.Random) -> bytes:
    facts = json.loads(manifest)
    facts["arrays"]["size_bytes"] = rng.choice(
        [BOMB_BYTES, 1 << 62, -1, 10**300, True, 1e9, None, "1"]
    )
    return json.dumps(facts).encode()


@cache
def _large(arrays: bytes, which: str) -> bytes:
    """As large as the default setting allows, correct except for the canary's scores or inputs."""
    members = {
        name.removesuffix(".npy"): np.load(io.BytesIO(data))
        for name, data in _members(arrays).items()
    }
    if which == "usual":
        members["usual"] = np.zeros(LARGE_BYTES // 8)
    elif which == "canary":
        members["canary"] = np.zeros(
            (LARGE_BYTES // members["canary"].shape[1] // 8, members["canary"].shape[1])
        )
    elif which == "calibration":
        members["calibration"] = np.arange(LARGE_BYTES // 8, dtype=np.float64)
    elif "svm.vectors" in members:
        rows = LARGE_BYTES // 8 // (members["svm.vectors"].shape[1] + 1)
        members["svm.vectors"] = np.resize(
            members["svm.vectors"], (rows, members["svm.vectors"].shape[1])
        )
        members["svm.coefficients"] = np.resize(members["svm.coefficients"], rows)
    else:
        tree_nodes = (1 << 14) - 1
        trees = LARGE_BYTES // 20 // tree_nodes
        leaf = np.arange(tree_nodes) >= tree_nodes // 2
        members["forest.feature"] = np.tile(np.where(leaf, -1, 0).astype(np.int32), trees)
        members["forest.left"] = np.tile(
            np.where(leaf, -1, 2 * np.arange(tree_nodes) + 1).astype(np.int32), trees
        )
        members["forest.threshold"] = np.zeros(tree_nodes * trees, np.float32)
        members["forest.path_length"] = np.tile(leaf.astype(np.float64), trees)
        members["forest.offsets"] = np.arange(trees + 1, dtype=np.int64) * tree_nodes
    return npz.write(members)


def _largest(manifest: bytes, arrays: bytes, rng: random.Random) -> Files:
    return repaired(
        manifest,
        _large(arrays, rng.choice(["usual", "canary", "calibration", "member", "member"])),
    )


@cache
def _entries() -> bytes:
    """A directory of seven hundred thousand entries without a member."""
    count = LARGE_BYTES // 47
    entries = (b"PK\1\2" + bytes(24) + b"\1\0" + bytes(16) + b"a") * count
    end = b"PK\5\6" + bytes(4) + b"\xff\xff" * 2 + len(entries).to_bytes(4, "little") + bytes(6)
    return entries + end


def _one_entry_more(arrays: bytes, rng: random.Random) -> bytes:
    """Bytes behind the members that another reader would take for members."""
    data, end = arrays[:-22], arrays[-22:]
    junk = rng.choice([arrays, b"PK\1\2" + bytes(42), b"\0" * 1000])
    return data + junk + end


PLAIN: dict[str, Kind] = {
    "manifest cut": lambda m, a, r: (_cut(m, r), a),
    "arrays cut": lambda m, a, r: (m, _cut(a, r)),
    "manifest flipped": lambda m, a, r: (_flipped(m, r), a),
    "arrays flipped": lambda m, a, r: (m, _flipped(a, r)),
    "arrays are a pickle": lambda m, a, r: (m, pickle.dumps([Bomb(), r.random()])),
    "arrays are junk": lambda m, a, r: (m, r.randbytes(len(a))),
}
"""The folder keeps its name, the manifest its digest."""

FORGED: dict[str, Kind] = {
    "manifest flipped": lambda m, a, r: (_flipped(m, r), a),
    "manifest of another kind": lambda m, a, r: (_no_manifest(m, r), a),
    "entry of the manifest": lambda m, a, r: (_facts(m, r), a),
    "arrays cut": lambda m, a, r: repaired(m, _cut(a, r)),
    "arrays flipped": lambda m, a, r: repaired(m, _flipped(a, r)),
    "arrays are a pickle": lambda m, a, r: repaired(m, pickle.dumps([Bomb(), r.random()])),
    "member is a pickle": lambda m, a, r: repaired(
        m, _one_member(a, r, lambda _: _npy(np.array([Bomb()], object)))
    ),
    "member of junk": lambda m, a, r: repaired(m, _one_member(a, r, partial(_junk_member, r))),
    "huge shape": lambda m, a, r: repaired(m, _one_member(a, r, partial(_huge_shape, r))),
    "wrong dtype": lambda m, a, r: repaired(m, _one_member(a, r, partial(_wrong_dtype, r))),
    "odd value": lambda m, a, r: repaired(m, _one_member(a, r, partial(_odd_value, r))),
    "other shape": lambda m, a, r: repaired(m, _one_member(a, r, partial(_other_shape, r))),
    "lying sizes": lambda m, a, r: repaired(m, _lying_sizes(a, r)),
    "zip bomb": lambda m, a, r: repaired(m, _zip_bomb(a, r)),
    "directory of 700,000 entries": lambda m, a, r: repaired(m, _entries()),
    "more in the directory": lambda m, a, r: repaired(m, _one_entry_more(a, r)),
    "largest manifest of crumbs": lambda m, a, r: (_crumbs(m, r), a),
    "as many metrics as there is room": lambda m, a, r: (_as_metrics(m, r), a),
    "odd texts": lambda m, a, r: (_said(m, r), a),
    "other size stated": lambda m, a, r: (_stated(m, r), a),
    "as large as allowed": _largest,
}
"""The digests are repaired, up to the folder's name."""


Spoil = Callable[[Path, random.Random], None]


def _put(name: str, make: Spoil) -> Spoil:
    """Put something else in a file's place."""

    def put(folder: Path, rng: random.Random) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name, rng)

    return put


def _sparse(path: Path, rng: random.Random) -> None:
    path.touch()
    os.truncate(path, BOMB_BYTES)


def _appended(folder: Path, rng: random.Random) -> None:
    """The good file, and six hundred megabytes behind it."""
    os.truncate(folder / ARRAYS, BOMB_BYTES)


def _signature(make: Callable[[bytes, random.Random], bytes]) -> Spoil:
    def sign(folder: Path, rng: random.Random) -> None:
        (folder / SIGNATURE).write_bytes(make((folder / MANIFEST).read_bytes(), rng))

    return sign


PLACES: dict[str, Spoil] = {
    "600 MB behind the arrays": _appended,
    **{
        f"{name} is {what}": _put(name, make)
        for name in (ARRAYS, MANIFEST)
        for what, make in {
            "600 MB of a sparse file": _sparse,
            "a pipe": lambda path, rng: os.mkfifo(path),
            "a folder": lambda path, rng: path.mkdir(),
            "a link to itself": lambda path, rng: path.symlink_to(path),
            "a link to a device": lambda path, rng: path.symlink_to(
                rng.choice(["/dev/zero", "/dev/urandom", "/dev/null"])
            ),
        }.items()
    },
}
"""The files are good, the folder is not."""

SIGNATURES: dict[str, Spoil] = {
    "none": lambda folder, rng: (folder / SIGNATURE).unlink(missing_ok=True),
    "flipped": _signature(lambda data, rng: _flipped(KEY.sign(data), rng)),
    "cut": _signature(lambda data, rng: _cut(KEY.sign(data), rng)),
    "by another key": _signature(lambda data, rng: OTHER_KEY.sign(data)),
    "of another manifest": _signature(lambda data, rng: KEY.sign(_flipped(data, rng))),
    "junk": _signature(lambda data, rng: rng.randbytes(rng.choice((0, 63, 64, 65, 5000)))),
    "600 MB of a sparse file": _put(SIGNATURE, _sparse),
    "a pipe": _put(SIGNATURE, lambda path, rng: os.mkfifo(path)),
}
"""The model is good, its signature is not."""
