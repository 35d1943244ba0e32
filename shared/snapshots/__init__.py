"""Snapshots: a partition's state in files, so that a restart replays little.

Invariant: a snapshot is only a cache of what replaying the log would compute. One that fails a
check is skipped, never repaired, and writing one never changes what a partition computes.
"""

from shared.snapshots.folder import Restored, SnapshotFolder
from shared.snapshots.frames import decode, encode
from shared.snapshots.writer import SnapshotProgress, SnapshotWriter

__all__ = ["Restored", "SnapshotFolder", "SnapshotProgress", "SnapshotWriter", "decode", "encode"]
