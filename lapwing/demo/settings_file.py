"""The settings file by which other commands reach a running demo.

Invariant: it holds what the demo decides itself; the user's own settings apply as they do to the
demo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shared.settings import Settings

NAME = "lapwing.toml"


def write_settings_file(settings: Settings, folder: Path) -> Path:
    """Write the file; return its path."""
    sections: dict[str, dict[str, Any]] = {
        "": {"models_dir": str(settings.models_dir), "state_dir": str(settings.state_dir)},
        "kafka": dict(settings.kafka),
        "registry": {"url": settings.registry.url},
        "topics": {
            "dataset": settings.topics.dataset,
            "partitions": settings.topics.partitions,
        },
        "predict": {"group": settings.predict.group, "delivery": settings.predict.delivery},
    }
    lines = ["# How other commands reach this demo: lapwing --config FILE COMMAND"]
    for section, values in sections.items():
        lines += ["", f"[{section}]"] if section else []
        # JSON's strings and numbers are TOML's as well
        lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in values.items()]
    path = folder / NAME
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
