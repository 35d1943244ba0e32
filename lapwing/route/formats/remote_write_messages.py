"""The protobuf messages of Prometheus remote write, as far as they are read.

Invariant: field numbers are those of prometheus/prompb and io.prometheus.write.v2. The two versions
use different numbers for their fields, so that one message reads both.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "lapwing.remote_write"
_FIELD = descriptor_pb2.FieldDescriptorProto

_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Label": (("name", 1, "string"), ("value", 2, "string")),
    "Sample": (("value", 1, "double"), ("timestamp", 2, "int64")),
    "Nothing": (),
    "SeriesV1": (("labels", 1, "*Label"), ("samples", 2, "*Sample"), ("histograms", 4, "*Nothing")),
    "SeriesV2": (
        ("labels_refs", 1, "*uint32"),
        ("samples", 2, "*Sample"),
        ("histograms", 3, "*Nothing"),
    ),
    "Request": (
        ("timeseries", 1, "*SeriesV1"),
        ("symbols", 4, "*string"),
        ("series", 5, "*SeriesV2"),
    ),
}
"""Message -> (name, number, type) of its fields; '*' = repeated."""

_TYPES = {
    "string": _FIELD.TYPE_STRING,
    "double": _FIELD.TYPE_DOUBLE,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
}


def request_class() -> Any:
    """Return the class of a request of either version."""
    file = descriptor_pb2.FileDescriptorProto(
        name="lapwing/remote_write.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            one = described.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
            if kind.startswith("*"):
                one.label = _FIELD.LABEL_REPEATED
            plain = kind.removeprefix("*")
            one.type = _TYPES.get(plain, _FIELD.TYPE_MESSAGE)
            if plain not in _TYPES:
                one.type_name = f".{_PACKAGE}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))
