"""A receiver of notices on a real socket that hangs, answers 500 or drops connections as told."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Inbox:
    """What arrived, and how the next requests are answered.

    plan : for each request one of: a status, "hang", "drop" (after the body was read), "cut" (in
           the middle of the answer), "drip" (one byte of the answer now and then); then 200
    """

    url: str = ""
    plan: list[int | str] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def keys(self) -> Counter[str]:
        """Idempotency keys of what was taken (answered with 2xx, or dropped afterwards)."""
        return Counter(self.taken)


@contextmanager
def receiver(plan: list[int | str] | None = None) -> Iterator[Inbox]:
    inbox = Inbox(plan=list(plan or []))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.requests.append((self.path, dict(self.headers), body))
            how = inbox.plan.pop(0) if inbox.plan else 200
            if how == "hang":
                inbox.closing.wait(30)
                return
            if how in (200, "drop", "cut"):
                inbox.taken.append(self.headers["Idempotency-Key"])
            if how == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
            elif how == "cut":
                self.wfile.write(b"HTTP/1.1 2")
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
            elif how == "drip":
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400:
                    if inbox.closing.wait(0.1):
                        return
                    try:
                        self.wfile.write(bytes([byte]))
                    except OSError:
                        return
            else:
                self.send_response(int(how))
                if how == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    inbox.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield inbox
    finally:
        inbox.closing.set()
        server.shutdown()
        server.server_close()
