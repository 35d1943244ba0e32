"""Reads the memory of librdkafka and calls its functions by their addresses, in compiled code.

Invariant: an address is used only while its owner keeps it valid; each kernel says who that is. No
size is taken from the bytes of a record: librdkafka states sizes in structures of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shared.kafka.engine.native.structs import COPY_PAYLOAD, UNASSIGNED_PARTITION

_WORD, _HALF, _NOTHING = ir.IntType(64), ir.IntType(32), ir.VoidType()
I8 = types.int64
_foreign: Callable[[Any], Callable[..., Any]] = intrinsic


def _load(builder: Any, address: Any, kind: Any) -> Any:
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = 1
    return loaded


def _call(builder: Any, arguments: Any, result: Any, parameters: list[Any]) -> Any:
    """Call the function whose address is the first of the arguments."""
    kind = ir.FunctionType(result, parameters)
    return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])


@_foreign
def load_word(_typing: Any, _address: Any) -> Any:
    """Return the int64 at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _load(builder, arguments[0], _WORD)

    return I8(I8), generate


@_foreign
def load_half(_typing: Any, _address: Any) -> Any:
    """Return the int32 at an address, as an int64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sext(_load(builder, arguments[0], _HALF), _WORD)

    return I8(I8), generate


@_foreign
def copy_memory(_typing: Any, _to: Any, _source: Any, _size: Any) -> Any:
    """Copy ``size`` bytes from one address to another; the two do not overlap."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        copy = builder.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _WORD])
        to, source = (builder.inttoptr(address, pointer) for address in arguments[:2])
        builder.call(copy, [to, source, arguments[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(I8, I8, I8), generate


@_foreign
def call_for_word(_typing: Any, _function: Any, _first: Any, _second: Any) -> Any:
    """Return ``int64_t function(void *, void *)``."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _call(builder, arguments, _WORD, [_WORD, _WORD])

    return I8(I8, I8, I8), generate


@_foreign
def call_for_half(_typing: Any, _function: Any, _first: Any, _second: Any) -> Any:
    """Return ``int32_t function(void *, void *)``, as an int64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sext(_call(builder, arguments, _HALF, [_WORD, _WORD]), _WORD)

    return I8(I8, I8, I8), generate


@_foreign
def call_for_nothing(_typing: Any, _function: Any, _first: Any) -> Any:
    """Call ``void function(void *)``."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _call(builder, arguments, _NOTHING, [_WORD])
        return context.get_dummy_value()

    return types.void(I8, I8), generate


@_foreign
def call_without_arguments(_typing: Any, _function: Any) -> Any:
    """Return ``int32_t function(void)``, as an int64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sext(_call(builder, arguments, _HALF, []), _WORD)

    return I8(I8), generate


@_foreign
def call_produce(
    _typing: Any,
    _function: Any,
    _topic: Any,
    _payload: Any,
    _payload_bytes: Any,
    _key: Any,
    _key_bytes: Any,
) -> Any:
    """Call ``rd_kafka_produce``, which copies payload and key; return 0, or -1 on failure.

    The partition is that of the key.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function, topic, *memory = arguments
        partition = ir.Constant(_HALF, UNASSIGNED_PARTITION)
        flags = ir.Constant(_HALF, COPY_PAYLOAD)
        opaque = ir.Constant(_WORD, 0)
        parameters = [_WORD, _HALF, _HALF, *[_WORD] * 5]
        values = [function, topic, partition, flags, *memory, opaque]
        return builder.sext(_call(builder, values, _HALF, parameters), _WORD)

    return I8(I8, I8, I8, I8, I8, I8), generate
