"""Makes the README's picture from a real run: ``python docs/make_picture.py [NAB folder]``.

Takes about a minute; without a folder it shows the generated fleet.

Invariant: everything in the picture was measured in this run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPEED = "40000"


def main() -> int:
    """Run the demo at a speed at which its rates mean something, and keep the picture."""
    series = (
        ["--data", str(Path(sys.argv[1]).resolve())] if len(sys.argv) > 1 else ["--fleet", "20"]
    )
    command = [
        sys.executable,
        "-m",
        "lapwing",
        "demo",
        "--once",
        "--speed",
        SPEED,
        "--svg",
        "docs/demo.svg",
        *series,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own command


if __name__ == "__main__":
    sys.exit(main())
