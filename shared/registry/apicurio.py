"""Apicurio's own API, which answers by its two kinds of ids; it lies beside its Confluent API.

Invariant: only GET requests; an id is unknown only if the registry says so in its own words.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from shared.errors import TransportError
from shared.registry.references import MOST_REFERENCES, inline
from shared.schema_ids import IdKind, SchemaRef
from shared.settings import RegistrySettings

_CONFLUENT_PATH = re.compile(r"/apis/ccompat/v\d+/?\Z")
_PATHS = {IdKind.GLOBAL_ID: "globalIds", IdKind.CONTENT_ID: "contentIds"}
_UNKNOWN = ("ArtifactNotFoundException", "ContentNotFoundException", "VersionNotFoundException")
_LARGEST_ID = 2**63 - 1
_MOST_BYTES = 16 * 1024 * 1024


def own_api(url: str) -> str | None:
    """Return the URL of Apicurio's own API, by that of its Confluent API; None for another one."""
    if not _CONFLUENT_PATH.search(url):
        return None
    return _CONFLUENT_PATH.sub("/apis/registry/v2", url)


class Apicurio:
    """Apicurio's own API at a URL; each request ends within ``settings.timeout_s``."""

    def __init__(self, url: str, settings: RegistrySettings) -> None:
        self._url = url
        self._timeout_s = settings.timeout_s
        self._tls = (
            ssl.create_default_context(cafile=settings.ca_file or None)
            if url.startswith("https:")
            else None
        )
        basic_auth = settings.basic_auth
        self._headers = {"Accept": "*/*"}
        if basic_auth:
            token = base64.b64encode(basic_auth.encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def schema(self, ref: SchemaRef) -> str | None:
        """Return the text of a schema with its references; None if the registry has no such id.

        raises : TransportError
        """
        if not isinstance(ref.value, int) or not 0 < ref.value <= _LARGEST_ID:
            return None
        path = f"/ids/{_PATHS[ref.kind]}/{ref.value}"
        text = self._get(path)
        if text is None:
            return None
        try:
            return inline(text, list(self._referenced(path, {})))
        except ValueError as error:
            raise TransportError(
                f"{self._url}{path}: a reference is not a schema ({error})", retriable=False
            ) from error

    def _referenced(self, path: str, seen: dict[str, None]) -> Iterator[str]:
        """Yield the texts of the schemas that a schema refers to, directly or not."""
        for reference in self._list(f"{path}/references"):
            group = quote(str(reference.get("groupId") or "default"), safe="")
            artifact = quote(str(reference.get("artifactId")), safe="")
            version = quote(str(reference.get("version")), safe="")
            other = f"/groups/{group}/artifacts/{artifact}/versions/{version}"
            if other in seen:
                continue
            seen[other] = None
            if len(seen) > MOST_REFERENCES:
                raise ValueError(f"more than {MOST_REFERENCES} references")
            text = self._get(other)
            if text is None:
                raise ValueError(f"{other} does not exist")
            yield text
            yield from self._referenced(other, seen)

    def _list(self, path: str) -> list[Mapping[str, Any]]:
        found = json.loads(self._get(path) or "[]")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ValueError(f"{path} is not a list of references")
        return found

    def _get(self, path: str) -> str | None:
        """Return an answer's text; None if the registry has no such artifact."""
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310
        where = f"{self._url}{path}"
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=self._timeout_s, context=self._tls
            ) as answer:
                return str(answer.read(_MOST_BYTES).decode())
        except urllib.error.HTTPError as error:
            if error.code == 404 and _name_in(error.read(_MOST_BYTES)) in _UNKNOWN:
                return None
            raise TransportError(
                f"{where}: HTTP {error.code}",
                retriable=error.code >= 500 or error.code in (408, 429),
            ) from error
        except (OSError, ValueError) as error:
            raise TransportError(f"{where}: {error}") from error


def _name_in(body: bytes) -> str:
    """Return the name of the error in Apicurio's answer; empty in any other."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("name")) if isinstance(found, dict) else ""
