"""Damaged model files, loaded in a child process whose address space is limited.

Invariant: no damaged file is loaded, ends the child, or makes its memory exceed a bound.

Where the digests were recomputed after the damage, which requires write access to the models, the
file may still be a valid model; such files are counted separately, by kind.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.artifacts import ARRAYS, MANIFEST, SIGNATURE
from shared.models.artifact_format import digest, encode
from tests.fuzz.fuzz_damages import FORGED, KEY, PLACES, PLAIN, SIGNATURES, Files
from tests.support.models import DETECTORS, trained

MOST_BYTES = 256 << 20
"""Resident memory that the child may need beyond its libraries and the good models."""

ROOM_BYTES = MOST_BYTES
"""The same for its address space, enforced by the system.

A larger allocation fails, and the failure is counted.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One folder of models.

    forged : its digests were repaired after the damage
    signed : the loader requires a signature
    """

    kind: str
    sha256: str
    forged: bool = False
    signed: bool = False


@dataclass
class FoundModels:
    """Results for the damaged files.

    loaded   : models loaded despite unrepaired damage: must be 0
    valid    : kind -> files that are a valid model again, their digests repaired
    crashed  : ends of the child, by signal or memory
    others   : errors that are not a refusal, and refusals for want of memory
    grown    : kind -> bytes that it has raised the peak of resident memory by
    slowest_s, peak_bytes, idle_bytes : of the child; idle: before the first damaged file
    """

    models: int = 0
    refused: int = 0
    loaded: list[str] = field(default_factory=list)
    valid: Counter[str] = field(default_factory=Counter)
    crashed: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    grown: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""
    peak_bytes: int = 0
    idle_bytes: int = 0

    @property
    def grown_bytes(self) -> int:
        return self.peak_bytes - self.idle_bytes

    @property
    def failed(self) -> bool:
        return bool(self.loaded or self.crashed or self.others or self.grown_bytes > MOST_BYTES)

    def lines(self) -> list[str]:
        most = ", ".join(
            f"{kind} {grown / 2**20:.0f}" for kind, grown in self.grown.most_common(4) if grown
        )
        return [
            (
                f"{self.models} damaged models: {self.refused} refused, {len(self.loaded)} loaded,"
                f" {len(self.crashed)} crashes, {len(self.others)} other errors;"
                f" {self.valid.total()} valid again, their digests repaired {dict(self.valid)}"
            ),
            f"  {dict(self.kinds)}",
            (
                f"  slowest {self.slowest_s:.3f} s ({self.slowest}); peak resident memory"
                f" {self.peak_bytes / 2**20:.0f} MB, {self.idle_bytes / 2**20:.0f} MB before the"
                f" first, so +{self.grown_bytes / 2**20:.0f} MB ({MOST_BYTES / 2**20:.0f} allowed),"
                f" raised by {most or 'nothing'}"
            ),
            *(
                f"  SURPRISE {what[:400]}"
                for what in [*self.loaded, *self.crashed, *self.others][:10]
            ),
        ]


def fuzz_models(count: int, seed: int) -> FoundModels:
    """Write damaged models and have a child load them.

    Of ten, four have wrong bytes, four wrong bytes with repaired digests, one something else in a
    file's place, and one a wrong signature.
    """
    rng, found = random.Random(seed), FoundModels()
    good = [encode(result.model, {"seed": 0}, result.canary) for result in map(trained, DETECTORS)]
    with tempfile.TemporaryDirectory(prefix="lapwing-fuzz-") as name:
        root, cases = Path(name), list[Case]()
        for place, files in enumerate(good):
            _store(root, f"good-{place}", digest(files[0]), files)
        for place in range(count):
            cases.append(_case(root, place, rng, rng.choice(good)))
        found.models, found.kinds = count, Counter(case.kind for case in cases)
        start = 0
        while start < count and len(found.crashed) < 20:
            start = _run_child(
                root, start, cases, found, [digest(manifest) for manifest, _ in good]
            )
    return found


def _case(root: Path, place: int, rng: random.Random, good: Files) -> Case:
    turn, sha256 = place % 10, digest(good[0])
    if turn in (4, 9):
        kinds = SIGNATURES if turn == 9 else PLACES
        kind = rng.choice(list(kinds))
        folder = _store(root, str(place), sha256, good)
        kinds[kind](folder, rng)
        return Case(f"signature: {kind}" if turn == 9 else kind, sha256, signed=turn == 9)
    forged = place % 2 == 1
    kind, damage = rng.choice(list((FORGED if forged else PLAIN).items()))
    files = damage(*good, rng)
    case = Case(
        f"repaired: {kind}" if forged else kind,
        digest(files[0]) if forged else sha256,
        forged=forged,
    )
    _store(root, str(place), case.sha256, files)
    return case


def _store(root: Path, name: str, sha256: str, files: Files) -> Path:
    """Write a model's folder; large arrays that were written before are linked."""
    folder = root / name / sha256
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(files[0])
    (folder / SIGNATURE).write_bytes(KEY.sign(files[0]))
    if len(files[1]) < 1 << 20:
        (folder / ARRAYS).write_bytes(files[1])
        return folder
    kept = root / "kept" / digest(files[1])
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(files[1])
    os.link(kept, folder / ARRAYS)
    return folder


def _run_child(
    root: Path, start: int, cases: list[Case], found: FoundModels, good: list[str]
) -> int:
    """Let a child go through the files from one on; returns where the next child begins."""
    names = [(case.sha256, case.signed) for case in cases]
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    listed = {"good": good, "names": names, "start": start, "key": pem, "room_bytes": ROOM_BYTES}
    (root / "names.json").write_text(json.dumps(listed))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_child", str(root)], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    before_bytes = 0
    for line in lines:
        if "idle_bytes" in line:
            before_bytes = line["idle_bytes"]
            found.idle_bytes = max(found.idle_bytes, before_bytes)
            continue
        case = cases[line["place"]]
        found.grown[case.kind] += line["peak_bytes"] - before_bytes
        before_bytes = line["peak_bytes"]
        found.peak_bytes = max(found.peak_bytes, line["peak_bytes"])
        if line["took_s"] > found.slowest_s:
            found.slowest_s, found.slowest = line["took_s"], case.kind
        if line["outcome"] == "refused":
            found.refused += 1
        elif line["outcome"] == "loaded" and case.forged:
            found.valid[case.kind] += 1
        elif line["outcome"] == "loaded":
            found.loaded.append(f"{case.kind} (file {line['place']})")
        else:
            found.others.append(f"{case.kind} (file {line['place']}): {line['outcome']}")
    done = start + sum("place" in line for line in lines)
    if done < len(cases):
        found.crashed.append(
            f"{cases[done].kind} (file {done}): the child ended with {ran.returncode}:"
            f" {ran.stderr[-300:]}"
        )
        return done + 1
    return done
