"""Receivers that apprise reaches: chat, push and paging services by one URL each.

Invariant: apprise is an extra, imported only for targets that need it. It says whether a notice was
taken and not why, and has no field for a key; so what fails is tried again.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from lapwing.notify.receivers import Answer
from shared.errors import ConfigError
from shared.notices.bodies import headline, text_of
from shared.notices.notice import LabelsOf, Notice, NoticePhase
from shared.operations.retry import within
from shared.settings import TargetSettings

_TYPES = {
    NoticePhase.OPEN: "warning",
    NoticePhase.WORSE: "failure",
    NoticePhase.RESOLVED: "success",
    NoticePhase.ENDED: "info",
}


class AppriseReceiver:
    """A service that apprise knows.

    name   : of the target, for errors
    raises : ConfigError where apprise is missing or does not know the URL
    """

    def __init__(
        self, name: str, target: TargetSettings, timeout_s: float, labels_of: LabelsOf
    ) -> None:
        if find_spec("apprise") is None:
            raise ConfigError(
                f"notify.targets.{name}: kind apprise needs the package apprise, which is not"
                " installed: install lapwing[notify], or use the image's target `full`"
            )
        self._service = _service()
        if not self._service.add(target.url):
            raise ConfigError(
                f"notify.targets.{name}.url: apprise knows no such service, or the URL is not"
                " complete; `apprise --details` lists all"
            )
        self._target = target
        self._timeout_s = timeout_s
        self._labels_of = labels_of

    def send(self, notice: Notice) -> Answer:
        """Send a notice once."""
        target, labels = self._target, self._labels_of(notice.record["entity"])
        text = text_of(notice, target.template, labels)
        title = "" if target.template else headline(notice)
        body = text if target.template else text.removeprefix(title).lstrip("\n")
        fields = {"body": body, "title": title, "notify_type": _TYPES[notice.phase]}
        try:
            taken = within(self._timeout_s, lambda: bool(self._service.notify(**fields)), "notify")
        except TimeoutError:
            return Answer(delivered=False, why=f"no answer within {self._timeout_s:g} s")
        except (OSError, TypeError, ValueError) as error:
            return Answer(delivered=False, why=f"{type(error).__name__}: {error}"[:200])
        why = "" if taken else "apprise could not deliver it; its warnings are in the log"
        return Answer(delivered=taken, why=why)


@cache
def _asset() -> Any:
    from apprise import AppriseAsset

    return AppriseAsset(app_id="Lapwing", app_desc="Lapwing incidents", secure_logging=True)


def _service() -> Any:
    from apprise import Apprise

    return Apprise(asset=_asset())
