"""What the producer ships with: a catalogue of series, NAB's checksums, a generated sample."""

from __future__ import annotations

from importlib.resources import files


def text(name: str) -> str:
    """Return a shipped file, e.g. ``catalogue.toml``."""
    return files(__name__).joinpath(name).read_text("utf-8")
