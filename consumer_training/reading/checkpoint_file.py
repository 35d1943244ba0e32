"""The file from which a training that was killed continues to read.

Invariant: what is read from a checkpoint on gives the same sample as the whole read. A file of
           another topic, of other settings or of another version is refused, and so is one that is
           damaged; with models.sign_key, also one that was not written with that key.

File: magic, 8-byte header length, header (JSON), arrays end to end, keyed BLAKE2b of all before it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.errors import LapwingError

NAME = "training.checkpoint"
MAGIC = b"LAPTRN01"
MOST_HEADER_BYTES = 64 << 20
MOST_BYTES = 2 << 30
"""Larger files are refused before they are read; the state of 10,000 series has 340 MB."""

_DIGEST_BYTES = 32
_MOST_DIMENSIONS = 3
_DTYPES = {"<i8", "<i4", "<f8", "<f4", "<u8", "|u1"}

Arrays = dict[str, npt.NDArray[Any]]


class CheckpointRefused(LapwingError):
    """A checkpoint does not fit; training reads from the start of the log."""


class Saved(NamedTuple):
    """How far a training has read.

    origin : what the checkpoint depends on, by name; all of it must be the same
    end    : {partition: offset before which the read ends}
    facts  : the rest of the history, as JSON takes it
    """

    origin: Mapping[str, Any]
    end: Mapping[int, int]
    facts: Mapping[str, Any]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """The checkpoint in a models folder.

    key : secret of the writer; empty = anybody may have written the file
    """

    folder: Path
    key: bytes = b""

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / NAME

    def write(self, saved: Saved) -> int:
        """Replace the checkpoint; return its bytes.

        raises : OSError; the former checkpoint is kept
        """
        temporary = self.folder / f".{NAME}.{os.urandom(6).hex()}.tmp"
        digest, size = self._digest(), 0
        try:
            with temporary.open("wb") as file:
                for piece in _pieces(saved):
                    digest.update(piece)
                    size += file.write(piece)
                size += file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        return size

    def read(self, origin: Mapping[str, Any]) -> Saved | None:
        """Return the checkpoint; None if there is none.

        origin : what the checkpoint has to depend on
        raises : CheckpointRefused
        """
        try:
            if not self.path.is_file():
                return None
            with self.path.open("rb") as file:
                saved = self._read(file)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointRefused(f"{self.path} is damaged: {error}") from error
        for name in sorted(origin.keys() | saved.origin.keys()):
            was, now = saved.origin.get(name), origin.get(name)
            if was != now:
                raise CheckpointRefused(
                    f"{self.path} was written with {name} = {_short(was)}, and now it is"
                    f" {_short(now)}"
                )
        return saved

    def remove(self) -> None:
        """Remove the checkpoint, if there is one."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _digest(self) -> Any:
        return hashlib.blake2b(key=self.key, digest_size=_DIGEST_BYTES)

    def _read(self, file: BinaryIO) -> Saved:
        """Read a file once; nothing of it is used before its digest was compared.

        raises : CheckpointRefused, OSError; ValueError and others where it is not as it is written
        """
        left = os.fstat(file.fileno()).st_size - len(MAGIC) - 8 - _DIGEST_BYTES
        if not 0 <= left <= MOST_BYTES:
            raise ValueError(f"it has {left + len(MAGIC) + 8 + _DIGEST_BYTES} bytes")
        start = file.read(len(MAGIC) + 8)
        length = int.from_bytes(start[len(MAGIC) :], "little")
        if not start.startswith(MAGIC) or length > min(left, MOST_HEADER_BYTES):
            raise ValueError("it is no checkpoint of this version")
        digest, text = self._digest(), file.read(length)
        digest.update(start)
        digest.update(text)
        header = json.loads(text)
        arrays = {}
        left -= length
        for name, dtype, shape in header["arrays"]:
            array = _empty(dtype, shape, left)
            memory = array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")
            if array.nbytes and file.readinto(memory) != array.nbytes:  # type: ignore[attr-defined]
                raise ValueError(f"array {name} is cut short")
            digest.update(memory)
            arrays[str(name)] = array
            left -= array.nbytes
        if left or digest.digest() != file.read():
            why = "it is damaged, or was written without models.sign_key's key"
            raise CheckpointRefused(f"{self.path}: its digest is wrong: {why}")
        end = {int(number): int(offset) for number, offset in header["end"].items()}
        return Saved(dict(header["origin"]), end, dict(header["facts"]), arrays)


def _pieces(saved: Saved) -> Iterator[bytes | memoryview]:
    arrays = {name: np.ascontiguousarray(array) for name, array in saved.arrays.items()}
    header = json.dumps(
        {
            "origin": saved.origin,
            "end": {str(number): offset for number, offset in saved.end.items()},
            "facts": saved.facts,
            "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()],
        }
    ).encode()
    yield MAGIC
    yield len(header).to_bytes(8, "little")
    yield header
    for array in arrays.values():
        if array.nbytes:
            yield array.reshape(-1).view(np.uint8).data


def _empty(dtype: Any, shape: Any, most_bytes: int) -> npt.NDArray[Any]:
    """Return an array to read into; raises ValueError where the file does not have its bytes."""
    if dtype not in _DTYPES or any(not isinstance(n, int) or n < 0 for n in shape):
        raise ValueError(f"an array is {dtype} {shape}")
    size = np.dtype(dtype).itemsize * math.prod(shape)
    if size > most_bytes or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"an array of {size} bytes is longer than the file")
    return np.empty(shape, dtype)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
