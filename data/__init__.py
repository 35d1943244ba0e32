"""What the producer ships with: the catalogue of series, the checksums of NAB, and a small
generated sample.
"""

from __future__ import annotations

from importlib.resources import files


def text(name: str) -> str:
    """Return a shipped file, e.g. ``catalogue.toml``."""
    return files(__name__).joinpath(name).read_text("utf-8")
