"""The directory of names: indices, growth, collisions, and the twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Blob
from shared.directory import UNKNOWN, Directory
from tests.reference import directory as reference

NAMES = st.text(max_size=24)


def interned(directory: Directory, names: list[bytes]) -> list[int]:
    blob = Blob.join(names)
    return directory.intern(np.frombuffer(blob.data, np.uint8), blob.bounds).tolist()


@given(st.lists(st.lists(st.one_of(NAMES, st.sampled_from(["a", "b", "c" * 40]))), max_size=6))
def test_equals_its_twin(batches: list[list[str]]) -> None:
    directory, known = Directory(), []
    for batch in batches:
        names = [name.encode() for name in batch]
        assert interned(directory, names) == reference.intern_names(known, names)
    assert directory.names() == [name.decode() for name in known]
    assert len(directory) == len(known)


@given(st.lists(NAMES, unique=True, max_size=50))
def test_finds_what_was_added_and_nothing_else(names: list[str]) -> None:
    directory = Directory()
    half = len(names) // 2
    assert [directory.add(name) for name in names[:half]] == list(range(half))
    assert [directory.add(name) for name in names[:half]] == list(range(half))
    assert [directory.find(name) for name in names] == [
        *range(half),
        *[UNKNOWN] * (len(names) - half),
    ]
    assert [directory.name(index) for index in range(half)] == names[:half]


def test_grows_over_many_names_of_every_length() -> None:
    directory, names = Directory(), [f"{'x' * (i % 60)}{i}" for i in range(3000)]
    assert interned(directory, [name.encode() for name in names]) == list(range(3000))
    assert [directory.find(name) for name in names] == list(range(3000))
    assert directory.find("x") == UNKNOWN


def test_names_with_the_same_hash_are_told_apart() -> None:
    """Two names of 16 bytes collide: the second half cancels what the first did to the hash."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def after_first_half(half: int) -> int:
        mixed = ((16 * golden & mask) ^ half) * golden & mask
        return mixed ^ mixed >> 29

    halves = [(1, 7), (2, after_first_half(1) ^ 7 ^ after_first_half(2))]
    names = [first.to_bytes(8, "little") + second.to_bytes(8, "little") for first, second in halves]
    directory = Directory()
    assert interned(directory, names) == interned(directory, names) == [0, 1]
    assert directory._hashes[0] == directory._hashes[1]


@given(st.lists(NAMES, max_size=30), st.integers(0, 500), st.integers(0, 5000))
def test_arrays_depend_on_the_names_alone(
    names: list[str], more_names: int, more_bytes: int
) -> None:
    plain, roomy = Directory(), Directory()
    interned(plain, [name.encode() for name in names])
    for name in names:
        roomy.reserve(more_names, more_bytes)
        roomy.add(name)
    assert bytes_of(plain) == bytes_of(roomy) == bytes_of(Directory.from_arrays(plain.to_arrays()))
    assert (
        Directory.from_arrays(roomy.to_arrays()).names()
        == plain.names()
        == list(dict.fromkeys(names))
    )


def test_arrays_are_copies() -> None:
    directory = Directory()
    directory.add("a")
    arrays = directory.to_arrays()
    directory.add("b")
    assert (arrays["arena"].tobytes(), arrays["bounds"].tolist()) == (b"a", [0, 1])
    arrays["arena"][0] = 0
    assert directory.names() == ["a", "b"]


def test_reserved_room_is_enough() -> None:
    directory = Directory()
    directory.reserve(1000, 5000)
    arena = directory._arena
    interned(directory, [f"{i:05d}".encode() for i in range(1000)])
    assert directory._arena is arena


@pytest.mark.parametrize("index", [-1, 1, 10**9])
def test_no_name_at_an_index(index: int) -> None:
    directory = Directory()
    directory.add("a")
    with pytest.raises(IndexError, match=f"{index}; there are 1"):
        directory.name(index)


@pytest.mark.parametrize(
    ("arena", "bounds", "why"),
    [
        (b"aa", [0, 1, 2], "duplicate"),
        (b"ab", [0, 1], "bounds"),
        (b"ab", [1, 2], "bounds"),
        (b"ab", [0, 2, 1, 2], "bounds"),
        (b"ab", [], "bounds"),
        (b"\xff", [0, 1], "UTF-8"),
    ],
)
def test_refuses_arrays_that_are_no_directory(arena: bytes, bounds: list[int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Directory.from_arrays(
            {"arena": np.frombuffer(arena, np.uint8), "bounds": np.array(bounds, np.int64)}
        )


@pytest.mark.parametrize(("arena", "bounds"), [(np.int8, np.int64), (np.uint8, np.int32)])
def test_refuses_arrays_of_another_type(arena: type, bounds: type) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Directory.from_arrays({"arena": np.zeros(0, arena), "bounds": np.zeros(1, bounds)})


def bytes_of(directory: Directory) -> tuple[bytes, bytes]:
    arrays = directory.to_arrays()
    return arrays["arena"].tobytes(), arrays["bounds"].tobytes()


def test_selects_names_by_their_index_and_leaves_free_places_empty() -> None:
    directory = Directory()
    for name in ("first", "zweiter", "3"):
        directory.add(name)
    selected = directory.select(np.array([2, -1, 0, 0], np.int32))
    assert selected["arena"].tobytes() == b"3firstfirst"
    assert selected["bounds"].tolist() == [0, 1, 1, 6, 11]
    nothing = Directory().select(np.array([-1], np.int32))
    assert (nothing["arena"].size, nothing["bounds"].tolist()) == (0, [0, 0])
