"""Arrays as an npz that numpy reads as well; a file that was not written exactly so is refused."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.models import npz

ARRAYS = {
    "a.flags": np.array([True, False, True]),
    "a.values": np.arange(12, dtype=np.float64).reshape(3, 4),
    "b": np.array(2.5),
    "c.bytes": np.frombuffer(b"lapwing", np.uint8),
    "c.none": np.empty((0, 3), np.int64),
}
LAYOUT = {
    "a.flags": ("|b1", 1),
    "a.values": ("<f8", 2),
    "b": ("<f8", 0),
    "c.bytes": ("|u1", 1),
    "c.none": ("<i8", 2),
}
DATA = npz.write(ARRAYS)


def test_what_was_written_is_read() -> None:
    read = npz.read(DATA, LAYOUT)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (read[name].dtype, read[name].shape, read[name].tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )
        assert read[name].flags.aligned
        assert read[name].flags.writeable
        assert read[name].flags.c_contiguous


def test_numpy_reads_the_same() -> None:
    with np.load(io.BytesIO(DATA), allow_pickle=False) as theirs:
        assert sorted(theirs) == sorted(ARRAYS)
        assert all(np.array_equal(theirs[name], array) for name, array in ARRAYS.items())


def test_order_of_the_names_is_no_matter() -> None:
    assert npz.write(dict(reversed(ARRAYS.items()))) == DATA


def test_every_cut_is_refused() -> None:
    for size in range(len(DATA)):
        with pytest.raises(ValueError, match=r"members: |it is not npy"):
            npz.read(DATA[:size], LAYOUT)


def test_bit_flipped_anywhere_is_refused_or_of_no_meaning() -> None:
    """What nobody looks at: versions, attributes, the date in both places is compared."""
    for place in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[place] ^= 1
        try:
            read = npz.read(bytes(damaged), LAYOUT)
        except ValueError:
            continue
        assert all(read[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())


@settings(max_examples=300)
@given(st.binary(max_size=400), st.integers(0, len(DATA)), st.integers(0, len(DATA)))
def test_any_bytes_are_arrays_or_a_sentence(junk: bytes, start: int, stop: int) -> None:
    message = ""
    try:
        npz.read(DATA[:start] + junk + DATA[stop:], LAYOUT)
    except ValueError as error:
        message = str(error)
    assert len(message) < 500


def member(name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The file with a member changed, otherwise as we write it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(DATA)) as source, zipfile.ZipFile(target, "w") as archive:
        for one in source.namelist():
            archive.writestr(
                zipfile.ZipInfo(one), change(source.read(one)) if one == name else source.read(one)
            )
    return target.getvalue()


def header(text: str) -> Callable[[bytes], bytes]:
    """Another npy header before the same values."""
    return lambda data: (
        data[:8]
        + struct.pack("<H", len(text))
        + text.encode()
        + data[10 + int.from_bytes(data[8:10], "little") :]
    )


SHAPED = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }} \n"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a.values.npy", header("(" * 9000), "it is not npy version 1.0"),
        ("a.values.npy", header("-" * 9000 + "1\n"), "it is not npy version 1.0"),
        ("a.values.npy", header(SHAPED.format("<f8", "(3, -4)")), "it is not npy version 1.0"),
        (
            "a.values.npy",
            header(SHAPED.format("<f8", "(1, 1, 1, 3, 4)")),
            "it is not npy version 1.0",
        ),
        (
            "a.values.npy",
            header(SHAPED.format("<f8", f"({10**40},)")),
            "it is not npy version 1.0",
        ),
        (
            "a.values.npy",
            header(SHAPED.format("<f8", "__import__('os').abort()")),
            "it is not npy version 1.0",
        ),
        (
            "a.values.npy",
            header(SHAPED.format("<f8", f"({10**18}, {10**18})")),
            "does not fit its 96 bytes",
        ),
        ("a.values.npy", header(SHAPED.format("<f8", "(12,)")), "does not have 2 dimensions"),
        ("a.values.npy", header(SHAPED.format("|O", "(3, 4)")), r"dtype \|O, not <f8"),
        ("a.values.npy", lambda data: b"\x93NUMPY\2\0" + data[8:], "it is not npy version 1.0"),
        ("a.values.npy", lambda data: data + b"\0", "does not fit its 97 bytes"),
        ("a.values.npy", lambda data: b"", "it is not npy version 1.0"),
        (
            "c.none.npy",
            header(SHAPED.format("<i8", f"(0, {9 * 10**18})")),
            "c.none|too (big|large)|[Mm]aximum",
        ),
        ("a.flags.npy", lambda data: data[:-1] + b"\2", "a boolean is neither 0 nor 1"),
    ],
)
def test_odd_members_are_refused(name: str, change: Callable[[bytes], bytes], message: str) -> None:
    npz.read(member("", lambda data: data), LAYOUT)
    with pytest.raises(ValueError, match=message):
        npz.read(member(name, change), LAYOUT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA + b"\0", "unexpected bytes after"),
        (b"\0" + DATA, "is missing at byte 0"),
        (DATA[:-22] + DATA, "unexpected bytes after"),
        (npz.write(ARRAYS | {"d": np.zeros(1)}), "found another one at byte"),
        (
            npz.write({name: array for name, array in ARRAYS.items() if name != "b"}),
            "found b'c.bytes.npy', expected b.npy",
        ),
        (npz.write({}), "is missing at byte 0"),
    ],
)
def test_more_or_less_than_the_members_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        npz.read(data, LAYOUT)


def test_an_array_that_is_its_own_keeps_nothing_else_alive() -> None:
    assert all(
        array.base is None or array.base.nbytes == array.nbytes
        for array in npz.read(DATA, LAYOUT).values()
    )
