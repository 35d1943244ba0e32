"""Who may ask: the token, the name by which the page is called, and the headers of every answer.

Invariant: without the token no answer holds a result; tokens are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "lapwing_session"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPEN_TO_ALL = ("/v1/session",)
READING = ("GET", "HEAD")
MOST_BODY = 16_384


class Access:
    """Wraps the application: checks each request, and adds the headers to each answer.

    token : required for everything under /v1 but the sign-in; empty = not required, and then only
            requests to an address, localhost or ``host`` are answered, so that no other site's
            name can be pointed at this service
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self.app = app
        self.token = token
        self.host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self.refusal(scope["path"], headers)
        if refusal is None and scope["method"] not in READING:
            refusal = refusal_to_write(headers)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        """Return why a request is not answered; None = it is."""
        if not self.token and not is_own_name(headers.get("host", ""), self.host):
            return problem(
                421,
                "this service is called by an address or localhost; to call it by another name,"
                " set dashboard.token",
            )
        if not self.token or not path.startswith("/v1/") or path in OPEN_TO_ALL:
            return None
        if self.is_token(_bearer(headers)) or self.is_session(_cookie(headers)):
            return None
        return problem(401, "the token is missing or wrong: dashboard.token, as a bearer token")

    def is_token(self, given: str) -> bool:
        """Return whether this is the token."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def session(self) -> str:
        """Return the cookie's value, which does not contain the token."""
        return hmac.new(self.token.encode(), b"lapwing dashboard", hashlib.sha256).hexdigest()

    def is_session(self, given: str) -> bool:
        """Return whether this is the cookie's value."""
        return hmac.compare_digest(given.encode(), self.session().encode())


def problem(status: int, sentence: str, **more: Any) -> JSONResponse:
    """Return an error as JSON: one sentence that says what is wrong and what to do."""
    return JSONResponse({"problem": sentence, **more}, status)


def is_own_name(host: str, own: str) -> bool:
    """Return whether a Host header is an address, localhost or the name that is listened on."""
    is_ipv6 = host.startswith("[")
    name = host[1:].partition("]")[0] if is_ipv6 else host.partition(":")[0]
    if name.lower() in ("localhost", own.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def refusal_to_write(headers: Headers) -> JSONResponse | None:
    """Return why a request that may change something is not answered; None = it is.

    A browser says where a request comes from; another site's is refused, whatever it knows. Only
    without TLS and localhost it says no more than the origin, which a proxy must not change then. A
    program such as curl says nothing. The size is checked before the body is read.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        is_own = origin is None or origin.partition("://")[2] == headers.get("host", "")
    if not is_own:
        return problem(403, "a request from another site is refused")
    size = headers.get("content-length", "0" if "transfer-encoding" not in headers else "")
    if not size.isdecimal() or int(size[:20]) > MOST_BODY:
        return problem(413, f"the body needs a Content-Length of at most {MOST_BODY} bytes")
    return None


def _bearer(headers: Headers) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
