"""Loads the kernels of this engine when the first records are fetched or sent.

Invariant: creating a client loads no kernel, so that a predictor connects while its kernels load.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

from shared.kafka.engine.native.library import Unavailable


def check_compiler() -> None:
    """Raise Unavailable where numba's compiler is switched off."""
    from numba import config

    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise Unavailable("it needs compiled kernels, and NUMBA_DISABLE_JIT is set")


@cache
def kernels() -> ModuleType:
    """Return ``kernels.messages_memory``."""
    from shared.kafka.engine.native.kernels import messages_memory

    return messages_memory
