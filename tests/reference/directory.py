"""A directory of names as a dict."""

from __future__ import annotations

from collections.abc import Iterable


def intern_names(known: list[bytes], names: Iterable[bytes], most: int) -> list[int]:
    """Index of each name; new ones are appended to ``known`` while there are fewer than ``most``,
    else -1.
    """
    index = {name: i for i, name in enumerate(known)}
    found = []
    for name in names:
        if name not in index and len(known) < most:
            index[name] = len(known)
            known.append(name)
        found.append(index.get(name, -1))
    return found
