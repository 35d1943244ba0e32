"""``python -m shared.kernels``: compile every kernel into numba's cache, so that services start at once.

Every kernel that is called from outside has an explicit signature, so importing its module compiles it, and with it what it
calls: the members, forecast, calibration, policy and combination of the ensemble have none and come with ``ensemble``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time

import shared.kernels


def main() -> int:
    """Import all kernels and say how long each took."""
    for module in sorted(found.name for found in pkgutil.iter_modules(shared.kernels.__path__)):
        if not module.startswith("__"):
            began_s = time.perf_counter()
            importlib.import_module(f"shared.kernels.{module}")
            sys.stdout.write(f"{module:<12} {time.perf_counter() - began_s:6.2f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
