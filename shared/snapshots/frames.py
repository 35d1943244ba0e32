"""The bytes of a snapshot: a whole state (a base), or its changes since a snapshot (a delta).

Invariant: equal states give equal bytes, whatever the capacity of their arrays. Bytes that fail a
check are refused, and the error names the check.

File: magic, 8-byte header length, header (JSON), arrays end to end, SHA-256 of all before it.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.ensemble.fold import EnsembleState
from shared.errors import SnapshotRefused
from shared.events import STATE_VERSION, Activation
from shared.scoring.state import PartitionState

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_MAGIC = b"LAPWING2"
_HASH_BYTES = 32
_DTYPES = {"<i8", "<i4", "<f8", "|u1"}
_MAX_HEADER_BYTES = 16 << 20
_ALIGNED = 64
_PAGE = 4096

_ENTITIES, _SLOTS = "@entities", "@slots"
_BY_ROW = {
    "ensemble_entities": _ENTITIES,
    "ensemble_metrics": _SLOTS,
    "quality_presence": _ENTITIES,
    "quality_series": _SLOTS,
    "ring": _SLOTS,
}
"""The large arrays, of which a delta contains only the changed rows.

All other arrays are in each delta as a whole.
"""


@dataclass(frozen=True, slots=True)
class ChangeMarks:
    """What changed rows of the large arrays are detected by, taken when a snapshot is copied.

    Whatever changes these arrays also changes its entity's ``moves``, or the slot's.

    moves, slot_moves : int64 (P,), int64 (S,)   copies
    ensemble          : the object in use; a detector without online members replaces it
    complete          : large arrays that had a row for each entity or slot
    """

    moves: Ints
    slot_moves: Ints
    ensemble: weakref.ref[EnsembleState]
    complete: frozenset[str]

    @classmethod
    def of(cls, state: PartitionState, arrays: dict[str, Array]) -> ChangeMarks:
        """Take the marks of a state; ``arrays`` are those of its ``to_arrays``."""
        return cls(
            state.places.moves[: state.places_used].copy(),
            state.places.slot_moves[: state.slots_used].copy(),
            weakref.ref(state.ensemble),
            _complete(state, arrays),
        )

    def changed(self, state: PartitionState) -> dict[str, Ints]:
        """Return the places and the slots that may have changed since, increasing; O(P + S)."""
        moved = _differ(state.places.moves[: state.places_used], self.moves)
        table = state.places.slots[: state.places_used][moved]
        slots = _differ(state.places.slot_moves[: state.slots_used], self.slot_moves)
        slots[table[table >= 0]] = True
        return {_ENTITIES: np.flatnonzero(moved), _SLOTS: np.flatnonzero(slots)}

    def by_row(self, state: PartitionState, arrays: dict[str, Array]) -> dict[str, str]:
        """Return the large arrays that a delta may store by row, with their index names."""
        same = _complete(state, arrays) & self.complete
        return {
            name: _BY_ROW[name]
            for name in same
            if not name.startswith("ensemble") or self.ensemble() is state.ensemble
        }


def _differ(now: Ints, before: Ints) -> npt.NDArray[np.bool_]:
    """Return where an array differs from what it was; whatever is new differs."""
    differs = np.ones(len(now), np.bool_)
    both = min(len(now), len(before))
    differs[:both] = now[:both] != before[:both]
    return differs


def _complete(state: PartitionState, arrays: dict[str, Array]) -> frozenset[str]:
    lengths = {_ENTITIES: state.places_used, _SLOTS: state.slots_used}
    return frozenset(name for name, index in _BY_ROW.items() if len(arrays[name]) == lengths[index])


class CopyBuffer:
    """Reused memory for copies: touching fresh pages costs more than the copy itself."""

    def __init__(self) -> None:
        self._memory: Bytes = np.empty(0, np.uint8)
        self._used = 0

    @property
    def size_bytes(self) -> int:
        """Return the capacity."""
        return len(self._memory)

    def grow(self, size_bytes: int) -> None:
        """Release all arrays, and allocate size_bytes and a quarter more; touches every page."""
        self._memory = np.empty(0, np.uint8)
        self._memory = np.empty(size_bytes + size_bytes // 4, np.uint8)
        self._memory[::_PAGE] = 0

    def clear(self) -> None:
        """Release all arrays."""
        self._used = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an uninitialised array."""
        size = int(np.prod(shape)) * dtype.itemsize
        taken = self._memory[self._used : self._used + size].view(dtype).reshape(shape)
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return taken


