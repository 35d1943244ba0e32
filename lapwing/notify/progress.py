"""Which notices are not settled yet, and the position that may be committed.

Invariant: the committed offset lies at or below the record of every notice that is not settled. The
metadata says for each target how far it is, so that a restart repeats to no target what another one
still waits for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from shared.batch import Position

METADATA_BYTES = 4096
"""The broker's limit for the metadata of a position."""


class Progress:
    """The notices of each target that wait to be settled.

    next     : offset of the first record that was not taken
    targets  : names of all targets
    topic_id : of the topic; empty = not known
    """

    def __init__(self, targets: Collection[str], topic_id: str = "") -> None:
        self.next = 0
        self.topic_id = topic_id
        self._targets = sorted(targets)
        self._waiting: dict[tuple[str, str, int], int] = {}
        self._counts: Counter[str] = Counter()
        self._settled: dict[str, int] = {}
        self._committed: Position | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self, target: str) -> int:
        """Return the number of a target's notices that are not settled."""
        return self._counts[target]

    def begin(self, position: Position | None, first: int, end: int) -> bool:
        """Start at a committed position, or at the start of a topic that was recreated since.

        first, end : the oldest offset that the topic still has, and the one after its newest
        returns    : whether the topic was recreated
        """
        self.clear()
        if position is None:
            return False
        known = _known_of(position.metadata)
        before = str(known.get("topic", self.topic_id))
        if position.offset > end or (self.topic_id and before not in ("", self.topic_id)):
            self.next = first
            return True
        self._committed = position
        self.next = max(position.offset, first)
        with suppress(ValueError, AttributeError, TypeError):
            settled = known.get("settled", {})
            self._settled = {str(name): int(at) for name, at in settled.items()}
        return False

    def clear(self) -> None:
        """Forget everything."""
        self.next = 0
        self._waiting.clear()
        self._counts.clear()
        self._settled = {}
        self._committed = None

    def is_settled(self, target: str, offset: int) -> bool:
        """Return whether a target's notices of a record were settled before a restart."""
        return 0 <= offset < self._settled.get(target, 0)

    def add(self, target: str, key: str, offset: int) -> None:
        """Add a notice that is to be settled; offset of its record, negative = of none."""
        if (target, key, offset) not in self._waiting:
            self._waiting[target, key, offset] = offset
            self._counts[target] += 1

    def holds(self, target: str, key: str, offset: int) -> bool:
        """Return whether a notice is not settled yet."""
        return (target, key, offset) in self._waiting

    def settle(self, target: str, key: str, offset: int) -> None:
        """Note that a notice was delivered or kept as unsent."""
        if self._waiting.pop((target, key, offset), None) is not None:
            self._counts[target] -= 1

    def position(self) -> Position | None:
        """Return the position to commit; None where nothing has changed since ``committed``."""
        first = dict.fromkeys(self._targets, self.next)
        for (target, _, _), offset in self._waiting.items():
            first[target] = min(first[target], offset)
        offset = min([self.next, *first.values()])
        if offset < 0:
            return None
        ahead = {
            target: max(at, self._settled.get(target, 0))
            for target, at in first.items()
            if max(at, self._settled.get(target, 0)) > offset
        }
        known: dict[str, Any] = {"topic": self.topic_id} if self.topic_id else {}
        metadata = _text(known | {"settled": ahead} if ahead else known)
        if len(metadata) > METADATA_BYTES:
            metadata = _text(known)
        found = Position(offset, metadata)
        return None if found == self._committed else found

    def committed(self, position: Position) -> None:
        """Note a position as committed."""
        self._committed = position


def _text(known: dict[str, Any]) -> str:
    return json.dumps(known, separators=(",", ":")) if known else ""


def _known_of(metadata: str) -> dict[str, Any]:
    """Return what a position's metadata says; nothing where another program wrote it."""
    with suppress(ValueError):
        found = json.loads(metadata)
        return found if isinstance(found, dict) else {}
    return {}
