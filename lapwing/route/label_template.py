"""Names made of labels: ``{host}`` and ``{host}[/{cpu}]``.

Invariant: a name is a function of the labels that the template names, and of nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lapwing.route.rows import shown
from shared.errors import ConfigError

NAME = "__name__"
"""The label that is the name of the measurement or metric."""

MOST_SHOWN = 12
"""Labels that a message lists."""

_TOKEN = re.compile(r"\{([^{}\[\]]+)\}|([\[\]])|([^{}\[\]]+)")


class _Part(NamedTuple):
    """Text and labels in turn; ``is_optional``: left out if one of its labels is missing."""

    pieces: tuple[tuple[str, bool], ...]
    is_optional: bool

    def labels(self) -> list[str]:
        return [text for text, is_label in self.pieces if is_label]


class LabelTemplate:
    """A template over labels.

    ``{label}`` is the label's text. A part in brackets is left out where one of its labels is
    missing or empty. All other labels must be there.

    setting : that holds the template, for messages
    raises  : ConfigError
    """

    def __init__(self, text: str, setting: str) -> None:
        self.text = text
        self.setting = setting
        self._parts = _parse(text, setting)
        self.labels: tuple[str, ...] = tuple(
            dict.fromkeys(label for part in self._parts for label in part.labels())
        )
        if not self.labels:
            raise ConfigError(f"{setting}={text!r} names no label; write one in braces: {{host}}")
        is_plain = len(self._parts) == 1 and self._parts[0].pieces == ((self.labels[0], True),)
        self.only_label = self.labels[0] if is_plain else ""
        """The label that is the whole template; else empty."""
        is_required = not any(part.is_optional for part in self._parts) and NAME not in self.labels
        self.render: Callable[[str, Mapping[str, object]], str | None] = (
            self._render_required if is_required else self._render
        )
        pieces = [piece for part in self._parts for piece in part.pieces]
        self._plain = ["" if is_label else text for text, is_label in pieces]
        self._places = tuple((at, text) for at, (text, is_label) in enumerate(pieces) if is_label)

    def _render(self, name: str, labels: Mapping[str, object]) -> str | None:
        """Return the name; None where a label is missing."""
        out: list[str] = []
        for part in self._parts:
            mark = len(out)
            for text, is_label in part.pieces:
                value = (name if text == NAME else labels.get(text)) if is_label else text
                if type(value) is not str or not value:
                    if not part.is_optional:
                        return None
                    del out[mark:]
                    break
                out.append(value)
        return "".join(out)

    def _render_required(self, _: str, labels: Mapping[str, object]) -> str | None:
        """Return the name of a template without optional parts, which most are."""
        get = labels.get
        out = self._plain.copy()
        for at, label in self._places:
            value = get(label)
            if type(value) is not str or not value:
                return None
            out[at] = value
        return "".join(out)

    def missing(self, name: str, labels: Mapping[str, object]) -> str:
        """Return a sentence about the first label that is missing."""
        required = [
            label for part in self._parts if not part.is_optional for label in part.labels()
        ]
        absent = [
            label
            for label in required
            if label != NAME and (not isinstance(labels.get(label), str) or not labels.get(label))
        ]
        names = sorted(label for label in labels if isinstance(label, str))
        found = ", ".join(map(shown, names[:MOST_SHOWN])) or "none"
        if len(names) > MOST_SHOWN:
            found += f" and {len(names) - MOST_SHOWN} more"
        wanted = absent[0] if absent else NAME
        return f"label {wanted} is missing (labels: {found}); {self.setting} is {self.text}"


def _parse(text: str, setting: str) -> Sequence[_Part]:
    parts: list[_Part] = []
    pieces: list[tuple[str, bool]] = []
    is_inside = False
    at = 0
    for token in _TOKEN.finditer(text):
        if token.start() != at:
            break
        at = token.end()
        label, bracket, plain = token.groups()
        if bracket:
            if (bracket == "[") == is_inside:
                raise ConfigError(f"{setting}={text!r}: brackets do not nest, and come in pairs")
            if pieces:
                parts.append(_Part(tuple(pieces), is_inside))
            pieces, is_inside = [], not is_inside
        else:
            pieces.append((label or plain, bool(label)))
    if at != len(text) or is_inside:
        raise ConfigError(
            f"{setting}={text!r}: character {at} is not allowed there; write labels in braces, and"
            " optional parts in brackets: {host}[/{cpu}]"
        )
    if pieces:
        parts.append(_Part(tuple(pieces), False))
    return parts
