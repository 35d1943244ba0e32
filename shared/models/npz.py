"""An npz of plain arrays: equal arrays give equal bytes, and a file is read without believing a number
                        in it.

Law: pure functions of bytes. ``read`` takes what ``write`` makes and nothing else: the expected
     members in the order of their
names, stored, with nothing before, between or behind them but the directory, which has to agree. It
walks that list of names and not what the file claims to hold, it compares every length with the
bytes that are there, and it allocates one copy of each array. zipfile (an object per entry of the
directory) and numpy's reader (a header that is evaluated as Python) never see it.
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
"""Signature, version, flags, method, time, date, CRC-32, stored and plain size, lengths of name and
extra field.
"""

_ENTRY = struct.Struct("<4sH26s3H2I")
"""Signature, version, the local header's bytes 4 to 29, length of the comment, disk, two
attributes, offset.
"""

_END = struct.Struct("<4s4H2IH")
"""Signature, disk, its directory's, entries here, entries, the directory's size and offset, length
of the comment.
"""

_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?\w{1,9})', 'fortran_order': (True|False),"
    rb" 'shape': \(((?:\d{1,19}, ){0,3}(?:\d{1,19})?,?)\), \} *\n"
)
_MAGIC = b"\x93NUMPY\x01\x00"


def write(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Write arrays; the bytes depend on them alone: sorted, stored, and dated 1980."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, member.getvalue())
    return target.getvalue()


def read(data: bytes, layout: Mapping[str, tuple[str, int]]) -> Arrays:
    """Read arrays, each its own, aligned and writable.

    layout  : name -> (dtype as in an npy header, dimensions)
    raises  : ValueError naming the member and the check
    """
    view, place, directory = memoryview(data), 0, list[bytes]()
    arrays: Arrays = {}
    for name in sorted(layout):
        start, stop = _member(view, place, f"{name}.npy".encode())
        directory.append(_entry(view, place, name))
        arrays[name] = _array(view[start:stop], name, *layout[name])
        place = stop
    _check_directory(view, place, directory)
    return arrays


def _member(view: memoryview, place: int, name: bytes) -> tuple[int, int]:
    """Where the content of the member that begins at a place begins and ends."""
    if len(view) < place + _LOCAL.size or bytes(view[place : place + 4]) != b"PK\3\4":
        raise ValueError(f"members: there is none at byte {place}, where {name.decode()} has to be")
    _, _, flags, method, _, _, crc, stored, plain, name_size, extra_size = _LOCAL.unpack_from(
        view, place
    )
    start = place + _LOCAL.size + name_size + extra_size
    found = bytes(view[place + _LOCAL.size : place + _LOCAL.size + min(name_size, 80)])
    if found != name:
        raise ValueError(
            f"members: they are not the detector's arrays: {found!r} stands where {name.decode()}"
            " has to be"
        )
    if method != zipfile.ZIP_STORED:
        raise ValueError(f"members: {name.decode()} is compressed")
    if flags or extra_size or stored != plain:
        raise ValueError(f"members: {name.decode()} has flags, an extra field or two sizes")
    if start + plain > len(view):
        raise ValueError(
            f"members: {name.decode()} is said to be of {plain} bytes, {max(0, len(view) - start)}"
            " are there"
        )
    if zlib.crc32(view[start : start + plain]) != crc:
        raise ValueError(f"members: {name.decode()} has another CRC-32")
    return start, start + plain


def _entry(view: memoryview, place: int, name: str) -> bytes:
    """What the directory has to say of a member; the versions and attributes, which nobody reads,
    are left 0.
    """
    local = bytes(view[place + 4 : place + _LOCAL.size])
    return _ENTRY.pack(b"PK\1\2", 0, local, 0, 0, 0, 0, place) + f"{name}.npy".encode()


def _check_directory(view: memoryview, place: int, entries: list[bytes]) -> None:
    start = place
    if bytes(view[place : place + 4]) == b"PK\3\4":
        raise ValueError(
            f"members: they are not the detector's arrays: there is one more at byte {place}"
        )
    for expected in entries:
        found = bytearray(view[place : place + len(expected)])
        if len(found) == len(expected):
            found[4:6], found[36:42] = bytes(2), bytes(6)  # made by, attributes
        if found != expected:
            raise ValueError(
                f"members: the directory says something else of {expected[_ENTRY.size :].decode()}"
            )
        place += len(expected)
    end = _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), place - start, start, 0)
    if len(view) - place != len(end) or bytes(view[place:]) != end:
        raise ValueError("members: something stands behind the last one's entry in the directory")


def _array(member: memoryview, name: str, dtype: str, dimensions: int) -> npt.NDArray[Any]:
    size = int.from_bytes(member[8:10], "little")
    header = _HEADER.fullmatch(member[10 : 10 + size]) if member[:8] == _MAGIC else None
    if header is None:
        raise ValueError(f"{name}: it is not of npy version 1.0, with a plain dtype")
    found, order, shape = (
        header[1].decode(),
        header[2],
        tuple(int(length) for length in re.findall(rb"\d+", header[3])),
    )
    if found != dtype or order != b"False":
        raise ValueError(
            f"{name}: it has dtype {found}{' in Fortran order' if order == b'True' else ''}, not"
            f" {dtype}"
        )
    body = member[10 + size :]
    if len(shape) != dimensions or math.prod(shape) * np.dtype(dtype).itemsize != len(body):
        raise ValueError(
            f"{name}: shape {shape} is not of {dimensions} dimensions, or does not fit its"
            f" {len(body)} bytes"
        )
    array = np.frombuffer(body, dtype).reshape(shape).copy()
    if dtype == "|b1" and (array.view(np.uint8) > 1).any():
        raise ValueError(f"{name}: a truth value is neither 0 nor 1")
    return array
