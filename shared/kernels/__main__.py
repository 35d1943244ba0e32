"""``python -m shared.kernels``: compile every kernel into numba's cache, so that services start at
                              once.

Every kernel that is called from outside has an explicit signature, so importing its module compiles
it, and with it what it
calls: the members, forecast, calibration, policy and combination of the ensemble have none and come
       with ``ensemble_rows``.
Modules are compiled side by side, a process for each core: numba's compiler holds the interpreter's
lock.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

SHARED = Path(__file__).parents[1]
LONGEST_FIRST = ("ensemble_rows", "quality_rows", "avro_rows", "avro_values")
"""Begun before the others, which fill the time that is left on the other cores."""


def kernel_modules() -> list[str]:
    """Return the modules of all rooms' kernels below ``shared``, the longest to compile first."""
    files = sorted(SHARED.rglob("kernels/[a-z]*.py"))
    files.sort(key=lambda file: (*LONGEST_FIRST, file.stem).index(file.stem))
    return [".".join(file.relative_to(SHARED).with_suffix("").parts) for file in files]


def compile_module(name: str) -> tuple[str, float]:
    """Import one module of kernels; return its name and the seconds that it took."""
    began_s = time.perf_counter()
    importlib.import_module(f"shared.{name}")
    return name, time.perf_counter() - began_s


def main() -> int:
    """Compile all kernels and say how long each module took."""
    names = kernel_modules()
    processes = min(len(os.sched_getaffinity(0)), len(names))
    fork = multiprocessing.get_context("fork")  # numba is not loaded here, so nothing is inherited
    with ProcessPoolExecutor(processes, mp_context=fork) as pool:
        for done in as_completed(pool.submit(compile_module, name) for name in names):
            name, seconds = done.result()
            if seconds >= 0.5:
                sys.stdout.write(f"compiled {name:<40} {seconds:5.1f} s\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
