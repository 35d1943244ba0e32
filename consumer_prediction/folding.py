"""Folds records of several partitions at the same time, on a pool of threads.

Invariant: a partition's records are folded by one thread at a time and in log order, so the results
           are the same for every number of threads. Nothing is sent or committed here; no thread
           works on a partition's state after ``fold``, or the block of ``begun``, has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from consumer_prediction.outgoing import Encoder
from consumer_prediction.ownership import Owned
from shared.batch import Batch, Outgoing
from shared.operations.workers import Workers
from shared.ports import Decoder
from shared.scoring.scorer import Outcome


class Piece(NamedTuple):
    """Consecutive records of a partition, all folded with the same model and settings.

    is_replayed : they were committed before, so their results are not needed
    """

    owned: Owned
    batch: Batch
    is_replayed: bool

    @property
    def is_activated(self) -> bool:
        """Whether the next activation of a replay applies from here on."""
        ahead = self.owned.ahead
        return bool(ahead) and bool(self.batch.offsets[0] >= ahead[0].offset)


class Folded(NamedTuple):
    """What a piece led to.

    results : its encoded outcome; empty for a replayed piece
    fold_s  : duration of the fold, which a replay would take as well
    work_s  : duration of fold and encoding
    """

    piece: Piece
    outcome: Outcome
    results: Sequence[Outgoing]
    fold_s: float
    work_s: float


class FoldingPool:
    """Folds pieces of different partitions; the kernels run without the GIL.

    threads : most pieces that are folded at the same time; 1 = in the caller's thread, or in
              another one while the caller commits
    clock   : monotonic seconds
    """

    def __init__(
        self, threads: int, decoder: Decoder, encoder: Encoder, clock: Callable[[], float]
    ) -> None:
        self.threads = threads
        self._decoder = decoder
        self._encoder = encoder
        self._clock = clock
        self._workers = Workers(threads, "fold")

    def fold(self, pieces: Sequence[Piece], finish: Callable[[Folded], None]) -> None:
        """Fold pieces and encode their results; the decoder has prepared the batches.

        pieces : at most one of a partition
        finish : called in the caller's thread for each piece, in their order, while later ones are
                 still being folded
        raises : what ``finish`` raises, or the fold of the first piece that fails; a note names its
                 partition and offsets. No piece is being folded any more by then
        """
        if self.threads == 1 or len(pieces) < 2:
            for piece in pieces:
                finish(self._fold(piece))
            return
        with self.begun(pieces) as results:
            for folded in results:
                finish(folded)

    def begun(self, pieces: Sequence[Piece]) -> AbstractContextManager[Iterator[Folded]]:
        """Fold pieces in the pool's threads meanwhile.

        yields : the results as of ``fold``; no piece is being folded any more after the block
        """
        return self._workers.begun(self._fold, pieces)

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    def _fold(self, piece: Piece) -> Folded:
        owned, batch = piece.owned, piece.batch
        try:
            began_s = self._clock()
            outcome = owned.scorer.process(batch, self._decoder)
            folded_s = self._clock()
            results: Sequence[Outgoing] = ()
            if not piece.is_replayed:
                results = self._encoder.outcome(outcome, owned.state)
            return Folded(piece, outcome, results, folded_s - began_s, self._clock() - began_s)
        except Exception as error:
            place = f"{batch.topic}[{batch.partition}]"
            error.add_note(f"{place}: offsets {batch.offsets[0]} to {batch.offsets[-1]}")
            raise


def joined(batches: Sequence[Batch]) -> list[Batch]:
    """Join the batches of each partition, in the order in which the partitions appear.

    batches : those of a partition are in log order; one that begins before the end of another is
              not joined with it
    """
    parts: dict[int, list[list[Batch]]] = {}
    for batch in batches:
        runs = parts.setdefault(batch.partition, [])
        if runs and batch.offsets[0] > runs[-1][-1].offsets[-1]:
            runs[-1].append(batch)
        else:
            runs.append([batch])
    return [Batch.join(run) for runs in parts.values() for run in runs]
