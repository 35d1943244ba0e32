"""Snapshots: a partition's state in a file, so that a restart replays little.

Law: a snapshot is only a cache of the fold. One that fails any check is passed over, never repaired; writing one never changes
what a partition computes.

Layout: <root>/<cluster>/<topic>-<topic id>/<group>/<partition>/v<state version>-<offset>.snapshot
File:   magic, 8-byte header length, header (JSON), arrays end to end, SHA-256 of all before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import ConfigError, SnapshotRefused
from shared.events import STATE_VERSION, Activation
from shared.state import PartitionState

_MAGIC = b"LAPWING1"
_NAME = re.compile(r"v(\d+)-(\d{20})\.snapshot")
_DTYPES = {"<i8", "<i4", "<f8", "|u1"}
_MAX_HEADER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class SnapshotFolder:
    """The snapshots of one group's partitions of one topic."""

    root: Path
    cluster_id: str
    topic: str
    topic_id: str
    group: str
    keep: int = 3

    def partition(self, partition: int) -> Path:
        """Return the folder of one partition's snapshots."""
        topic = f"{self.topic}-{self.topic_id}" if self.topic_id else self.topic
        return self.root / _safe(self.cluster_id) / _safe(topic) / _safe(self.group) / str(partition)

    def write(self, partition: int, state: PartitionState) -> Path:
        """Write the state as it stands; the newest ``keep`` files stay.

        raises : ConfigError when the folder cannot be written
        """
        folder = self.partition(partition)
        path = folder / f"v{STATE_VERSION}-{state.next_offset:020d}.snapshot"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_durably(path, encode(state))
            for old in list(self._newest_first(partition, state.next_offset))[self.keep :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"state_dir {self.root} cannot be written: {error}") from error
        return path

    def newest(self, partition: int, at_most: int, base: int) -> tuple[PartitionState | None, list[str]]:
        """Restore the newest valid snapshot at or below an offset and of the same base.

        returns : (state or None, why newer ones were passed over)
        """
        refused = []
        for path in self._newest_first(partition, at_most):
            try:
                state = decode(path.read_bytes())
                if state.base != base:
                    raise SnapshotRefused(f"it begins at offset {state.base}, the group's history at {base}")
            except (SnapshotRefused, OSError) as error:
                refused.append(f"{path.name}: {error}")
            else:
                return state, refused
        return None, refused

    def _newest_first(self, partition: int, at_most: int) -> Iterator[Path]:
        folder = self.partition(partition)
        found = []
        for path in folder.iterdir() if folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match and int(match[1]) == STATE_VERSION and int(match[2]) <= at_most:
                found.append(path)
        yield from sorted(found, key=lambda path: path.name, reverse=True)


def encode(state: PartitionState) -> bytes:
    """Write a state as bytes; equal states give equal bytes."""
    arrays = state.to_arrays()
    header = {
        "state_version": STATE_VERSION,
        "base": state.base,
        "next_offset": state.next_offset,
        "activation": asdict(state.activation) if state.activation else None,
        "metrics": state.metrics,
        "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in sorted(arrays.items())],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    parts = [_MAGIC, len(text).to_bytes(8, "big"), text, *(arrays[name].tobytes() for name in sorted(arrays))]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def decode(data: bytes) -> PartitionState:
    """Read a state from bytes.

    raises : SnapshotRefused that names the check
    """
    if len(data) < len(_MAGIC) + 40 or not data.startswith(_MAGIC):
        raise SnapshotRefused("it is not a snapshot, or not a whole one")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise SnapshotRefused("its SHA-256 does not match its content")
    try:
        header, place = _header(data)
        arrays = {}
        for name, dtype, shape in header["arrays"]:
            if dtype not in _DTYPES or any(size < 0 for size in shape):
                raise SnapshotRefused(f"array {name} has dtype {dtype} and shape {shape}")
            size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            if place + size > len(data) - 32:
                raise SnapshotRefused(f"array {name} is longer than the file")
            arrays[name] = np.frombuffer(data, dtype, size // np.dtype(dtype).itemsize, place).reshape(shape)
            place += size
        if place != len(data) - 32:
            raise SnapshotRefused("bytes are left over")
        activation = Activation(**header["activation"]) if header["activation"] else None
        return PartitionState.from_arrays(arrays, header["metrics"], header["base"], header["next_offset"], activation)
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotRefused(f"its content does not fit together: {error}") from error


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    start = len(_MAGIC) + 8
    size = int.from_bytes(data[len(_MAGIC) : start], "big")
    if size > min(_MAX_HEADER_BYTES, len(data) - start - 32):
        raise SnapshotRefused(f"its header claims {size} bytes")
    header = json.loads(data[start : start + size])
    if header["state_version"] != STATE_VERSION:
        raise SnapshotRefused(f"it has state version {header['state_version']}, this code {STATE_VERSION}")
    return header, start + size


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(f".{os.urandom(6).hex()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _safe(name: str) -> str:
    """Make a name fit for a folder without letting two names meet."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name) or "_"
    return plain if plain == name and name.strip(".") else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