@dataclass(frozen=True, slots=True)
class Frame:
    """A snapshot as its header and its stored arrays, in the order of the header's list.

    digest : SHA-256 of the bytes; empty = not written yet
    """

    header: dict[str, Any]
    stored: dict[str, Array]
    digest: str = ""

    @property
    def next_offset(self) -> int:
        """Return the first offset that it does not contain."""
        return int(self.header["next_offset"])

    @property
    def parent(self) -> str:
        """Return the digest of the snapshot that it builds on; empty = it is a base."""
        return str(self.header["parent"])

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes without the SHA-256 at the end."""
        text = json.dumps(self.header, sort_keys=True, separators=(",", ":")).encode()
        yield _MAGIC + len(text).to_bytes(8, "big") + text
        for array in self.stored.values():
            if array.size:
                yield array.reshape(-1).view(np.uint8).data


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a state that a snapshot stores: whole arrays, or rows of the large ones.

    arrays : views that the next batch changes
    rows   : int64 (k,)  by name of an index; empty = all arrays as a whole
    by     : array -> index of its rows
    """

    state: PartitionState
    arrays: dict[str, Array]
    rows: dict[str, Ints] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, state: PartitionState, since: ChangeMarks | None = None) -> Selection:
        """Select what has changed, or all."""
        arrays = dict(sorted(state.to_arrays().items()))
        if since is None:
            return cls(state, arrays)
        return cls(state, arrays, since.changed(state), since.by_row(state, arrays))

    @property
    def size_bytes(self) -> int:
        """Return how many bytes a copy of it takes at most."""
        size = sum(rows.nbytes for rows in self.rows.values()) + len(self.arrays) * _ALIGNED
        for name, array in self.arrays.items():
            if name in self.by:
                size += array[:1].nbytes * len(self.rows[self.by[name]])
            else:
                size += array.nbytes
        return size

    def frame(self, parent: str = "", buffer: CopyBuffer | None = None) -> Frame:
        """Return it as a frame.

        buffer : receives the copy; None = nothing is copied, and the state must not change until
                 the frame is written
        """
        if buffer:
            buffer.clear()
        stored: dict[str, Array] = dict(self.rows)
        layout = [[name, rows.dtype.str, list(rows.shape), ""] for name, rows in self.rows.items()]
        for name, array in self.arrays.items():
            index = self.by.get(name, "")
            layout.append([name, array.dtype.str, list(array.shape), index])
            stored[name] = _copied(array, self.rows[index] if index else None, buffer)
        header = {
            "state_version": STATE_VERSION,
            "base": self.state.base,
            "next_offset": self.state.next_offset,
            "activation": asdict(self.state.activation) if self.state.activation else None,
            "metrics": self.state.metric_names(),
            "parent": parent,
            "arrays": layout,
        }
        return Frame(header, stored)


def _copied(array: Array, rows: Ints | None, buffer: CopyBuffer | None) -> Array:
    if rows is None and buffer is None:
        return array
    shape = array.shape if rows is None else (len(rows), *array.shape[1:])
    copy = buffer.take(shape, array.dtype) if buffer else np.empty(shape, array.dtype)
    if rows is None:
        np.copyto(copy, array)
    elif len(rows):
        np.take(array, rows, axis=0, out=copy, mode="clip")
    return copy


def encode(state: PartitionState) -> bytes:
    """Write a state as the bytes of a base; equal states give equal bytes."""
    body = b"".join(bytes(piece) for piece in Selection.of(state).frame().pieces())
    return body + hashlib.sha256(body).digest()


def decode(data: bytes) -> PartitionState:
    """Read a state from the bytes of a base.

    raises : SnapshotRefused that names the check
    """
    frame = parse(np.frombuffer(data, np.uint8))
    return state_of(frame, overlay({}, frame))


