"""Chooses the decoder of ``route.format``.

Invariant: the libraries of a format are imported with its decoder; without them a ConfigError names
the extra.
"""

from __future__ import annotations

from lapwing.route.rows import RowDecoder
from shared.errors import ConfigError
from shared.settings import RouteSettings

DEFAULT_UNITS = {"telegraf": "s"}
"""Unit of times in a format whose records do not say it."""


def open_row_decoder(settings: RouteSettings) -> RowDecoder:
    """Return the decoder; raises ConfigError for a missing library."""
    try:
        return _decoder(settings)
    except ImportError as error:
        raise ConfigError(
            f"lapwing route needs the package {error.name}: install lapwing[route]"
        ) from error


def _decoder(settings: RouteSettings) -> RowDecoder:
    unit = settings.time_unit or DEFAULT_UNITS.get(settings.format, "")
    if settings.format == "telegraf":
        from lapwing.route.formats.telegraf_json import TelegrafJson

        return TelegrafJson(unit)
    raise AssertionError(settings.format)
