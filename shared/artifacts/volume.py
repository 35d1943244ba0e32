"""Files on the shared volume: bounded reads of regular files, durable and atomic writes.

Invariant: a read never blocks, never maps a file and never takes more than its limit; a file or
folder appears under its name only when its content is on the disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from shared.errors import ArtifactMissing, ArtifactRefused


def read_file(path: Path, limit: int, *, exactly: bool = False) -> bytes:
    """Read a regular file of at most limit bytes.

    exactly : of exactly limit bytes
    raises  : ArtifactMissing, ArtifactRefused
    """
    try:
        # Without these flags, a pipe without a writer would block, and a terminal could become the
        # controlling one.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            about = os.fstat(handle)
            check_file(about, path.name, limit, exactly)
            with open(handle, "rb", closefd=False) as file:
                data = file.read(about.st_size + 1)
        finally:
            os.close(handle)
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path} does not exist") from error
    except OSError as error:
        raise ArtifactRefused(f"{path.name}: it cannot be read: {error}") from error
    if len(data) != about.st_size:
        raise ArtifactRefused(f"{path.name}: its size changed while it was read")
    return data


def check_file(about: os.stat_result, name: str, limit: int, exactly: bool) -> None:
    """Refuse anything but a regular file of at most, or exactly, limit bytes."""
    if not stat.S_ISREG(about.st_mode):
        raise ArtifactRefused(f"{name}: it is not a regular file")
    if exactly and about.st_size != limit:
        raise ArtifactRefused(f"{name}: size: {about.st_size} bytes, the manifest says {limit}")
    if about.st_size > limit:
        raise ArtifactRefused(f"{name}: it is larger than {limit} bytes")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Create a folder with these files; everything is on the disk when it returns."""
    folder.mkdir()
    for name, content in files.items():
        write_file(folder / name, content)
    sync_folder(folder)


def replace_file(models_dir: Path, path: Path, content: bytes) -> None:
    """Replace a file's content atomically."""
    temporary = models_dir / f".{path.name}.{os.urandom(6).hex()}.tmp"
    try:
        write_file(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Create a file; its content is on the disk when it returns."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
