"""Arrays whose references are not counted.

Invariant: a borrowed array is used only while its caller holds the array itself.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba.core import cgutils
from numba.extending import intrinsic, overload

Array = TypeVar("Array")


def borrowed(array: Array) -> Array:
    """Return an array of compiled code without its reference count.

    Each function that an array enters counts a reference to it, by two atomic instructions; those
    are a part of the cost of a small function. Only for arguments of a kernel that Python calls:
    they live as long as the call. A local array might be released before its last use.
    """
    return array


@intrinsic
def _without_count(_typing, array):  # type: ignore[no-untyped-def]
    """Return the array's structure with no owner of its memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        structure = context.make_array(signature.args[0])(context, builder, arguments[0])
        null: Any = cgutils.get_null_value
        structure.meminfo = null(structure.meminfo.type)
        structure.parent = null(structure.parent.type)
        return structure._getvalue()

    return array(array), generate


@overload(borrowed)
def _borrowed(array):  # type: ignore[no-untyped-def]  # compared with what it returns
    without_count: Any = _without_count
    return lambda array: without_count(array)
