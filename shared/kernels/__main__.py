"""``python -m shared.kernels``: compile every kernel into numba's cache, so that services start at once.

Every kernel that is called from outside has an explicit signature, so importing its module compiles it, and with it what it
calls: the members, forecast, calibration, policy and combination of the ensemble have none and come with ``ensemble``.
Modules are compiled side by side, a process for each core: numba's compiler holds the interpreter's lock.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

import shared.kernels

LONGEST_FIRST = ("ensemble", "quality", "avro", "encoding")
"""Begun before the others, which fill the time that is left on the other cores."""


def compile_module(name: str) -> tuple[str, float]:
    """Import one module of kernels; return its name and the seconds that it took."""
    began_s = time.perf_counter()
    importlib.import_module(f"shared.kernels.{name}")
    return name, time.perf_counter() - began_s


def main() -> int:
    """Compile all kernels and say how long each module took."""
    found = {module.name for module in pkgutil.iter_modules(shared.kernels.__path__)}
    names = sorted(name for name in found if not name.startswith("__"))
    names.sort(key=lambda name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(names))
    processes = min(len(os.sched_getaffinity(0)), len(names))
    fork = multiprocessing.get_context("fork")  # numba is not loaded here, so nothing is inherited
    with ProcessPoolExecutor(processes, mp_context=fork) as pool:
        for done in as_completed(pool.submit(compile_module, name) for name in names):
            name, seconds = done.result()
            if seconds >= 0.5:
                sys.stdout.write(f"compiled {name:<10} {seconds:5.1f} s\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
