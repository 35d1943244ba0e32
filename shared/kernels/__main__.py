"""Compiles all kernels into numba's cache: ``python -m shared.kernels``.

Services then start without compiling.
A kernel that Python calls has an explicit signature, so importing its module compiles it and the
functions that it calls. The views, levels, episodes and combination of the ensemble have no
signatures and are compiled with ``ensemble_rows``. Each core compiles modules in a process
of its own, because numba's compiler holds the interpreter lock.
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
"""Modules that are compiled first; the others fill the time of the remaining cores."""


def kernel_modules() -> list[str]:
    """Return the kernel modules below ``shared``, those that take longest to compile first."""
    files = sorted(SHARED.rglob("kernels/[a-z]*.py"))
    files.sort(key=lambda file: (*LONGEST_FIRST, file.stem).index(file.stem))
    return [".".join(file.relative_to(SHARED).with_suffix("").parts) for file in files]


def compile_module(name: str) -> tuple[str, float]:
    """Import a kernel module; return its name and the seconds that took."""
    began_s = time.perf_counter()
    importlib.import_module(f"shared.{name}")
    return name, time.perf_counter() - began_s


def main() -> int:
    """Compile all kernels and print how long each module took."""
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
