"""``lapwing inspect``: inspects a topic or a folder and prints the result.

Invariant: this module only connects the parts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from lapwing.inspect.files import inspect_folder
from lapwing.inspect.json_records import inspect_json
from lapwing.inspect.reading import Inspection
from lapwing.inspect.records import inspect_sample
from lapwing.inspect.render import lines
from lapwing.inspect.topic import read_sample
from producer.files.columns import NO_CHOICE, ColumnChoice
from shared.errors import ConfigError
from shared.settings import Settings

DEFAULT_RECORDS = 1_000


def inspect_topic(
    settings: Settings, topic: str | None = None, limit: int = DEFAULT_RECORDS
) -> Inspection:
    """Inspect the newest records of a topic, by default of the input.

    raises : TopicMismatch if the topic does not exist, TransportError
    """
    sample = read_sample(settings, topic or settings.topics.input, limit)
    if settings.input.format == "json":
        return inspect_json(sample, settings.input)
    return inspect_sample(sample, settings.input)


def inspect(
    settings: Settings,
    *,
    topic: str | None,
    data: Path | None,
    columns: ColumnChoice = NO_CHOICE,
    limit: int,
    as_json: bool,
    out: TextIO | None = None,
) -> int:
    """Print how a topic or a folder is read; return 1 if nothing can be read, else 0.

    raises : ConfigError, DataError, TopicMismatch, TransportError
    """
    if topic is not None and data is not None:
        raise ConfigError("--topic and --data exclude each other")
    if data is None:
        columns.check(files=False)
        inspection = inspect_topic(settings, topic, limit)
    else:
        inspection = inspect_folder(data, settings.input, columns)
    target = out or sys.stdout
    if as_json:
        target.write(json.dumps(inspection.document, ensure_ascii=False) + "\n")
    else:
        target.write("".join(f"{line}\n" for line in lines(inspection)))
    unread = inspection.rows or any(reading.unfit for reading in inspection.readings)
    return 1 if unread and not inspection.read else 0
