"""A TCP proxy in front of a broker: it delays, cuts, or holds a request or response.

Invariant: bytes pass unchanged and in order, or not at all. Held bytes are delivered on release,
           also when their sender has closed the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

PRODUCE, FETCH, OFFSET_FETCH, HEARTBEAT = 0, 1, 9, 12
INIT_PRODUCER_ID, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 22, 25, 26, 28
"""api_key of some requests, see Kafka's protocol guide."""


@dataclass
class Hold:
    """One request to be held back, or its answer.

    api_key : which kind of request
    answer  : let the request pass and hold the answer
    reset   : break the sender's connection as soon as the request is held
    skip    : number of requests of this kind that pass before
    caught  : set once it is held
    """

    api_key: int
    answer: bool = False
    reset: bool = False
    skip: int = 0
    caught: threading.Event = field(default_factory=threading.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Listens on a local port and passes every connection on to another one.

    delay_s : how long each piece waits on its way, in both directions
    """

    def __init__(self, port: int, upstream_port: int) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.delay_s = 0.0
        self._upstream_port = upstream_port
        self._cut = ""
        self._hold: Hold | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 20))

    def cut(self, how: str = "refuse") -> None:
        """Break every connection.

        how: "refuse" = close new ones at once, "silence" = keep them and deliver nothing.
        """
        self._do(self._cut_now(how))

    def mend(self) -> None:
        """Undo ``cut``: connections from before are closed, new ones work."""
        self._do(self._cut_now(""))

    def hold(
        self, api_key: int, *, answer: bool = False, reset: bool = False, skip: int = 0
    ) -> Hold:
        """Hold the next request of a kind and all later ones of its connection; see ``Hold``."""
        self._hold = Hold(api_key, answer, reset, skip)
        return self._hold

    def release(self, hold: Hold) -> None:
        """Deliver what was held."""
        self._hold = None
        self._loop.call_soon_threadsafe(hold.released.set)

    def close(self) -> None:
        """End it, and every connection."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _cut_now(self, how: str) -> None:
        self._cut = how
        if how != "silence":
            for writer in list(self._open):
                writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        await self._cut_now("refuse")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=5) if others else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut == "refuse":
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self._upstream_port, limit=1 << 20
            )
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        mute = asyncio.Event()
        mute.set()
        there = asyncio.create_task(self._requests(reader, writer, far_writer, mute))
        back = asyncio.create_task(self._answers(far_reader, writer, mute))
        try:
            await there
        finally:
            back.cancel()
            self._open -= {writer, far_writer}
            far_writer.close()
            writer.close()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        near: asyncio.StreamWriter,
        far: asyncio.StreamWriter,
        mute: asyncio.Event,
    ) -> None:
        """Pass requests on, one whole frame at a time."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                frame = await reader.readexactly(int.from_bytes(head, "big"))
                hold = self._hold
                if (
                    hold
                    and not hold.caught.is_set()
                    and int.from_bytes(frame[:2], "big") == hold.api_key
                ):
                    hold.skip -= 1
                    if hold.skip < 0:
                        if hold.reset:
                            near.transport.abort()
                        await self._catch(hold, mute, far, head + frame)
                        continue
                await self._pass(far, head + frame)

    async def _catch(
        self, hold: Hold, mute: asyncio.Event, far: asyncio.StreamWriter, request: bytes
    ) -> None:
        if hold.answer:
            mute.clear()
            await self._pass(far, request)
        hold.caught.set()
        await hold.released.wait()
        mute.set()
        if not hold.answer:
            await self._pass(far, request)
            # Its sender may have closed the connection: leave the broker time to take the request
            # before that is passed on.
            await asyncio.sleep(0.5)

    async def _answers(
        self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await far.read(1 << 16):
                await mute.wait()
                await self._pass(writer, piece)
        writer.transport.abort()

    async def _pass(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        while self._cut == "silence":
            await asyncio.sleep(0.05)
        writer.write(piece)
        await writer.drain()
