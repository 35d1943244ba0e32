"""The files of snapshots: written so that a crash at any moment leaves the older ones whole, read
                        newest first.

Law: a file never changes once it has its name, which holds its digest, so two processes that write
     into one folder cannot
disturb each other; a delta is applied to the very bytes that it was made from, or not at all.

Layout: <root>/<cluster>/<topic>-<topic id>/<group>/<partition>/v<state version>-<offset>-<digest>.snapshot
        and, for what has changed since another file,             v<state version>-<offset>-<digest>-<its digest>.snapshot
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.errors import ConfigError, SnapshotRefused
from shared.events import STATE_VERSION
from shared.failpoints import failpoint
from shared.scoring.state import PartitionState
from shared.snapshots.frames import Array, Bytes, Frame, Marks, overlay, parse, state_of

_NAME = re.compile(r"v(\d+)-(\d{20})-([0-9a-f]{16})(?:-([0-9a-f]{16}))?\.snapshot")
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Tip:
    """The newest snapshot of a chain: a base and the deltas on it.

    digest      : SHA-256 of its bytes
    offset      : first offset that is not in it
    marks       : how the state was
    base_bytes  : size of the base
    delta_bytes : size of all deltas
    deltas      : how many there are
    """

    digest: str
    offset: int
    marks: Marks
    base_bytes: int
    delta_bytes: int = 0
    deltas: int = 0


class Restored(NamedTuple):
    """What the snapshots of a partition gave.

    state   : None = there is none that fits
    tip     : where the next snapshot goes on
    refused : why newer ones were passed over
    """

    state: PartitionState | None
    tip: Tip | None
    refused: list[str]


class _Entry(NamedTuple):
    """A file by its name; ``parent`` is empty for a base."""

    version: int
    offset: int
    digest: str
    parent: str
    path: Path


@dataclass(frozen=True, slots=True)
class SnapshotFolder:
    """The snapshots of one group's partitions of one topic; of each partition, ``keep`` bases with
    their deltas stay.
    """

    root: Path
    cluster_id: str
    topic: str
    topic_id: str
    group: str
    keep: int = 3

    def partition(self, partition: int) -> Path:
        """Return the folder of one partition's snapshots."""
        topic = f"{self.topic}-{self.topic_id}" if self.topic_id else self.topic
        return (
            self.root / _safe(self.cluster_id) / _safe(topic) / _safe(self.group) / str(partition)
        )

    def store(self, partition: int, frame: Frame) -> tuple[str, int]:
        """Write a frame durably, then remove what is no longer needed; takes as long as the disk
        does.

        returns : (its digest, its size in bytes)
        raises  : ConfigError when the folder cannot be written; SnapshotRefused when the parent of
                  a delta is gone
        """
        folder = self.partition(partition)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if frame.parent and not any(
                entry.digest == frame.parent[:_DIGITS] for entry in self._entries(partition)
            ):
                raise SnapshotRefused(
                    f"{folder}: the snapshot {frame.parent[:_DIGITS]} that it goes on from is gone"
                )
            digest, size_bytes = _write_durably(folder, frame)
            failpoint("after_snapshot")
            self._clear_away(partition, frame.next_offset, digest)
        except OSError as error:
            raise ConfigError(f"state_dir {self.root} cannot be written: {error}") from error
        return digest, size_bytes

    def restore(self, partition: int, at_most: int, base: int) -> Restored:
        """Restore the newest valid snapshot at or below an offset and of the same base."""
        entries = {
            entry.digest: entry
            for entry in self._entries(partition)
            if entry.version == STATE_VERSION
        }
        refused: list[str] = []
        bad: set[str] = set()
        for newest in sorted(
            entries.values(),
            key=lambda entry: (entry.offset, not entry.parent, entry.digest),
            reverse=True,
        ):
            if newest.offset > at_most:
                continue
            try:
                chain = _chain(newest, entries)
                if bad.isdisjoint(entry.digest for entry in chain):
                    return _restored(chain, base, bad, refused)
            except (SnapshotRefused, MemoryError) as error:
                bad.add(newest.digest)
                refused.append(f"{newest.path.name}: {error}")
        return Restored(None, None, refused)

    def newer(self, partition: int, base: int, at_most: int) -> Path | None:
        """Return a snapshot that a newer version of this code has written of the history between
        base and an offset.
        """
        found = [
            e
            for e in self._entries(partition)
            if e.version > STATE_VERSION and base < e.offset <= at_most
        ]
        return (
            max(found, key=lambda entry: (entry.version, entry.offset, entry.digest)).path
            if found
            else None
        )

    def earlier_topic(self) -> Path | None:
        """Return a folder with the group's snapshots of a deleted topic of the same name; None
        without topic ids.
        """
        own = self.partition(0).parents[1]
        name = re.compile(rf"{re.escape(self.topic)}-\w{{{len(self.topic_id)}}}(-[0-9a-f]{{8}})?")
        for topic in sorted(own.parent.iterdir()) if self.topic_id and own.parent.is_dir() else ():
            group = topic / _safe(self.group)
            if (
                topic != own
                and name.fullmatch(topic.name)
                and any(_NAME.fullmatch(path.name) for path in group.glob("*/*"))
            ):
                return group
        return None

    def _entries(self, partition: int) -> Iterator[_Entry]:
        folder = self.partition(partition)
        for path in folder.iterdir() if folder.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                yield _Entry(int(match[1]), int(match[2]), match[3], match[4] or "", path)

    def _clear_away(self, partition: int, offset: int, digest: str) -> None:
        """Remove older chains beyond ``keep``, what other versions and crashes left, never what is
        newer than our own.
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
        for chain in [*older[self.keep - 1 :], chains.get("", [])]:
            for entry in sorted(chain, key=lambda entry: bool(entry.parent), reverse=True):
                if entry.offset <= offset:
                    entry.path.unlink(missing_ok=True)
        for path in self.partition(partition).glob("*.tmp"):
            path.unlink(missing_ok=True)


def _chain(newest: _Entry, entries: dict[str, _Entry]) -> list[_Entry]:
    """The files from the base up to an entry."""
    chain = [newest]
    while chain[-1].parent:
        before = entries.get(chain[-1].parent)
        if before is None or before in chain:
            raise SnapshotRefused(f"the snapshot {chain[-1].parent} that it goes on from is gone")
        chain.append(before)
    return chain[::-1]


def _root(entry: _Entry, entries: dict[str, _Entry]) -> str:
    """Digest of the base that an entry builds on, empty = it is gone."""
    try:
        return _chain(entry, entries)[0].digest
    except SnapshotRefused:
        return ""


def _restored(chain: list[_Entry], base: int, bad: set[str], refused: list[str]) -> Restored:
    """Apply a chain; the first file that does not fit is named as bad."""
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
            raise SnapshotRefused(
                str(error) if entry is chain[-1] else f"it builds on {entry.path.name}: {error}"
            ) from error
        sizes.append(len(data))
        before = frame
    state = state_of(frame, arrays)
    tip = Tip(
        frame.digest,
        frame.next_offset,
        Marks.of(state, state.to_arrays()),
        sizes[0],
        sum(sizes[1:]),
        len(sizes) - 1,
    )
    return Restored(state, tip, refused)


def _checked(frame: Frame, entry: _Entry, before: Frame | None, base: int) -> Frame:
    if frame.header["base"] != base:
        raise SnapshotRefused(
            f"it begins at offset {frame.header['base']}, the group's history at {base}"
        )
    if not frame.digest.startswith(entry.digest) or frame.next_offset != entry.offset:
        raise SnapshotRefused("its name is another's")
    if frame.parent != (before.digest if before else "") or (
        before and before.next_offset > frame.next_offset
    ):
        raise SnapshotRefused("it goes on from another snapshot")
    return frame


def _read(path: Path) -> Bytes:
    """Read a file into memory that may be written to."""
    with path.open("rb", buffering=0) as file:
        data = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        place = 0
        while place < len(data):
            count = file.readinto(data.data[place:])
            if not count:
                raise SnapshotRefused("it ended while it was read")
            place += count
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
    """Make a name fit for a folder without letting two names meet."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "_"
    return (
        plain
        if plain == name and name.strip(".")
        else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )
