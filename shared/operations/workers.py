"""A pool of threads for work that runs without the GIL.

Invariant: results come in the order of the pieces, whatever the number of threads; no piece is
           being worked on any more after a block of ``begun`` has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Workers:
    """Threads that work on several pieces at the same time.

    threads : most pieces at the same time
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads, name)

    @contextmanager
    def begun(
        self, work: Callable[[Piece], Result], pieces: Sequence[Piece]
    ) -> Iterator[Iterator[Result]]:
        """Work on pieces in the threads meanwhile.

        yields : the results in the order of the pieces; taking one raises what its work raised
        """
        futures = [self._executor.submit(work, piece) for piece in pieces]
        try:
            yield (future.result() for future in futures)
        finally:
            _end(futures)

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown()


def _end(begun: Sequence[Future[Any]]) -> None:
    """Cancel pieces that no thread has begun, and wait for the others."""
    for future in begun:
        future.cancel()
    wait(begun)
