"""A registry behind TLS and a password: what is accepted, and how a refusal is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shared.errors import ConfigError, NotAuthenticated
from shared.registry import Registry
from shared.settings import RegistrySettings
from tests.support.services.certificates import Authority
from tests.support.services.registry_gate import RegistryGate

PASSWORD = "joe:correct"


class _Behind(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'["plant.readings-value"]'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def url(authority: Authority) -> Iterator[str]:
    behind = ThreadingHTTPServer(("127.0.0.1", 0), _Behind)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    certificate, key, _ = authority.issue("registry")
    gate = RegistryGate(f"http://127.0.0.1:{behind.server_address[1]}", certificate, key, PASSWORD)
    yield gate.url
    gate.close()
    behind.shutdown()
    behind.server_close()


def registry(url: str, ca: Path | str, password: str = PASSWORD) -> Registry:
    return Registry(RegistrySettings(url=url, ca_file=str(ca), basic_auth=password))


def test_a_registry_of_ones_own_authority_answers(url: str, authority: Authority) -> None:
    assert registry(url, authority.ca).subjects() == ["plant.readings-value"]


def test_a_wrong_password_is_named_without_it(url: str, authority: Authority) -> None:
    with pytest.raises(NotAuthenticated, match=r"HTTP 401.*basic_auth is not accepted") as raised:
        registry(url, authority.ca, "joe:guessed").subjects()
    assert not raised.value.retriable
    assert "guessed" not in str(raised.value)


def test_a_registry_of_another_authority_is_named(url: str, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(NotAuthenticated, match=r"registry\.ca_file"):
        registry(url, stranger.ca).subjects()


def test_a_missing_file_is_refused_before_a_connection(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"registry\.ca_file: .*none\.pem cannot be read"):
        registry("https://127.0.0.1:1", tmp_path / "none.pem").subjects()
