"""Receivers of notices as processes that can be killed: HTTP, SMTP, Debian's Alertmanager.

Invariant: what a receiver has answered with success stands in its inbox before the answer, and
           survives a kill; one line of JSON for each notice that it took.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sys
import urllib.request
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from tests.support.services.service import ProcessService, free_port, port_answers

ROOT = Path(__file__).parents[3]
ALERTMANAGER = next(
    filter(None, map(shutil.which, ("prometheus-alertmanager", "alertmanager"))), None
)
FAILS, DROPS, HANGS = 0.01, 0.01, 0.0005
"""Shares of notices that are refused for now, taken without an answer, or left without one."""

HANG_S = 3.0


class NoticeReceiver(ProcessService):
    """An HTTP or SMTP server that fails now and then; kind = http or smtp."""

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__(f"notices-{kind}", free_port())
        self.kind = kind
        self.seed = seed
        self.inbox = self.folder / "inbox.jsonl"

    def command(self) -> list[str]:
        self.seed += 1
        where = str(self.port), str(self.inbox), str(self.seed)
        return [sys.executable, "-m", __name__, self.kind, *where]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT)}

    def answers(self) -> bool:
        return port_answers(self.port)

    def size(self) -> int:
        """Return about how many notices it has taken, repeats included."""
        return self.inbox.read_bytes().count(b"}") if self.inbox.exists() else 0

    def taken(self) -> list[dict[str, Any]]:
        """Return what it took; a line that a kill has cut was never answered."""
        text = self.inbox.read_text("utf-8") if self.inbox.exists() else ""
        return [json.loads(line) for line in text.split("\n") if line.endswith("}")]


class Alertmanager(ProcessService):
    """Debian's Alertmanager, which tells nobody."""

    def __init__(self) -> None:
        super().__init__("alertmanager", free_port())
        self.url = f"http://{self.address}"

    def command(self) -> list[str]:
        assert ALERTMANAGER is not None
        config = self.folder / "alertmanager.yml"
        config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n", "utf-8")
        return [
            ALERTMANAGER,
            f"--config.file={config}",
            f"--storage.path={self.folder}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=error",
        ]

    def answers(self) -> bool:
        return port_answers(self.port)

    def firing(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire, by incident."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=30) as answer:
            alerts = json.load(answer)
        return {one["labels"]["incident_id"]: one for one in alerts}


class _Inbox:
    def __init__(self, path: str, seed: str) -> None:
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 - open until the process ends
        self._dice = random.Random(seed)
        # A kill may have cut the last line.
        self._file.write(b"\n")

    def fate(self) -> str:
        drawn = self._dice.random()
        for share, how in ((FAILS, "fail"), (DROPS, "drop"), (HANGS, "hang")):
            if drawn < share:
                return how
            drawn -= share
        return "take"

    def add(self, **fields: Any) -> None:
        self._file.write(json.dumps(fields).encode() + b"\n")


async def _http(inbox: _Inbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()[1:]
    headers = {
        name.lower(): value.strip() for name, _, value in (one.partition(":") for one in head)
    }
    body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
    how = inbox.fate()
    if how == "hang":
        await asyncio.sleep(HANG_S)
    if how in ("take", "drop"):
        incident = body["incident"]
        inbox.add(
            key=headers["idempotency-key"],
            incident_id=incident["incident_id"],
            phase=body["phase"],
            severity_class=incident["severity_class"],
        )
    if how in ("take", "fail"):
        status = b"200 OK" if how == "take" else b"500 Internal Server Error"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()


async def _smtp(inbox: _Inbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 here\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"DATA":
            writer.write(b"354 go on\r\n")
            text = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
            mail = message_from_bytes(text, policy=policy.default)
            how = inbox.fate()
            if how == "hang":
                await asyncio.sleep(HANG_S)
            if how in ("take", "drop"):
                content = mail.get_content()
                inbox.add(
                    key=mail["Idempotency-Key"],
                    message_id=mail["Message-ID"],
                    incident_id=content.rsplit(maxsplit=1)[-1],
                    phase=mail["Subject"].partition("]")[0].removeprefix("["),
                    severity_class=mail["Subject"].split()[1].removesuffix(":"),
                )
            if how in ("drop", "hang"):
                return
            writer.write(b"250 taken\r\n" if how == "take" else b"451 later\r\n")
        elif verb == b"QUIT":
            writer.write(b"221 bye\r\n")
            return
        else:
            writer.write(b"250 ok\r\n")


async def _serve(kind: str, port: str, path: str, seed: str) -> None:
    inbox = _Inbox(path, seed)
    answer = {"http": _http, "smtp": _smtp}[kind]

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(inbox, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", int(port), limit=1 << 24)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:5]))
