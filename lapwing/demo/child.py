"""Runs a module as a child process that ends when its parent ends, however the parent ends.

Invariant: the parent holds the writing end of a pipe and never writes; when the reading end reports
           end of file, the parent is gone.

Usage: ``python -m lapwing.demo.child FD MODULE ARGS...``
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 3.0


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def main() -> None:
    """Monitor the pipe in a thread and run the module."""
    lifeline, module, *arguments = sys.argv[1:]
    threading.Thread(
        target=_end_with_parent, args=(int(lifeline),), name="lifeline", daemon=True
    ).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
