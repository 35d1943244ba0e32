"""Translation of librdkafka's errors to ``ClientError``.

Invariant: an error object of the library is freed by the function that reads it.
"""

from __future__ import annotations

import ctypes

from shared.kafka.engine.codes import Code
from shared.kafka.engine.native.library import Library
from shared.kafka.engine.native.structs import NO_ERROR, TEXT_BYTES
from shared.kafka.engine.port import ClientError, Flags


def of_code(
    library: Library,
    code: int,
    text: str | None = None,
    *,
    flags: Flags = Flags.NONE,
    partition: int | None = None,
) -> ClientError:
    """Return the error of a code.

    text : what the library said; default: its description of the code
    """
    described = text or _text(library.err2str(code))
    return ClientError(code, f"{described} ({_text(library.err2name(code))})", flags, partition)


def of_client(
    library: Library, client: int, code: int, text: str | None = None, partition: int | None = None
) -> ClientError:
    """Return the error of a client's call; the cause, where the client only says it is unusable.

    client : its address
    """
    if code == Code.LOCAL_FATAL:
        return fatal(library, client) or of_code(library, code, text, flags=Flags.FATAL)
    return of_code(library, code, text, partition=partition)


def fatal(library: Library, client: int) -> ClientError | None:
    """Return what has made a client unusable; None while it is usable."""
    text = ctypes.create_string_buffer(TEXT_BYTES)
    code = library.fatal_error(client, text, TEXT_BYTES)
    if code == NO_ERROR:
        return None
    return of_code(library, code, _text(text.value), flags=Flags.FATAL)


def check_code(library: Library, client: int, code: int) -> None:
    """Raise the error of a code, if it is one."""
    if code != NO_ERROR:
        raise of_client(library, client, code)


def check_error(library: Library, client: int, error: int | None) -> None:
    """Raise what an error object says, and free it; a null pointer is success."""
    if not error:
        return
    try:
        code = library.error_code(error)
        text = _text(library.error_string(error))
        flags = Flags.NONE
        if library.error_is_fatal(error):
            flags |= Flags.FATAL
        if library.error_is_retriable(error):
            flags |= Flags.RETRIABLE
        if library.error_txn_requires_abort(error):
            flags |= Flags.ABORT
    finally:
        library.error_destroy(error)
    if code == Code.LOCAL_FATAL:
        raise of_client(library, client, code, text)
    raise of_code(library, code, text, flags=flags)


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")
