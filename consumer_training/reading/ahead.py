"""Reads a topic in a thread of its own, while what was read before is being folded.

Invariant: every batch arrives, in its order; when the block of ``reading`` ends, the thread has
           ended, and has closed what it read from.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from shared.batch import Batch

ROUND_RECORDS, ROUND_BYTES = 1 << 16, 8 << 20
"""A round ends with so many records or bytes."""

ROUNDS_AHEAD = 2
"""Rounds that are read ahead."""

_WAIT_S = 0.1


class _End(Exception):
    """What ended the reading: nothing, or an error."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error


@contextmanager
def reading(batches: Iterator[Batch]) -> Iterator[Iterator[Sequence[Batch]]]:
    """Read batches ahead and yield them in rounds, joined by partition.

    yields : rounds of at most one batch of each partition; taking one raises what reading raised
    Memory : ROUNDS_AHEAD + 2 rounds
    """
    rounds: queue.Queue[Sequence[Batch] | _End] = queue.Queue(ROUNDS_AHEAD)
    stopping = threading.Event()
    thread = threading.Thread(target=_read, args=(batches, rounds, stopping), name="read")
    thread.start()
    try:
        yield _taken(rounds)
    finally:
        stopping.set()
        thread.join()


def _taken(rounds: queue.Queue[Sequence[Batch] | _End]) -> Iterator[Sequence[Batch]]:
    while not isinstance(found := rounds.get(), _End):
        yield found
    if found.error is not None:
        raise found.error


def _read(
    batches: Iterator[Batch],
    rounds: queue.Queue[Sequence[Batch] | _End],
    stopping: threading.Event,
) -> None:
    ended: BaseException | None = None
    try:
        for one in _rounds(batches):
            if not _put(rounds, one, stopping):
                break
    except BaseException as error:  # noqa: BLE001 - it is raised where the rounds are taken
        ended = error
    finally:
        if isinstance(batches, Generator):
            batches.close()
    _put(rounds, _End(ended), stopping)


def _put(
    rounds: queue.Queue[Sequence[Batch] | _End],
    item: Sequence[Batch] | _End,
    stopping: threading.Event,
) -> bool:
    """Hand over an item; return False if nobody wants it any more."""
    while not stopping.is_set():
        try:
            rounds.put(item, timeout=_WAIT_S)
        except queue.Full:
            continue
        return True
    return False


def _rounds(batches: Iterator[Batch]) -> Iterator[Sequence[Batch]]:
    parts: dict[int, list[Batch]] = {}
    records = size = 0
    for batch in batches:  # an error ends the read: what was read of its round is read again
        parts.setdefault(batch.partition, []).append(batch)
        records += len(batch)
        size += len(batch.values.data)
        if records >= ROUND_RECORDS or size >= ROUND_BYTES:
            yield [Batch.join(part) for part in parts.values()]
            parts, records, size = {}, 0, 0
    if parts:
        yield [Batch.join(part) for part in parts.values()]
