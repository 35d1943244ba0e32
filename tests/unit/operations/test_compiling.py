"""What is logged about kernels that are compiled."""

from __future__ import annotations

import pytest
from numba import config, njit
from structlog.testing import capture_logs

from shared.operations.compiling import compilation_logged


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_compiled_kernels_are_named_and_counted() -> None:
    ticks = iter([0.0, 1.0, 3.5, 7.0, 9.0, 9.5])
    waits: list[str] = []
    with capture_logs() as logged, compilation_logged(waits.append, lambda: next(ticks)):

        @njit("i8(i8)")  # type: ignore[untyped-decorator]
        def inner(number: int) -> int:
            return number + 1

        @njit("i8(i8)")  # type: ignore[untyped-decorator]
        def outer(number: int) -> int:
            return number + 2

    assert [(line["event"], line.get("seconds")) for line in logged] == [
        ("compiling kernels", None),
        ("kernel compiled", 1.0),
        ("kernel compiled", 3.5),
        ("kernels compiled", 4.5),
    ]
    assert logged[1]["kernel"].endswith(".inner")
    assert logged[3]["kernels"] == 2
    assert waits[1].endswith(".outer")


def test_nothing_is_logged_where_nothing_is_compiled() -> None:
    waits: list[str] = []
    with capture_logs() as logged, compilation_logged(waits.append):
        pass
    assert (logged, waits) == ([], [])