def parse(data: Bytes) -> Frame:
    """Read a frame; its arrays are views of the bytes.

    raises : SnapshotRefused that names the check
    """
    if len(data) < len(_MAGIC) + 8 + _HASH_BYTES or data[: len(_MAGIC)].tobytes() != _MAGIC:
        raise SnapshotRefused("it is not a snapshot, or is truncated")
    body = data[:-_HASH_BYTES]
    digest = hashlib.sha256(body.data)
    if digest.digest() != data[-_HASH_BYTES:].tobytes():
        raise SnapshotRefused("its SHA-256 does not match its content")
    try:
        header, start = _header(body)
        stored = _stored_arrays(body, start, header["arrays"])
        if not isinstance(header["parent"], str):
            raise SnapshotRefused(f"its parent is {header['parent']!r}, not a digest")
        if header["base"] > header["next_offset"]:
            raise SnapshotRefused(
                f"its offsets are {header['base']} to {header['next_offset']}, not increasing"
            )
        return Frame(header, stored, digest.hexdigest())
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotRefused(f"its content is inconsistent: {error}") from error


def _stored_arrays(body: Bytes, start: int, layout: list[Any]) -> dict[str, Array]:
    """Return views of the arrays that lie in ``body`` from ``start`` to its end."""
    stored: dict[str, Array] = {}
    for name, dtype, shape, index in layout:
        if dtype not in _DTYPES or any(length < 0 for length in shape):
            raise SnapshotRefused(f"array {name} has dtype {dtype} and shape {shape}")
        stored_shape = [len(stored[index]), *shape[1:]] if index else shape
        size_bytes = int(np.prod(stored_shape, dtype=object)) * np.dtype(dtype).itemsize
        end = start + size_bytes
        if end > len(body):
            raise SnapshotRefused(f"array {name} is longer than the file")
        stored[name] = body[start:end].view(dtype).reshape(stored_shape)
        start = end
    if start != len(body):
        raise SnapshotRefused(f"{len(body) - start} bytes are left over after the last array")
    return stored


def overlay(arrays: dict[str, Array], frame: Frame) -> dict[str, Array]:
    """Apply a frame to a state's arrays, which it may overwrite, and return the result.

    raises : SnapshotRefused when the frame does not fit them
    """
    after: dict[str, Array] = {}
    for name, dtype, shape, index in frame.header["arrays"]:
        if name in (_ENTITIES, _SLOTS):
            continue
        if not index:
            after[name] = frame.stored[name]
            continue
        before = arrays.get(name)
        if before is None or before.dtype != dtype or list(before.shape[1:]) != shape[1:]:
            raise SnapshotRefused(f"array {name} does not fit the parent snapshot's")
        rows = frame.stored[index]
        grown = _with_new_rows(name, before, rows, shape)
        grown[rows] = frame.stored[name]
        after[name] = grown
    return after


def _with_new_rows(name: str, before: Array, rows: Array, shape: list[int]) -> Array:
    """Return an array with as many rows as after a delta; the same one if it adds none.

    The last rows may be gone, too.
    """
    before = before[: shape[0]]
    new = int((rows >= len(before)).sum())
    increases = rows.dtype == np.int64 and bool((np.diff(rows, prepend=-1) > 0).all())
    if not increases or (rows >= shape[0]).any() or len(before) + new != shape[0]:
        raise SnapshotRefused(f"the rows of array {name} do not fit the parent snapshot's")
    if not new:
        return before
    grown = np.empty(shape, before.dtype)
    grown[: len(before)] = before
    return grown


def state_of(frame: Frame, arrays: dict[str, Array]) -> PartitionState:
    """Rebuild the state after a frame.

    raises : SnapshotRefused when header and arrays are inconsistent
    """
    header = frame.header
    try:
        activation = Activation(**header["activation"]) if header["activation"] else None
        return PartitionState.from_arrays(
            arrays, header["metrics"], header["base"], frame.next_offset, activation
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotRefused(f"its content is inconsistent: {error}") from error


def _header(body: Bytes) -> tuple[dict[str, Any], int]:
    start = len(_MAGIC) + 8
    size = int.from_bytes(body[len(_MAGIC) : start].tobytes(), "big")
    if size > min(_MAX_HEADER_BYTES, len(body) - start):
        raise SnapshotRefused(f"its header states a length of {size} bytes, more than there are")
    header = json.loads(body[start : start + size].tobytes())
    if header["state_version"] != STATE_VERSION:
        raise SnapshotRefused(
            f"its state version is {header['state_version']}, this code needs {STATE_VERSION}"
        )
    return header, start + size
