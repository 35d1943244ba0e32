"""The bytes of a snapshot: a whole state (a base), or what has changed in it since another snapshot (a
                         delta).

Law: equal states give equal bytes, whatever the capacity; bytes that fail any check are refused by
     name.

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
_BY_ROW = {"ensemble_entities": _ENTITIES, "ensemble_metrics": _SLOTS, "ring": _SLOTS}
"""The large arrays, of which a delta holds some rows only; every other array is in each delta as a
whole.
"""


@dataclass(frozen=True, slots=True)
class Marks:
    """By what to see later which rows of the large arrays have changed.

    Whatever moves these arrays also moves its entity's ``moves``.

    moves             : int64 (E,)   as they were
    slots             : how many there were
    ensemble          : the object that there was; a detector without online members replaces it
    in_step           : large arrays that had a row for each entity or slot
    """

    moves: Ints
    slots: int
    ensemble: weakref.ref[EnsembleState]
    in_step: frozenset[str]

    @classmethod
    def of(cls, state: PartitionState, arrays: dict[str, Array]) -> Marks:
        """Remember how a state is now; its arrays as it gives them."""
        entities = len(state.entities)
        return cls(
            state.moves[:entities].copy(),
            state.slots_used,
            weakref.ref(state.ensemble),
            _in_step(state, arrays),
        )

    def changed(self, state: PartitionState) -> dict[str, Ints]:
        """Return the entities and the slots that may have changed since, increasing; O(E + S)."""
        entities, before = len(state.entities), len(self.moves)
        moved = np.ones(entities, np.bool_)
        moved[:before] = state.moves[:before] != self.moves
        table = state.slots[:entities][moved]
        slots = np.zeros(state.slots_used, np.bool_)
        slots[self.slots :] = True
        slots[table[table >= 0]] = True
        return {_ENTITIES: np.flatnonzero(moved), _SLOTS: np.flatnonzero(slots)}

    def by_row(self, state: PartitionState, arrays: dict[str, Array]) -> dict[str, str]:
        """Return the large arrays whose rows can be told apart, each with the name of the index of
        its rows.
        """
        same = _in_step(state, arrays) & self.in_step
        return {
            name: _BY_ROW[name]
            for name in same
            if name == "ring" or self.ensemble() is state.ensemble
        }


def _in_step(state: PartitionState, arrays: dict[str, Array]) -> frozenset[str]:
    lengths = {_ENTITIES: len(state.entities), _SLOTS: state.slots_used}
    return frozenset(name for name, index in _BY_ROW.items() if len(arrays[name]) == lengths[index])


class Room:
    """Memory for copies that is used again and again: fresh pages cost more than the copy into
    them.
    """

    def __init__(self) -> None:
        self._memory: Bytes = np.empty(0, np.uint8)
        self._used = 0

    @property
    def size_bytes(self) -> int:
        """Return how much fits in."""
        return len(self._memory)

    def grow(self, size_bytes: int) -> None:
        """Forget what was taken, and make room for so many bytes and some more; every page is
        touched.
        """
        self._memory = np.empty(0, np.uint8)
        self._memory = np.empty(size_bytes + size_bytes // 4, np.uint8)
        self._memory[::_PAGE] = 0

    def clear(self) -> None:
        """Forget what was taken."""
        self._used = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an uninitialised array."""
        size = int(np.prod(shape)) * dtype.itemsize
        taken = self._memory[self._used : self._used + size].view(dtype).reshape(shape)
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return taken


@dataclass(frozen=True, slots=True)
class Frame:
    """A snapshot as its header and what it stores, in the order of the header's list.

    digest : SHA-256 of the bytes, empty = not written yet
    """

    header: dict[str, Any]
    stored: dict[str, Array]
    digest: str = ""

    @property
    def next_offset(self) -> int:
        """Return the first offset that is not in it."""
        return int(self.header["next_offset"])

    @property
    def parent(self) -> str:
        """Return the digest of the snapshot that it goes on from, empty = it is a base."""
        return str(self.header["parent"])

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes but for the SHA-256 at their end."""
        text = json.dumps(self.header, sort_keys=True, separators=(",", ":")).encode()
        yield _MAGIC + len(text).to_bytes(8, "big") + text
        for array in self.stored.values():
            if array.size:
                yield array.reshape(-1).view(np.uint8).data


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a state goes into a snapshot: its arrays, of the large ones perhaps some rows only.

    arrays : views that the next fold changes
    rows   : int64 (k,)  by name of an index; empty = all arrays as a whole
    by     : array -> index of its rows
    """

    state: PartitionState
    arrays: dict[str, Array]
    rows: dict[str, Ints] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, state: PartitionState, since: Marks | None = None) -> Selection:
        """Select what has changed, or all."""
        arrays = dict(sorted(state.to_arrays().items()))
        if since is None:
            return cls(state, arrays)
        return cls(state, arrays, since.changed(state), since.by_row(state, arrays))

    @property
    def size_bytes(self) -> int:
        """Return how many bytes a copy of it takes, at most."""
        size = sum(rows.nbytes for rows in self.rows.values()) + len(self.arrays) * _ALIGNED
        for name, array in self.arrays.items():
            size += (
                array[:1].nbytes * len(self.rows[self.by[name]])
                if name in self.by
                else array.nbytes
            )
        return size

    def frame(self, parent: str = "", room: Room | None = None) -> Frame:
        """Return it as a frame, copied to where there is room for it; without, the state must not
        move until it is written.
        """
        if room:
            room.clear()
        stored: dict[str, Array] = dict(self.rows)
        layout = [[name, rows.dtype.str, list(rows.shape), ""] for name, rows in self.rows.items()]
        for name, array in self.arrays.items():
            index = self.by.get(name, "")
            layout.append([name, array.dtype.str, list(array.shape), index])
            stored[name] = _copied(array, self.rows[index] if index else None, room)
        header = {
            "state_version": STATE_VERSION,
            "base": self.state.base,
            "next_offset": self.state.next_offset,
            "activation": asdict(self.state.activation) if self.state.activation else None,
            "metrics": list(self.state.metrics),
            "parent": parent,
            "arrays": layout,
        }
        return Frame(header, stored)


