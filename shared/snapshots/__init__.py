"""Snapshots: a partition's state in files, so that a restart replays little.

Law: a snapshot is only a cache of the fold. One that fails any check is passed over, never
     repaired; writing one never changes
what a partition computes.
"""

from shared.snapshots.folder import Restored, SnapshotFolder
from shared.snapshots.frames import decode, encode
from shared.snapshots.writer import SnapshotWriter, Trail

__all__ = ["Restored", "SnapshotFolder", "SnapshotWriter", "Trail", "decode", "encode"]
