"""Writes the sample fleet of ``data/sample``: ``python -m producer.generated.sample FOLDER``.

Invariant: the files in the repository equal what this module writes, byte for byte.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from producer.generated.fleet import csv_text, generate, label_document

HOSTS, DAYS, SEED, STEP_S, PER_HOST = 5, 7, 7, 1200, 2


def sample() -> dict[str, str]:
    """Return the sample's files by name."""
    series, labels = generate(HOSTS, DAYS, SEED, STEP_S, per_host=PER_HOST)
    return {
        "fleet.csv": csv_text(series),
        "labels.json": json.dumps(label_document(labels, series.entities), indent=1) + "\n",
    }


def main(folder: Path) -> None:
    """Write the sample's files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sample().items():
        (folder / name).write_text(text, "utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
