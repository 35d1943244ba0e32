"""A directory of names as a dict."""

from __future__ import annotations

from collections.abc import Iterable


def intern_names(known: list[bytes], names: Iterable[bytes]) -> list[int]:
    """Index of each name; new ones are appended to ``known``."""
    index = {name: i for i, name in enumerate(known)}
    found = []
    for name in names:
        if name not in index:
            index[name] = len(known)
            known.append(name)
        found.append(index[name])
    return found
