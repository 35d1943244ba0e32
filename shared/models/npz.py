"""Reads and writes an npz of plain arrays, without trusting any number in the file.

Invariant: pure functions of bytes; equal arrays give equal bytes. ``read`` accepts only what
``write`` produces: the expected members, sorted by name and uncompressed, with nothing before,
between or after them but a directory that agrees with them. It iterates over the expected names,
compares every length with the bytes that exist, and allocates one copy of each array. It uses
neither zipfile (an object per directory entry) nor numpy's reader (evaluates the header as Python).

safetensors 0.8.0 would save a hundred lines here but none of the checks: a file of 17 MB with many
empty tensors took 540 MB to load, booleans other than 0 and 1 and repeated names were accepted, and
a lack of memory ended the process instead of raising MemoryError.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

_LOCAL = struct.Struct("<4s5H3I2H")
"""A ZIP local file header.

Signature, version, flags, method, time, date, CRC-32, compressed and uncompressed size, lengths of
name and extra field.
"""

_ENTRY = struct.Struct("<4sH26s3H2I")
"""A ZIP directory entry.

Signature, version, bytes 4 to 29 of the local header, length of the comment, disk, two attributes,
offset.
"""

_END = struct.Struct("<4s4H2IH")
"""The end of the ZIP directory.

Signature, disk, the directory's disk, entries on it, entries, the directory's size and offset,
length of the comment.
"""

_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?\w{1,9})', 'fortran_order': (True|False),"
    rb" 'shape': \(((?:\d{1,19}, ){0,3}(?:\d{1,19})?,?)\), \} *\n"
)
_MAGIC = b"\x93NUMPY\x01\x00"


def write(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Write arrays sorted by name, uncompressed and dated 1980: bytes depend on them alone."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return target.getvalue()


def read(data: bytes, layout: Mapping[str, tuple[str, int]]) -> Arrays:
    """Read arrays; each is aligned, writable and owns its memory.

    layout  : name -> (dtype as in an npy header, dimensions)
    raises  : ValueError naming the member and the check
    """
    view = memoryview(data)
    offset = 0
    directory: list[bytes] = []
    arrays: Arrays = {}
    for name in sorted(layout):
        start, stop = _member(view, offset, f"{name}.npy".encode())
        directory.append(_entry(view, offset, name))
        arrays[name] = _array(view[start:stop], name, *layout[name])
        offset = stop
    _check_directory(view, offset, directory)
    return arrays


def _member(view: memoryview, offset: int, name: bytes) -> tuple[int, int]:
    """Return start and stop of the content of the member whose header is at an offset."""
    if len(view) < offset + _LOCAL.size or bytes(view[offset : offset + 4]) != b"PK\3\4":
        raise ValueError(f"members: {name.decode()} is missing at byte {offset}")
    _, _, flags, method, _, _, crc, stored, plain, name_size, extra_size = _LOCAL.unpack_from(
        view, offset
    )
    name_start = offset + _LOCAL.size
    start = name_start + name_size + extra_size
    found = bytes(view[name_start : name_start + min(name_size, 80)])
    if found != name:
        raise ValueError(
            f"members: they are not the detector's arrays: found {found!r}, expected"
            f" {name.decode()}"
        )
    if method != zipfile.ZIP_STORED:
        raise ValueError(f"members: {name.decode()} is compressed")
    if flags or extra_size or stored != plain:
        raise ValueError(f"members: {name.decode()} has flags, an extra field or two sizes")
    if start + plain > len(view):
        raise ValueError(
            f"members: {name.decode()} has {max(0, len(view) - start)} bytes, its header states"
            f" {plain}"
        )
    if zlib.crc32(view[start : start + plain]) != crc:
        raise ValueError(f"members: {name.decode()} does not match its CRC-32")
    return start, start + plain


def _entry(view: memoryview, offset: int, name: str) -> bytes:
    """Return the expected directory entry of a member; version and attributes are left 0."""
    local = bytes(view[offset + 4 : offset + _LOCAL.size])
    return _ENTRY.pack(b"PK\1\2", 0, local, 0, 0, 0, 0, offset) + f"{name}.npy".encode()


def _check_directory(view: memoryview, start: int, entries: list[bytes]) -> None:
    if bytes(view[start : start + 4]) == b"PK\3\4":
        raise ValueError(
            f"members: they are not the detector's arrays: found another one at byte {start}"
        )
    offset = start
    for expected in entries:
        found = bytearray(view[offset : offset + len(expected)])
        if len(found) == len(expected):
            found[4:6] = bytes(2)  # made by
            found[36:42] = bytes(6)  # attributes
        if found != expected:
            raise ValueError(
                "members: the directory does not agree with the header of"
                f" {expected[_ENTRY.size :].decode()}"
            )
        offset += len(expected)
    end = _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), offset - start, start, 0)
    if len(view) - offset != len(end) or bytes(view[offset:]) != end:
        raise ValueError("members: unexpected bytes after the directory's last entry")


def _array(member: memoryview, name: str, dtype: str, dimensions: int) -> npt.NDArray[Any]:
    size = int.from_bytes(member[8:10], "little")
    header = _HEADER.fullmatch(member[10 : 10 + size]) if member[:8] == _MAGIC else None
    if header is None:
        raise ValueError(f"{name}: it is not npy version 1.0 with a plain dtype")
    found = header[1].decode()
    shape = tuple(int(length) for length in re.findall(rb"\d+", header[3]))
    is_fortran = header[2] != b"False"
    if found != dtype or is_fortran:
        order = " in Fortran order" if is_fortran else ""
        raise ValueError(f"{name}: it has dtype {found}{order}, not {dtype}")
    body = member[10 + size :]
    if len(shape) != dimensions or math.prod(shape) * np.dtype(dtype).itemsize != len(body):
        raise ValueError(
            f"{name}: shape {shape} does not have {dimensions} dimensions, or does not fit its"
            f" {len(body)} bytes"
        )
    array = np.frombuffer(body, dtype).reshape(shape).copy()
    if dtype == "|b1" and (array.view(np.uint8) > 1).any():
        raise ValueError(f"{name}: a boolean is neither 0 nor 1")
    return array
