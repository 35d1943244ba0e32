"""An identity provider for OAUTHBEARER: a token endpoint, and the key set that brokers check."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "kafka"
KEY_ID = "tests"


class TokenIssuer:
    """Grants tokens to clients by id and secret (client_credentials).

    secrets : {client id: secret}
    life_s  : lifetime of a token; negative = it has expired when it is issued
    """

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._foreign = rsa.generate_private_key(65537, 2048)
        self.secrets = secrets
        self.life_s = 300.0
        self.is_foreign = False
        self.issued: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.key_set = folder / "jwks.json"
        self.key_set.write_text(json.dumps({"keys": [_public(self._key)]}), "utf-8")
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                status, document = issuer.answer(self.headers.get("Authorization") or "")
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, authorization: str) -> tuple[int, dict[str, Any]]:
        """Return status and document of a request for a token."""
        kind, _, encoded = authorization.partition(" ")
        if kind != "Basic":
            return 401, {"error": "invalid_client"}
        client, _, secret = base64.b64decode(encoded).decode().partition(":")
        client, secret = unquote(client), unquote(secret)
        if self.secrets.get(client) != secret:
            return 401, {"error": "invalid_client", "error_description": "wrong id or secret"}
        self.issued.append(self.token(client))
        return 200, {"access_token": self.issued[-1], "token_type": "Bearer"}

    def token(self, client: str) -> str:
        """Return a signed token."""
        now = int(time.time())
        claims = {
            "sub": client,
            "iss": "tests",
            "aud": AUDIENCE,
            "scope": "kafka",
            "iat": now - (0 if self.life_s > 0 else 600),
            "exp": now + int(self.life_s),
        }
        head = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        key = self._foreign if self.is_foreign else self._key
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encoded(signature)}"


def _public(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": KEY_ID,
        "n": _encoded(numbers.n.to_bytes(256, "big")),
        "e": _encoded(numbers.e.to_bytes(3, "big")),
    }


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
