"""Fail points: named points in the code at which a test kills the process.

Invariant: a fail point is armed only by an entry point (``LAPWING_FAILPOINT``); an unarmed one
costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import ConfigError

NAMES = (
    "in_takeover",
    "after_poll",
    "in_replay",
    "after_process",
    "after_activation",
    "after_produce",
    "before_offsets",
    "after_offsets",
    "after_commit",
    "before_snapshot",
    "mid_snapshot",
    "after_snapshot",
    "in_revoke",
    "after_revoke",
)
"""In the order in which a record passes them.

The commit happens between ``after_offsets`` and ``after_commit``.
"""

_armed = ""
_left = 0


def _nothing() -> None:
    """Do nothing; the default while nothing is armed."""


_die: Callable[[], None] = _nothing


def arm(text: str, die: Callable[[], None]) -> None:
    """Arm one fail point, or none.

    text   : "name" or "name:n" = die there the first, or the n-th, time; "" = none
    die    : called there; does not return
    raises : ConfigError that lists the names
    """
    global _armed, _left, _die
    name, colon, count = text.partition(":")
    if text and name not in NAMES:
        raise ConfigError(
            f"LAPWING_FAILPOINT: there is no fail point {name!r}; allowed are {', '.join(NAMES)},"
            " each also as name:n"
        )
    if colon and not (count.isascii() and count.isdigit() and int(count)):
        raise ConfigError(f"LAPWING_FAILPOINT: {text!r} must be name or name:n with n = 1, 2, ...")
    _armed, _left, _die = name, int(count or 1), die


def failpoint(name: str) -> None:
    """Die here if this fail point is armed and its count is reached."""
    if name == _armed:
        _hit()


def _hit() -> None:
    global _left
    _left -= 1
    if not _left:
        _die()
