"""Damaged model files, loaded in a child process whose address space is limited.

Law: none is loaded and none ends the child. Where the damage was followed by a repair of the digests, as only somebody who may
write models can do, the file may still be a valid model: such are counted apart, by kind.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from shared.artifact_format import digest, encode
from shared.artifacts import ARRAYS, MANIFEST, load
from shared.errors import ArtifactRefused
from tests.models import DETECTORS, trained

ROOM_BYTES = 256 << 20
"""Address space that the child may take beyond what it has once its libraries and one good model are loaded."""

MOST_BYTES = 256 << 20
"""Of resident memory, at its peak."""

BOMB_BYTES = 600 << 20

Files = tuple[bytes, bytes]
"""Manifest and arrays."""


@dataclass
class FoundModels:
    """What became of the files.

    loaded   : whose damage no repair covered: must be 0
    valid    : kind -> files that are a valid model again, their digests repaired
    crashed  : ends of the child, by signal or memory
    others   : errors that are not a refusal
    slowest_s, peak_bytes, idle_bytes : of the child; idle: before the first damaged file
    """

    models: int = 0
    refused: int = 0
    loaded: list[str] = field(default_factory=list)
    valid: Counter[str] = field(default_factory=Counter)
    crashed: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    peak_bytes: int = 0
    idle_bytes: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.loaded or self.crashed or self.others or self.peak_bytes > MOST_BYTES)

    def lines(self) -> list[str]:
        return [
            (
                f"{self.models} damaged models: {self.refused} refused, {len(self.loaded)} loaded, {len(self.crashed)} crashes,"
                f" {len(self.others)} other errors; {self.valid.total()} valid again, their digests repaired {dict(self.valid)}"
            ),
            f"  {dict(self.kinds)}",
            (
                f"  slowest {self.slowest_s:.3f} s; peak resident memory {self.peak_bytes / 2**20:.0f} MB,"
                f" {self.idle_bytes / 2**20:.0f} MB before the first"
            ),
            *(f"  SURPRISE {what[:400]}" for what in [*self.loaded, *self.crashed, *self.others][:10]),
        ]


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
    np.lib.format.write_array_header_1_0(target, {"descr": descr, "fortran_order": False, "shape": shape})
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
    shape = rng.choice([(1 << 38,), (1 << 31, 1 << 31), (1 << 62, 4), (0, 1 << 40), (-1,), (1 << 70,)])
    return _header(shape, rng.choice(["<f8", "<i8", old.dtype.str])) + old.tobytes()


def _wrong_dtype(rng: random.Random, old: np.ndarray) -> bytes:
    dtypes = [d for d in ("<f4", ">f8", "<i4", "<u8", "<c16", "<U4", "|S8", "|b1", "<f8") if np.dtype(d) != old.dtype]
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
        new.reshape(-1)[place] = np.asarray(value).astype(old.dtype) if old.dtype.kind != "u" else 255
    return (
        _npy(new)
        if new.tobytes() != old.tobytes()
        else _npy(np.concatenate([old.reshape(-1), old.reshape(-1), old.reshape(-1)[:1]]))
    )


def _other_shape(rng: random.Random, old: np.ndarray) -> bytes:
    flat = old.reshape(-1)
    return _npy(rng.choice([flat[: max(0, old.size - 1)], old[None], np.concatenate([flat, flat, flat[:1]])]))


def _junk_member(rng: random.Random, old: np.ndarray) -> bytes:
    return rng.choice([b"", b"\x93NUMPY", rng.randbytes(200), b"\x93NUMPY\1\0\xff\xff" + b"(" * 65535, _npy(old)[:-3]])


def _lying_sizes(arrays: bytes, rng: random.Random) -> bytes:
    data = bytearray(arrays)
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = rng.choice([1 << 30, 0xFFFFFFFE, 0]).to_bytes(4, "little") * 2
    return bytes(data)


_BOMBS: dict[str, bytes] = {}


def _zip_bomb(arrays: bytes, rng: random.Random) -> bytes:
    """Six hundred megabytes of zeros in less than one."""
    name = rng.choice(["calibration.npy", "canary.npy", "scale.centre.npy"])
    if name not in _BOMBS:
        members = _members(arrays)
        members[name] = _header((BOMB_BYTES // 8,), "<f8") + bytes(BOMB_BYTES)
        _BOMBS[name] = _zipped(members, zipfile.ZIP_DEFLATED)
    return _BOMBS[name]


def _facts(manifest: bytes, rng: random.Random) -> bytes:
    facts = json.loads(manifest)
    name = rng.choice(sorted(facts.keys() - {"arrays"}))
    facts[name] = rng.choice([None, -1, 1e308, 10**400, [], {}, "", "x" * 10_000, [[[]]], True, [None]])
    return json.dumps(facts).encode()


def _no_manifest(manifest: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"null", b"[" * 200_000, b'{"format": NaN}', b"\xff\xfe", b'{"a":' * 50_000, pickle.dumps(Bomb())])


Kind = Callable[[bytes, bytes, random.Random], Files]

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
    "member is a pickle": lambda m, a, r: repaired(m, _one_member(a, r, lambda _: _npy(np.array([Bomb()], object)))),
    "member of junk": lambda m, a, r: repaired(m, _one_member(a, r, partial(_junk_member, r))),
    "huge shape": lambda m, a, r: repaired(m, _one_member(a, r, partial(_huge_shape, r))),
    "wrong dtype": lambda m, a, r: repaired(m, _one_member(a, r, partial(_wrong_dtype, r))),
    "odd value": lambda m, a, r: repaired(m, _one_member(a, r, partial(_odd_value, r))),
    "other shape": lambda m, a, r: repaired(m, _one_member(a, r, partial(_other_shape, r))),
    "lying sizes": lambda m, a, r: repaired(m, _lying_sizes(a, r)),
    "zip bomb": lambda m, a, r: repaired(m, _zip_bomb(a, r)),
}
"""The digests are repaired, up to the folder's name."""


