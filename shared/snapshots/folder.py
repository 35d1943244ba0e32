"""The snapshot files: a crash at any moment leaves the older ones whole.

Invariant: a file never changes once it has its name, which contains its digest, so two processes
that write into one folder cannot disturb each other. A delta is applied to exactly the bytes that
it was computed from, or not at all.

Folder : <root>/<cluster>/<topic>-<topic id>/<group>/<partition>/
Base   : v<state version>-<offset>-<digest>.snapshot
Delta  : v<state version>-<offset>-<digest>-<digest of its parent>.snapshot
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.errors import ConfigError, SnapshotRefused
from shared.events import STATE_VERSION
from shared.operations.failpoints import failpoint
from shared.scoring.state import PartitionState
from shared.snapshots.frames import Array, Bytes, ChangeMarks, Frame, overlay, parse, state_of

_NAME = re.compile(r"v(\d+)-(\d{20})-([0-9a-f]{16})(?:-([0-9a-f]{16}))?\.snapshot")
_DIGITS = 16
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The newest snapshot of a chain, which is a base and the deltas on it.

    digest      : SHA-256 of its bytes
    offset      : first offset that it does not contain
    marks       : what later changes are detected by
    base_bytes  : size of the base
    delta_bytes : size of all deltas
    deltas      : number of deltas
    """

    digest: str
    offset: int
    marks: ChangeMarks
    base_bytes: int
    delta_bytes: int = 0
    deltas: int = 0


class Restored(NamedTuple):
    """The result of restoring a partition.

    state   : None = no snapshot fits
    head    : the snapshot that the next delta builds on
    refused : why newer snapshots were skipped, one sentence each
    """

    state: PartitionState | None
    head: ChainHead | None
    refused: list[str]


class _Entry(NamedTuple):
    """A snapshot file as its name describes it; ``parent`` is empty for a base."""

    version: int
    offset: int
    digest: str
    parent: str
    path: Path


@dataclass(frozen=True, slots=True)
class SnapshotFolder:
    """The snapshots of one group on one topic.

    keep            : bases, with their deltas, that are kept for each partition
    checkpoint_days : days for which the first base of each day (UTC, as the files' times say) is
                      kept as well, so that verdicts of that day can be explained
    """

    root: Path
    cluster_id: str
    topic: str
    topic_id: str
    group: str
    keep: int = 3
    checkpoint_days: int = 0

    def partition(self, partition: int) -> Path:
        """Return the folder of one partition's snapshots."""
        topic = f"{self.topic}-{self.topic_id}" if self.topic_id else self.topic
        return (
            self.root / _safe(self.cluster_id) / _safe(topic) / _safe(self.group) / str(partition)
        )

    def store(self, partition: int, frame: Frame) -> tuple[str, int]:
        """Write a frame durably, then remove files that are no longer needed.

        Blocks until the disk has written it.

        returns : (its digest, its size in bytes)
        raises  : ConfigError when the folder cannot be written; SnapshotRefused when the parent of
                  a delta is missing
        """
        folder = self.partition(partition)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if frame.parent:
                self._check_parent(partition, frame.parent[:_DIGITS])
            digest, size_bytes = _write_durably(folder, frame)
            failpoint("after_snapshot")
            self._remove_old(partition, frame.next_offset, digest)
        except OSError as error:
            raise ConfigError(f"state_dir {self.root} cannot be written: {error}") from error
        return digest, size_bytes

    def restore(self, partition: int, at_most: int, base: int) -> Restored:
        """Restore the newest valid snapshot at or below an offset that has the given base."""
        entries = {
            entry.digest: entry
            for entry in self._entries(partition)
            if entry.version == STATE_VERSION
        }
        candidates = [entry for entry in entries.values() if entry.offset <= at_most]
        candidates.sort(
            key=lambda entry: (entry.offset, not entry.parent, entry.digest), reverse=True
        )
        refused: list[str] = []
        bad: set[str] = set()
        for newest in candidates:
            try:
                chain = _chain(newest, entries)
                if bad.isdisjoint(entry.digest for entry in chain):
                    return _restored(chain, base, bad, refused)
            except (SnapshotRefused, MemoryError) as error:
                bad.add(newest.digest)
                refused.append(f"{newest.path.name}: {error}")
        return Restored(None, None, refused)

    def newer(self, partition: int, base: int, at_most: int) -> Path | None:
        """Return a snapshot at base..at_most that a newer version of this code wrote, else None."""
        found = [
            entry
            for entry in self._entries(partition)
            if entry.version > STATE_VERSION and base < entry.offset <= at_most
        ]
        if not found:
            return None
        return max(found, key=lambda entry: (entry.version, entry.offset, entry.digest)).path

    def earlier_topic(self) -> Path | None:
        """Return a folder of the group's snapshots of a deleted topic of the same name, else None.

        Without topic ids there is none.
        """
        own = self.partition(0).parents[1]
        if not self.topic_id or not own.parent.is_dir():
            return None
        name = re.compile(rf"{re.escape(self.topic)}-\w{{{len(self.topic_id)}}}(-[0-9a-f]{{8}})?")
        for topic in sorted(own.parent.iterdir()):
            if topic == own or not name.fullmatch(topic.name):
                continue
            group = topic / _safe(self.group)
            if any(_NAME.fullmatch(path.name) for path in group.glob("*/*")):
                return group
        return None

    def _checkpoints(self, leaving: Sequence[_Entry]) -> set[str]:
        """Return which of the files that would be removed stay: a day's first base."""
        if not self.checkpoint_days:
            return set()
        bases = [one for one in leaving if not one.parent and one.version == STATE_VERSION]
        days = {one.digest: _days_of(one.path) for one in bases}
        newest = max(days.values(), default=0.0)
        first: dict[int, str] = {}
        for one in sorted(bases, key=lambda one: one.offset):
            day = days[one.digest]
            if newest - day <= self.checkpoint_days:
                first.setdefault(int(day), one.digest)
        return set(first.values())

    def _entries(self, partition: int) -> Iterator[_Entry]:
        folder = self.partition(partition)
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield _Entry(int(match[1]), int(match[2]), match[3], match[4] or "", path)

    def _check_parent(self, partition: int, parent: str) -> None:
        if all(entry.digest != parent for entry in self._entries(partition)):
            raise SnapshotRefused(
                f"{self.partition(partition)}: the parent snapshot {parent} is missing"
            )

    def _remove_old(self, partition: int, offset: int, digest: str) -> None:
        """Remove chains beyond ``keep`` and the leftovers of other versions and of crashes.

        A file with a later offset than our own is never removed.
        """
        entries = {entry.digest: entry for entry in self._entries(partition)}
        chains: dict[str, list[_Entry]] = {}
        for entry in entries.values():
            chains.setdefault(_root(entry, entries), []).append(entry)
        chains.pop(_root(entries[digest[:_DIGITS]], entries))
        older = [
            chain
            for root, chain in chains.items()
            if root and max(entry.offset for entry in chain) <= offset
        ]
        older.sort(
            key=lambda chain: max(
                (entry.version == STATE_VERSION, entry.offset) for entry in chain
            ),
            reverse=True,
        )
        leaving = older[self.keep - 1 :]
        kept = self._checkpoints([entry for chain in leaving for entry in chain])
        for chain in [*leaving, chains.get("", [])]:
            for entry in sorted(chain, key=lambda entry: bool(entry.parent), reverse=True):
                if entry.offset <= offset and entry.digest not in kept:
                    entry.path.unlink(missing_ok=True)
        for path in self.partition(partition).glob("*.tmp"):
            path.unlink(missing_ok=True)


