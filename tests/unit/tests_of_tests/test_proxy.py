"""The proxy of the fault tests: passes bytes unchanged; cuts, delays and holds on request."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.services.proxy import END_TXN, PRODUCE, Proxy
from tests.support.services.service import free_port


class Echo(socketserver.BaseRequestHandler):
    """Answers every frame with itself."""

    def handle(self) -> None:
        while head := self.request.recv(4, socket.MSG_WAITALL):
            frame = self.request.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
            self.server.seen.append(frame)
            self.request.sendall(head + frame)


@pytest.fixture
def echo() -> Iterator[socketserver.ThreadingTCPServer]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads, server.seen = True, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(echo) -> Iterator[Proxy]:
    made = Proxy(free_port(), echo.server_address[1])
    yield made
    made.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


def frame(api_key: int, body: bytes = b"") -> bytes:
    content = api_key.to_bytes(2, "big") + body
    return len(content).to_bytes(4, "big") + content


def ask(connection: socket.socket, request: bytes) -> bytes:
    try:
        connection.sendall(request)
    except OSError:
        return b""
    return receive(connection, len(request))


def receive(connection: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes, fewer if the connection ends before, none if it breaks."""
    received = b""
    try:
        while len(received) < size and (piece := connection.recv(size - len(received))):
            received += piece
    except OSError:
        return b""
    return received


def quiet(connection: socket.socket, for_s: float = 0.2) -> bool:
    connection.settimeout(for_s)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(60)


def until(done) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_bytes_pass_unchanged(proxy):
    with connect(proxy) as connection:
        for size in (0, 1, 5000, 300_000):
            request = frame(PRODUCE, bytes(k % 251 for k in range(size)))
            assert ask(connection, request) == request


def test_one_request_is_held_and_all_behind_it_wait(proxy, echo):
    with connect(proxy) as connection, connect(proxy) as other:
        hold = proxy.hold(END_TXN, skip=1)
        assert ask(connection, frame(END_TXN, b"first")) == frame(END_TXN, b"first")
        connection.sendall(frame(END_TXN, b"second") + frame(PRODUCE, b"behind"))
        assert hold.caught.wait(60)
        assert quiet(connection)
        assert ask(other, frame(END_TXN, b"other")) == frame(END_TXN, b"other")
        proxy.release(hold)
        both = frame(END_TXN, b"second") + frame(PRODUCE, b"behind")
        assert receive(connection, len(both)) == both
    assert [seen[2:] for seen in echo.seen] == [b"first", b"other", b"second", b"behind"]


def test_what_is_held_arrives_though_its_sender_has_gone(proxy, echo):
    connection = connect(proxy)
    hold = proxy.hold(END_TXN)
    connection.sendall(frame(END_TXN, b"late"))
    assert hold.caught.wait(60)
    connection.close()
    time.sleep(0.2)
    assert echo.seen == []
    proxy.release(hold)
    until(lambda: [seen[2:] for seen in echo.seen] == [b"late"])


def test_a_connection_is_broken_while_its_request_is_held(proxy, echo):
    with connect(proxy) as connection, connect(proxy) as other:
        hold = proxy.hold(END_TXN, reset=True)
        assert ask(connection, frame(END_TXN, b"late")) == b""
        assert ask(other, frame(END_TXN, b"repeated")) == frame(END_TXN, b"repeated")
        proxy.release(hold)
        until(lambda: [seen[2:] for seen in echo.seen] == [b"repeated", b"late"])


def test_an_answer_is_held_though_the_request_has_passed(proxy, echo):
    with connect(proxy) as connection:
        hold = proxy.hold(END_TXN, answer=True)
        connection.sendall(frame(END_TXN, b"asked"))
        until(lambda: [seen[2:] for seen in echo.seen] == [b"asked"])
        assert quiet(connection)
        proxy.release(hold)
        assert connection.recv(100) == frame(END_TXN, b"asked")


@pytest.mark.parametrize("how", ["refuse", "silence"])
def test_a_cut_breaks_every_connection_until_it_is_mended(proxy, echo, how):
    with connect(proxy) as connection:
        assert ask(connection, frame(PRODUCE, b"before")) == frame(PRODUCE, b"before")
        proxy.cut(how)
        connection.settimeout(0.3)
        assert ask(connection, frame(PRODUCE, b"during")) == b""
        proxy.mend()
    with connect(proxy) as connection:
        assert ask(connection, frame(PRODUCE, b"after")) == frame(PRODUCE, b"after")


def test_a_delay_delays(proxy):
    with connect(proxy) as connection:
        proxy.delay_s = 0.1
        began_s = time.monotonic()
        assert ask(connection, frame(PRODUCE, b"x")) == frame(PRODUCE, b"x")
        assert time.monotonic() - began_s >= 0.2


def test_nobody_behind_it_is_a_closed_connection():
    alone = Proxy(free_port(), free_port())
    try:
        with connect(alone) as connection:
            assert ask(connection, frame(PRODUCE)) == b""
    finally:
        alone.close()
