"""What receivers get: Alertmanager's alerts, webhook bodies with their signature, mails.

Invariant: a body depends on the notice and on the given time alone. Nothing of an incident is
taken as markup: names and reasons come from whoever writes the metrics.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate
from string import Template
from typing import Any

from shared.notices.notice import Notice, NoticePhase
from shared.wording import duration, iso, minute

LISTED = 10
"""Entities and metrics that a text lists by name."""

RESERVED_LABELS = frozenset({"alertname", "incident_id", "entity", "metric"})
"""Labels of an alert; an entity's label of the same name does not replace them."""

_HEADLINES = {
    NoticePhase.OPEN: "open",
    NoticePhase.WORSE: "worse",
    NoticePhase.RESOLVED: "resolved",
    NoticePhase.ENDED: "ended",
}


def headline(notice: Notice) -> str:
    """Return one line: phase, severity class and title."""
    record = notice.record
    return f"[{_HEADLINES[notice.phase]}] {record['severity_class']}: {record['title']}"


def template_fields(notice: Notice, labels: Mapping[str, str]) -> dict[str, str]:
    """Return what a template may name (``TEMPLATE_FIELDS``); empty = not known.

    labels : of the entity that opened the incident
    """
    record = notice.record
    end, duration_ms = record["end"], record["duration_ms"]
    return {
        "phase": notice.phase.value,
        "severity": record["severity_class"],
        "title": record["title"],
        "reason": record["reason"],
        "entity": record["entity"],
        "metric": record["metric"] or "",
        "entities": _listed(record["entities"]),
        "metrics": _listed(record["metrics"]),
        "labels": ", ".join(f"{name}={text}" for name, text in sorted(labels.items())),
        "start": f"{minute(record['start'])} UTC",
        "end": "" if end is None else f"{minute(end)} UTC",
        "duration": "" if duration_ms is None else duration(duration_ms),
        "closed_because": record["closed_because"] or "",
        "incident_id": record["incident_id"],
    }


def text_of(notice: Notice, template: str = "", labels: Mapping[str, str] | None = None) -> str:
    """Return the message for people, several lines.

    template : a checked ``notify.targets.NAME.template``; empty = the usual text
    labels   : see ``template_fields``
    """
    if template:
        return Template(template).substitute(template_fields(notice, labels or {}))
    record = notice.record
    lines = [headline(notice), record["reason"], f"since {minute(record['start'])} UTC"]
    if record["end"] is not None:
        because = str(record["closed_because"])
        lines.append(f"closed after {duration(record['duration_ms'])}: {because}")
    if record["entity_count"] > 1:
        lines.append(f"entities: {_listed(record['entities'])}")
    lines.append(f"lapwing incidents show {record['incident_id']}")
    return "\n".join(lines)


def _listed(names: list[str]) -> str:
    hidden = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {hidden} more" if hidden > 0 else "")


def alertmanager_body(
    notice: Notice,
    now_ms: int,
    hold_ms: int,
    labels: Mapping[str, str] | None = None,
    text: str = "",
) -> bytes:
    """Return the body of ``POST /api/v2/alerts`` with one alert.

    One alert a request: of several, Alertmanager takes the valid ones and answers 400 for the
    others. A start after now would be refused, because without an end it lies after the end that
    Alertmanager sets itself. The labels identify the alert and never change.

    hold_ms : an open incident is shown for so long unless it is sent again
    labels  : of the entity that opened the incident
    text    : the description; empty = the reason
    """
    record = notice.record
    is_over = notice.is_end or record["closed_because"] == "no_end"
    own = {name: text for name, text in (labels or {}).items() if name not in RESERVED_LABELS}
    end_ms = now_ms if is_over else now_ms + hold_ms
    alert = {
        "labels": own
        | {
            "alertname": "LapwingIncident",
            "incident_id": record["incident_id"],
            "entity": record["entity"],
            "metric": record["metric"] or "",
        },
        "annotations": {
            "summary": record["title"],
            "description": text or record["reason"],
            "severity": record["severity_class"],
            "entities": _listed(record["entities"]),
            "closed_because": record["closed_because"] or "",
        },
        "startsAt": iso(min(record["start"], now_ms - 1)),
        "endsAt": iso(end_ms),
    }
    return json.dumps([alert], ensure_ascii=False).encode()


def webhook_body(notice: Notice, style: str, text: str = "") -> bytes:
    """Return the body of a webhook.

    style : json = text and incident; slack = what Slack's incoming webhooks and its imitators take
    text  : for people; empty = the usual one
    """
    text = text or text_of(notice)
    if style == "slack":
        for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(plain, safe)
        return json.dumps({"text": text}, ensure_ascii=False).encode()
    record: dict[str, Any] = {
        name: value for name, value in notice.record.items() if name != "episodes"
    }
    for name in ("start", "end", "peak_time", "recorded_at", "window_start"):
        record[name] = None if record[name] is None else iso(record[name])
    body = {"phase": notice.phase.value, "key": notice.key, "text": text}
    return json.dumps(body | {"incident": record}, ensure_ascii=False).encode()


def signature(secret: str, time_s: int, body: bytes) -> str:
    """Return the header that proves origin and time: ``t=<seconds>,v1=<hex>``.

    v1 is HMAC-SHA256 of ``<seconds>.<body>``. A receiver refuses old times and repeats.
    """
    message = f"{time_s}.".encode() + body
    return f"t={time_s},v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


def mail(
    notice: Notice, sender: str, to: tuple[str, ...], subject: str = "", text: str = ""
) -> EmailMessage:
    """Return a mail; all mails about an incident are one thread.

    Its date is that of the record: a repeat is the same mail.

    subject, text : empty = the usual ones
    """
    incident_id, record_ms = notice.record["incident_id"], notice.record["recorded_at"]
    message = EmailMessage()
    message["Subject"] = " ".join((subject or headline(notice)).split())
    message["From"] = sender
    message["To"] = ", ".join(to)
    digest = hashlib.sha256(notice.key.encode()).hexdigest()[:32]
    message["Date"] = formatdate(record_ms / 1000)
    message["Message-ID"] = f"<{digest}@lapwing>"
    thread = hashlib.sha256(str(incident_id).encode()).hexdigest()[:32]
    message["References"] = f"<{thread}@lapwing>"
    message["Idempotency-Key"] = " ".join(notice.key.split())
    message.set_content((text or text_of(notice)) + "\n")
    return message
