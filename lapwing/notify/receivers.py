"""Requests to receivers over HTTP and SMTP, and what their answers mean.

Invariant: every call returns within the timeout, whatever the receiver does; redirects are not
followed. An error names the target, never its URL, which may be a secret.
"""

from __future__ import annotations

import http.client
import smtplib
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol
from urllib.parse import urlsplit

from shared.notices.bodies import alertmanager_body, mail, signature, text_of, webhook_body
from shared.notices.notice import LabelsOf, Notice
from shared.operations.retry import within
from shared.settings import TargetSettings

LONGEST_RETRY_AFTER_S = 300.0
RETRIABLE = frozenset({408, 425, 429})
_SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    refused       : the receiver will never take it; a retry is useless
    retry_after_s : the receiver asks for this pause
    """

    delivered: bool
    refused: bool = False
    why: str = ""
    retry_after_s: float = 0.0


class Receiver(Protocol):
    """Sends one notice to one target; never raises."""

    def send(self, notice: Notice) -> Answer:
        """Send a notice once."""
        ...


class HttpReceiver:
    """Alertmanager or a webhook."""

    def __init__(
        self,
        target: TargetSettings,
        timeout_s: float,
        hold_ms: int,
        labels_of: LabelsOf = lambda _: {},
    ) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._hold_ms = hold_ms
        self._labels_of = labels_of

    def send(self, notice: Notice) -> Answer:
        """Send a notice once."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key}
        headers["User-Agent"] = "lapwing"
        path = urlsplit(self._target.url).path
        labels = self._labels_of(notice.record["entity"])
        template = self._target.template
        text = text_of(notice, template, labels) if template else ""
        if self._target.kind == "alertmanager":
            now_ms = round(time.time() * 1000)
            body = alertmanager_body(notice, now_ms, self._hold_ms, labels, text)
            path = path.rstrip("/") + "/api/v2/alerts"
        else:
            body = webhook_body(notice, self._target.body, text)
            query = urlsplit(self._target.url).query
            path = (path or "/") + (f"?{query}" if query else "")
        if self._target.secret:
            headers["X-Lapwing-Signature"] = signature(self._target.secret, int(time.time()), body)
        try:
            return within(self._timeout_s, lambda: self._post(path, headers, body), "notify")
        except TimeoutError:
            return Answer(delivered=False, why=f"no answer within {self._timeout_s:g} s")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Answer(delivered=False, why=f"{type(error).__name__}: {error}"[:_SHOWN_BYTES])

    def _post(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urlsplit(self._target.url)
        where, limit_s = (parts.hostname or "", parts.port), self._timeout_s
        connection = (
            http.client.HTTPSConnection(*where, timeout=limit_s, context=_tls())
            if parts.scheme == "https"
            else http.client.HTTPConnection(*where, timeout=limit_s)
        )
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            said = response.read(_SHOWN_BYTES).decode("utf-8", "replace")
            pause_s = _retry_after_s(response.getheader("Retry-After", ""))
            return answer_of(response.status, said, pause_s)
        finally:
            connection.close()


def answer_of(status: int, said: str, retry_after_s: float) -> Answer:
    """Return what an HTTP status means."""
    if 200 <= status < 300:
        return Answer(delivered=True)
    why = f"it answered {status} {' '.join(said.split())}".rstrip()
    may_retry = status >= 500 or status in RETRIABLE
    return Answer(False, not may_retry, why, retry_after_s if may_retry else 0.0)


def _retry_after_s(text: str) -> float:
    return min(float(text), LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 0.0


class MailReceiver:
    """An SMTP server."""

    def __init__(
        self, target: TargetSettings, timeout_s: float, labels_of: LabelsOf = lambda _: {}
    ) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._labels_of = labels_of

    def send(self, notice: Notice) -> Answer:
        """Send a notice once."""
        target, labels = self._target, self._labels_of(notice.record["entity"])
        subject, text = (
            text_of(notice, one, labels) if one else "" for one in (target.subject, target.template)
        )
        message = mail(notice, target.sender, target.to, subject, text)
        try:
            within(self._timeout_s, lambda: self._submit(message), "notify")
        except TimeoutError:
            return Answer(delivered=False, why=f"no answer within {self._timeout_s:g} s")
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error
            text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
            refused = 500 <= error.smtp_code < 600
            return Answer(False, refused, f"it answered {error.smtp_code} {text}"[:_SHOWN_BYTES])
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            refused = all(500 <= code < 600 for code in codes)
            return Answer(False, refused, f"it refused all recipients: {codes}")
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return Answer(delivered=False, why=f"{type(error).__name__}: {error}"[:_SHOWN_BYTES])
        return Answer(delivered=True)

    def _submit(self, message: object) -> None:
        target = self._target
        parts = urlsplit(target.url)
        host, port = parts.hostname or "", parts.port or 0
        if target.smtp_tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, timeout=self._timeout_s, context=_tls()
            )
        else:
            server = smtplib.SMTP(host, port, timeout=self._timeout_s)
        try:
            if target.smtp_tls == "starttls":
                server.starttls(context=_tls())
            if target.smtp_user:
                server.login(target.smtp_user, target.smtp_password)
            server.send_message(message)  # type: ignore[arg-type]
        finally:
            with suppress(OSError, smtplib.SMTPException):
                server.quit()


@cache
def _tls() -> ssl.SSLContext:
    """Return what every connection with TLS uses: reading the authorities takes 30 ms."""
    return ssl.create_default_context()


def receiver_of(
    target: TargetSettings, timeout_s: float, hold_ms: int, labels_of: LabelsOf
) -> Receiver:
    """Return the receiver of a target."""
    if target.kind == "email":
        return MailReceiver(target, timeout_s, labels_of)
    return HttpReceiver(target, timeout_s, hold_ms, labels_of)
