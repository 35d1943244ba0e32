"""Prometheus remote write, versions 1 and 2: a request's body, compressed with snappy.

Invariant: a sample is a row. A stale marker, and any other NaN, is a missing value. Nothing is
decompressed beyond the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import cramjam
from google.protobuf.message import DecodeError

from lapwing.route.formats.remote_write_messages import request_class
from lapwing.route.label_template import NAME
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample, shown

_Request = request_class()
_LENGTH_BYTES = 5


class RemoteWrite:
    """A ``RowDecoder`` of snappy-compressed requests.

    most_bytes : of a request, decompressed
    """

    format = "remote_write"

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"sample {row}"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        body = self._decompressed(value)
        try:
            request = _Request.FromString(body)
        except DecodeError as error:
            detail = f"its {len(body)} bytes are not a write request in protobuf: {shown(error)}"
            raise RecordRefused(Refused.MALFORMED, detail) from error
        return self._rows(request)

    def _decompressed(self, value: bytes) -> bytes:
        size = _decompressed_bytes(value)
        if size is None:
            raise RecordRefused(
                Refused.MALFORMED,
                "it does not begin with the length of a block of snappy, at offset 0; the body of"
                " a write request is compressed with it",
            )
        if size > self._most_bytes:
            raise RecordRefused(
                Refused.TOO_LARGE,
                f"it has {size} bytes when it is decompressed; route.max_decompressed_bytes is"
                f" {self._most_bytes}",
            )
        try:
            return bytes(cramjam.snappy.decompress_raw(value))
        except cramjam.DecompressionError as error:
            detail = f"it is not a block of snappy: {shown(error)}"
            raise RecordRefused(Refused.MALFORMED, detail) from error

    def _rows(self, request: Any) -> Iterator[Row]:
        for series in request.timeseries:
            labels = {one.name: one.value for one in series.labels}
            yield from _samples(series, labels)
        if not request.series:
            return
        symbols = list(request.symbols)
        for series in request.series:
            refs = list(series.labels_refs)
            if len(refs) % 2 or max(refs, default=0) >= len(symbols):
                yield Refusal(
                    Refused.ROW_UNFIT,
                    f"a series has {len(refs)} labels_refs, up to {max(refs, default=0)}; they must"
                    f" be pairs below the number of symbols, {len(symbols)}",
                )
                continue
            texts = [symbols[ref] for ref in refs]
            yield from _samples(series, dict(zip(texts[::2], texts[1::2], strict=True)))


def _samples(series: Any, labels: Mapping[str, str]) -> Iterator[Row]:
    name = labels.get(NAME, "")
    for sample in series.samples:
        if not name:
            yield Refusal(Refused.ROW_UNFIT, f"a series has no label {NAME}")
            continue
        value = sample.value
        yield Sample(name, labels, sample.timestamp, {"": value if value == value else None})
    for _ in series.histograms:
        yield Refusal(
            Refused.NOT_SUPPORTED,
            f"{shown(name)} is a native histogram, which is not read: leave it out with"
            " write_relabel_configs, or send classic histograms",
        )


def _decompressed_bytes(value: bytes) -> int | None:
    """Return the length at the beginning of a block, None where there is none."""
    size = 0
    for number, byte in enumerate(value[:_LENGTH_BYTES]):
        size |= (byte & 127) << 7 * number
        if byte < 128:
            return size
    return None
