"""Reading of records into the processor's cache ahead of their use.

Invariant: nothing is changed, and no result depends on it.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

LINE = 64
"""Bytes of a line of the cache."""

READ, INTO_SECOND_LEVEL, DATA = 0, 2, 1
"""Operands of the instruction: the first level is too small for a record."""


def prefetch(records: Any, place: int, first: int, size: int) -> None:
    """Begin to read bytes of one record of an array; their use comes later.

    records     : (n,)  any type
    place       : of the record, 0..n-1
    first, size : bytes from the record's start; nothing is read where there is none

    A hint: it changes nothing and fails at nothing. Plain Python ignores it.
    """


@intrinsic
def _prefetch(_typing, records, place, first, size):  # type: ignore[no-untyped-def]
    """Emit one prefetch instruction a line."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = context.get_value_type(types.intp)
        base = builder.ptrtoint(array.data, word)
        item = builder.extract_value(array.strides, 0)
        begin = builder.add(builder.add(base, builder.mul(arguments[1], item)), arguments[2])
        pointer, number = cgutils.voidptr_t, cgutils.int32_t
        ir: Any = vars(cgutils)["ir"]
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        lines = builder.udiv(builder.add(arguments[3], word(LINE - 1)), word(LINE))
        operands = [number(operand) for operand in (READ, INTO_SECOND_LEVEL, DATA)]
        with cgutils.for_range(builder, lines, intp=word) as loop:
            at = builder.add(begin, builder.mul(loop.index, word(LINE)))
            builder.call(call, [builder.inttoptr(at, pointer), *operands])
        return context.get_dummy_value()

    return types.void(records, types.intp, types.intp, types.intp), generate


@overload(prefetch)
def _prefetched(records, place, first, size):  # type: ignore[no-untyped-def]
    emit: Any = _prefetch
    return lambda records, place, first, size: emit(records, place, first, size)
