"""Steps: parts of a kernel that have a name.

Invariant: what a step computes is what its lines would compute in the place of the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def step(function: Kernel) -> Kernel:
    """Compile a function as a part of each kernel that calls it.

    LLVM optimises all that a kernel calls once more with the kernel, level by level: one more
    level around the fold's values takes a tenth of the fold's compile time. A step is no level,
    because numba copies it into the caller before it infers types.
    """
    compiler: Any = njit(cache=True, inline="always")
    return cast("Kernel", compiler(function))