def _days_of(path: Path) -> float:
    """Return when a file was written, days since 1970 UTC; -inf where it is gone."""
    try:
        return path.stat().st_mtime / _DAY_S
    except FileNotFoundError:
        return -float("inf")


def _chain(newest: _Entry, entries: dict[str, _Entry]) -> list[_Entry]:
    """Return the files from the base up to an entry."""
    chain = [newest]
    while chain[-1].parent:
        before = entries.get(chain[-1].parent)
        if before is None or before in chain:
            raise SnapshotRefused(f"its parent snapshot {chain[-1].parent} is missing")
        chain.append(before)
    return chain[::-1]


def _root(entry: _Entry, entries: dict[str, _Entry]) -> str:
    """Return the digest of the base that an entry builds on; empty = the base is missing."""
    try:
        return _chain(entry, entries)[0].digest
    except SnapshotRefused:
        return ""


def _restored(chain: list[_Entry], base: int, bad: set[str], refused: list[str]) -> Restored:
    """Apply a chain; the first file that does not fit is added to ``bad``."""
    arrays: dict[str, Array] = {}
    before: Frame | None = None
    sizes = []
    for entry in chain:
        try:
            data = _read(entry.path)
            frame = _checked(parse(data), entry, before, base)
            arrays = overlay(arrays, frame)
        except (SnapshotRefused, OSError) as error:
            bad.add(entry.digest)
            reason = str(error)
            if entry is not chain[-1]:
                reason = f"it builds on {entry.path.name}: {reason}"
            raise SnapshotRefused(reason) from error
        sizes.append(len(data))
        before = frame
    state = state_of(frame, arrays)
    head = ChainHead(
        frame.digest,
        frame.next_offset,
        ChangeMarks.of(state, state.to_arrays()),
        sizes[0],
        sum(sizes[1:]),
        len(sizes) - 1,
    )
    return Restored(state, head, refused)


def _checked(frame: Frame, entry: _Entry, before: Frame | None, base: int) -> Frame:
    if frame.header["base"] != base:
        raise SnapshotRefused(
            f"its history begins at offset {frame.header['base']}, the group's at {base}"
        )
    if not frame.digest.startswith(entry.digest) or frame.next_offset != entry.offset:
        raise SnapshotRefused("its name does not match its content")
    parent = before.digest if before else ""
    goes_back = before is not None and before.next_offset > frame.next_offset
    if frame.parent != parent or goes_back:
        raise SnapshotRefused("it builds on another snapshot")
    return frame


def _read(path: Path) -> Bytes:
    """Read a file into writable memory."""
    with path.open("rb", buffering=0) as file:
        data = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        read = 0
        while read < len(data):
            count = file.readinto(data.data[read:])
            if not count:
                raise SnapshotRefused("it was truncated while it was read")
            read += count
    return data


def _write_durably(folder: Path, frame: Frame) -> tuple[str, int]:
    temporary = folder / f"{os.urandom(8).hex()}.tmp"
    digest = hashlib.sha256()
    try:
        with temporary.open("wb", buffering=0) as file:
            for piece in frame.pieces():
                digest.update(piece)
                _write_all(file.fileno(), piece)
            failpoint("mid_snapshot")
            _write_all(file.fileno(), digest.digest())
            os.fsync(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
        temporary.replace(folder / _name(frame, digest.hexdigest()))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
    return digest.hexdigest(), size_bytes


def _write_all(file: int, piece: bytes | memoryview) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(file, rest) :]


def _name(frame: Frame, digest: str) -> str:
    name = f"v{STATE_VERSION}-{frame.next_offset:020d}-{digest[:_DIGITS]}"
    return f"{name}-{frame.parent[:_DIGITS]}.snapshot" if frame.parent else f"{name}.snapshot"


def _safe(name: str) -> str:
    """Make a name usable as a folder's, different for different names."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "_"
    if plain == name and name.strip("."):
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
