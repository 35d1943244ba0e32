"""Arrays whose references are not counted.

Invariant: a borrowed array is used only while its caller holds the array itself.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

Array = TypeVar("Array")


def borrowed(array: Array) -> Array:
    """Return an array, or a NamedTuple of arrays, of compiled code without reference counts.

    Each function that an array enters counts a reference to it, by two atomic instructions; those
    are a part of the cost of a small function. Only for arguments of a kernel that Python calls:
    they live as long as the call. A local array might be released before its last use.
    """
    return array


@intrinsic
def _without_count(_typing, array):  # type: ignore[no-untyped-def]
    """Return the array's structure with no owner of its memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _disown(context, builder, signature.args[0], arguments[0])

    return array(array), generate


@intrinsic
def _without_counts(_typing, arrays):  # type: ignore[no-untyped-def]
    """Return the arrays of a tuple with no owner of their memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for place, array in enumerate(signature.args[0].types):
            owned = builder.extract_value(arguments[0], place)
            disowned = _disown(context, builder, array, owned)
            result = builder.insert_value(result, disowned, place)
        return result

    return arrays(arrays), generate


def _disown(context: Any, builder: Any, array: Any, value: Any) -> Any:
    structure = context.make_array(array)(context, builder, value)
    null: Any = cgutils.get_null_value
    structure.meminfo = null(structure.meminfo.type)
    structure.parent = null(structure.parent.type)
    return structure._getvalue()


@overload(borrowed)
def _borrowed(array):  # type: ignore[no-untyped-def]  # compared with what it returns
    is_tuple = isinstance(array, types.BaseNamedTuple)
    without_count: Any = _without_counts if is_tuple else _without_count
    return lambda array: without_count(array)