def fuzz_models(count: int, seed: int) -> FoundModels:
    """Write damaged models, half of them with repaired digests, and have a child load them."""
    rng, found = random.Random(seed), FoundModels()
    good = [encode(result.model, {"seed": 0}, result.canary) for result in map(trained, DETECTORS)]
    with tempfile.TemporaryDirectory(prefix="lapwing-fuzz-") as name:
        cases: list[tuple[str, bool, str]] = []
        for place, files in enumerate(good):
            _store(Path(name) / f"good-{place}", digest(files[0]), files)
        for place in range(count):
            forged = place % 2 == 1
            kind, damage = rng.choice(list((FORGED if forged else PLAIN).items()))
            manifest, arrays = rng.choice(good)
            files = damage(manifest, arrays, rng)
            sha256 = digest(files[0] if forged else manifest)
            _store(Path(name) / str(place), sha256, files)
            cases.append((f"{'repaired: ' if forged else ''}{kind}", forged, sha256))
        found.models, found.kinds = count, Counter(kind for kind, *_ in cases)
        start = 0
        while start < count and len(found.crashed) < 20:
            start = _run_child(Path(name), [sha256 for *_, sha256 in cases], start, cases, found, [digest(m) for m, _ in good])
    return found


def _store(folder: Path, sha256: str, files: Files) -> None:
    (folder / sha256).mkdir(parents=True)
    (folder / sha256 / MANIFEST).write_bytes(files[0])
    (folder / sha256 / ARRAYS).write_bytes(files[1])


def _run_child(
    root: Path, names: list[str], start: int, cases: list[tuple[str, bool, str]], found: FoundModels, good: list[str]
) -> int:
    """Let a child go through the files from one on; returns where the next child begins."""
    (root / "names.json").write_text(json.dumps({"good": good, "names": names, "start": start}))
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz_models", str(root)], cwd=Path(__file__).parents[1],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    for line in lines:
        if "idle_bytes" in line:
            found.idle_bytes = max(found.idle_bytes, line["idle_bytes"])
            continue
        kind, forged, _ = cases[line["place"]]
        found.slowest_s = max(found.slowest_s, line["took_s"])
        found.peak_bytes = max(found.peak_bytes, line["peak_bytes"])
        if line["outcome"] == "refused":
            found.refused += 1
        elif line["outcome"] == "loaded" and forged:
            found.valid[kind] += 1
        elif line["outcome"] == "loaded":
            found.loaded.append(f"{kind} (file {line['place']})")
        else:
            found.others.append(f"{kind} (file {line['place']}): {line['outcome']}")
    done = start + sum("place" in line for line in lines)
    if done < len(names):
        found.crashed.append(f"{cases[done][0]} (file {done}): the child ended with {ran.returncode}: {ran.stderr[-300:]}")
        return done + 1
    return done


def child(root: Path) -> None:
    """Load file after file, and say of each what became of it."""
    listed = json.loads((root / "names.json").read_text())
    for place, sha256 in enumerate(listed["good"]):
        load(root / f"good-{place}", sha256)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"idle_bytes": _peak_bytes()}), flush=True)
    for place in range(listed["start"], len(listed["names"])):
        began_s = time.perf_counter()
        try:
            load(root / str(place), listed["names"][place])
            outcome = "loaded"
        except ArtifactRefused:
            outcome = "refused"
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        took_s = time.perf_counter() - began_s
        print(json.dumps({"place": place, "outcome": outcome, "took_s": took_s, "peak_bytes": _peak_bytes()}), flush=True)


def _peak_bytes() -> int:
    """Peak of resident memory since the program began; what getrusage says is at least that of the parent at the fork."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024


if __name__ == "__main__":
    child(Path(sys.argv[1]))
