"""The page of the demo: the dashboard as one more child, and its address.

Invariant: the page only reads; the demo's counts do not depend on it.
"""

from __future__ import annotations

import socket

from lapwing.demo.children import Child, Children
from shared.settings import Settings


class DemoPage:
    """The dashboard of one demo.

    url : empty until it listens
    """

    def __init__(self, children: Children, settings: Settings) -> None:
        self.url = ""
        wanted = settings.dashboard
        port = wanted.port if is_free(wanted.host, wanted.port) else 0
        self._child: Child = children.start("dashboard", "dashboard", ["--port", str(port)])

    def look(self) -> str:
        """Return the address at the first call after it is known, else an empty text."""
        if self.url:
            return ""
        for event in self._child.new_events():
            if event.get("event") == "dashboard":
                self.url = str(event["url"])
        return self.url


def is_free(host: str, port: int) -> bool:
    """Return whether a port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
