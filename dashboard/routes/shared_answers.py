"""Answers that several pages share: equal questions within a moment are computed once.

Invariant: an answer is at most MOST_AGE_S old, and never older than the newest anomaly, incident or
           activation; only the newest points may be missing from it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

MOST_AGE_S = 0.5
MOST_ANSWERS = 128


@dataclass(slots=True)
class _Kept:
    """An answer, its age, and the lock under which it is computed."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    version: Hashable = None
    at_s: float = float("-inf")
    body: bytes = b""
    media_type: str | None = None


class SharedAnswers:
    """Keeps a few answers; asked in the event loop, computed in a thread.

    Who waits for an answer holds no thread, so that many pages with one question leave the threads
    to other questions.

    version : changes when an answer that was computed before must not be given any more
    """

    def __init__(
        self, version: Callable[[], Hashable], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._version = version
        self._clock = clock
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    async def get(self, question: Hashable, compute: Callable[[], Response]) -> Response:
        """Return the answer to a question; whoever asks first computes it, the others wait.

        Only answers with status 200 are kept.
        """
        kept = self._kept.setdefault(question, _Kept())
        self._kept.move_to_end(question)
        if len(self._kept) > MOST_ANSWERS:
            self._kept.popitem(last=False)
        async with kept.lock:
            version = self._version()
            if kept.version == version and self._clock() - kept.at_s < MOST_AGE_S:
                return Response(kept.body, media_type=kept.media_type)
            began_s = self._clock()
            response = await run_in_threadpool(compute)
            if response.status_code == 200:
                kept.version, kept.at_s = version, began_s
                kept.body, kept.media_type = bytes(response.body), response.media_type
            return response