def _copied(array: Array, rows: Ints | None, room: Room | None) -> Array:
    if rows is None and room is None:
        return array
    shape = array.shape if rows is None else (len(rows), *array.shape[1:])
    copy = room.take(shape, array.dtype) if room else np.empty(shape, array.dtype)
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
        raise SnapshotRefused("it is not a snapshot, or not a whole one")
    body = data[:-_HASH_BYTES]
    digest = hashlib.sha256(body.data)
    if digest.digest() != data[-_HASH_BYTES:].tobytes():
        raise SnapshotRefused("its SHA-256 does not match its content")
    try:
        header, place = _header(body)
        stored: dict[str, Array] = {}
        for name, dtype, shape, index in header["arrays"]:
            if dtype not in _DTYPES or any(size < 0 for size in shape):
                raise SnapshotRefused(f"array {name} has dtype {dtype} and shape {shape}")
            held = [len(stored[index]), *shape[1:]] if index else shape
            size = int(np.prod(held, dtype=object)) * np.dtype(dtype).itemsize
            if place + size > len(body):
                raise SnapshotRefused(f"array {name} is longer than the file")
            stored[name] = body[place : place + size].view(dtype).reshape(held)
            place += size
        if place != len(body):
            raise SnapshotRefused("bytes are left over")
        if not isinstance(header["parent"], str) or not header["base"] <= header["next_offset"]:
            raise SnapshotRefused(
                f"it claims to reach from {header['base']} to {header['next_offset']}"
            )
        return Frame(header, stored, digest.hexdigest())
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotRefused(f"its content does not fit together: {error}") from error


def overlay(arrays: dict[str, Array], frame: Frame) -> dict[str, Array]:
    """Return a state's arrays after a frame; those of before may be written to.

    raises : SnapshotRefused when the frame does not fit them
    """
    after: dict[str, Array] = {}
    for name, dtype, shape, index in frame.header["arrays"]:
        if name in (_ENTITIES, _SLOTS):
            continue
        if not index:
            after[name] = frame.stored[name]
            continue
        before, rows = arrays.get(name), frame.stored[index]
        if (
            before is None
            or before.dtype != dtype
            or list(before.shape[1:]) != shape[1:]
            or rows.dtype != np.int64
        ):
            raise SnapshotRefused(f"array {name} does not fit the one before it")
        fresh = int((rows >= len(before)).sum())
        if (
            (np.diff(rows, prepend=-1) <= 0).any()
            or (rows >= shape[0]).any()
            or len(before) + fresh != shape[0]
        ):
            raise SnapshotRefused(f"the rows of array {name} do not fit the one before it")
        if fresh:
            grown = np.empty(shape, dtype)
            grown[: len(before)] = before
            before = grown
        before[rows] = frame.stored[name]
        after[name] = before
    return after


def state_of(frame: Frame, arrays: dict[str, Array]) -> PartitionState:
    """Rebuild the state that a frame leads to.

    raises : SnapshotRefused when it does not fit together
    """
    header = frame.header
    try:
        activation = Activation(**header["activation"]) if header["activation"] else None
        return PartitionState.from_arrays(
            arrays, header["metrics"], header["base"], frame.next_offset, activation
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotRefused(f"its content does not fit together: {error}") from error


def _header(body: Bytes) -> tuple[dict[str, Any], int]:
    start = len(_MAGIC) + 8
    size = int.from_bytes(body[len(_MAGIC) : start].tobytes(), "big")
    if size > min(_MAX_HEADER_BYTES, len(body) - start):
        raise SnapshotRefused(f"its header claims {size} bytes")
    header = json.loads(body[start : start + size].tobytes())
    if header["state_version"] != STATE_VERSION:
        raise SnapshotRefused(
            f"it has state version {header['state_version']}, this code {STATE_VERSION}"
        )
    return header, start + size
