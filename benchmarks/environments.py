"""Environments of their own for other systems, so that none of their packages meets the product's.

Invariant: packages are pinned, and an environment is reused only for exactly the same ones.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def python_with(name: str, packages: Sequence[str]) -> Path:
    """Return the Python of an environment with these packages; made on first use, by pip.

    name     : of the environment, for people
    packages : pinned, "name==version"
    raises   : CalledProcessError where they cannot be installed
    """
    listed = " ".join((sys.version, *packages))
    digest = hashlib.sha256(listed.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"lapwing-bench-{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
        subprocess.run([*command, *packages], check=True)
        (folder / "complete").touch()
    return python
