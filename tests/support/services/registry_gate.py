"""TLS and basic authentication before a registry, as a reverse proxy gives them."""

from __future__ import annotations

import base64
import ssl
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_PASSED_ON = ("Content-Type", "Accept")


class RegistryGate:
    """Passes requests with the right user and password on to a registry.

    url : https URL with the path of the registry behind
    """

    def __init__(self, behind: str, certificate: Path, key: Path, user_and_password: str) -> None:
        parts = urlsplit(behind)
        origin = f"{parts.scheme}://{parts.netloc}"
        wanted = "Basic " + base64.b64encode(user_and_password.encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != wanted:
                    self.answer(401, b'{"error_code":40101,"message":"Unauthorized"}')
                    return
                headers = {n: v for n in _PASSED_ON if (v := self.headers.get(n))}
                request = urllib.request.Request(
                    origin + self.path, body or None, headers, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=10) as found:
                        self.answer(found.status, found.read())
                except urllib.error.HTTPError as error:
                    self.answer(error.code, error.read())
                except OSError:
                    self.answer(502, b"{}")

            do_GET = do_POST = do_PUT = do_DELETE = pass_on  # noqa: N815 - names of http.server

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}{parts.path}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
