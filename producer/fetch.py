"""Downloads the NAB series from their repository; every file is pinned by its SHA-256.

Invariant: a file appears under its name only after its checksum was verified.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import data
from shared.errors import ConfigError, DataError, TransportError

SOURCE_URL = "https://raw.githubusercontent.com/numenta/NAB/v1.1"
DEFAULT_DIR = Path("data/nab")
WITHOUT_NETWORK = (
    "Without a network: `lapwing produce --fleet 20` and `lapwing demo` use generated series,"
    " and `--data DIR` takes a copy of NAB (or any folder of CSV files) that is already there."
)
_ATTEMPTS = 3
_CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of ``fetch``: names of files written, and of files that existed already."""

    target: Path
    written: tuple[str, ...]
    present: tuple[str, ...]


def checksums(text: str) -> dict[str, str]:
    """Parse a checksum list of sha256sum into {relative path: 64 hex digits}; # starts a comment.

    raises : ConfigError that names the line
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line)
        path = PurePosixPath(match[2]) if match else PurePosixPath("/")
        if not match or path.is_absolute() or ".." in path.parts:
            raise ConfigError(
                f"checksum list, line {number}: expected 64 hex digits, two blanks and a relative"
                f" path; got {line!r}"
            )
        sums[str(path)] = match[1]
    return sums


def fetch(
    target: Path = DEFAULT_DIR,
    source_url: str = SOURCE_URL,
    sums: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 30.0,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Fetched:
    """Download all pinned files that do not exist yet into a folder.

    sums     : {path below source_url and below target: SHA-256}; None = the 28 series and the
               labels of NAB v1.1
    progress : called before each file with its name, the number of files done, and the total
    raises   : DataError when a checksum differs (the file is not written); TransportError when the
               source does not answer or lacks the file; ConfigError when the URL is not http(s) or
               the folder cannot be written
    """
    if not source_url.startswith(("http://", "https://")):
        raise ConfigError(f"source URL {source_url!r}: only http:// and https:// are allowed")
    wanted = checksums(data.text("nab.sha256")) if sums is None else sums
    written, present = [], []
    for done, (name, expected) in enumerate(wanted.items()):
        progress(name, done, len(wanted))
        path = target / name
        if path.is_file() and _sha256(path) == expected:
            present.append(name)
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(f"{source_url.rstrip('/')}/{name}", path, expected, timeout_s)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
        written.append(name)
    return Fetched(target, tuple(written), tuple(present))


def is_complete(target: Path = DEFAULT_DIR) -> bool:
    """Return whether every series of NAB exists (by name; only fetch verifies checksums)."""
    return all(
        (target / name).is_file()
        for name in checksums(data.text("nab.sha256"))
        if name.endswith(".csv")
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path, expected: str, timeout_s: float) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                found = _stream(url, file.write, timeout_s)
                file.flush()
                os.fsync(file.fileno())
            if found != expected:
                raise DataError(
                    f"{url}: its SHA-256 is {found}, expected {expected}; {path} was not written"
                )
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
            return
        except TransportError as error:
            if not error.retriable or attempt == _ATTEMPTS:
                raise
        finally:
            Path(temporary).unlink(missing_ok=True)


def _stream(url: str, write: Callable[[bytes], object], timeout_s: float) -> str:
    """Pass the body to ``write`` in chunks; return its SHA-256.

    raises : TransportError, retriable for a 5xx or a broken connection
    """
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - fetch has checked the scheme
            length = answer.headers.get("Content-Length")
            received = 0
            while chunk := answer.read(_CHUNK_BYTES):
                digest.update(chunk)
                received += len(chunk)
                write(chunk)
    except urllib.error.HTTPError as error:
        raise TransportError(
            f"{url}: the server answered {error.code} {error.reason}", retriable=error.code >= 500
        ) from error
    except urllib.error.URLError as error:
        raise TransportError(
            f"{url}: cannot be reached: {error.reason}. {WITHOUT_NETWORK}", retriable=False
        ) from error
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise TransportError(
            f"{url}: the download was interrupted: {error!r}. {WITHOUT_NETWORK}"
        ) from error
    if length is not None and received < int(length):
        raise TransportError(
            f"{url}: the download was interrupted after {received} of {length} bytes"
        )
    return digest.hexdigest()
